"""Records a new host key; nothing else writes to a known_hosts file.

The check of a host key (`_protocol/host_key_check.py`) calls it. It appends one line and changes no
other.
"""

from __future__ import annotations

import errno
import os
import shlex
from collections.abc import Callable

from ..owned_fd import OwnedFd
from .known_hosts import KnownHosts, Verdict, expand
from .known_hosts_line import make_known_hosts_line, make_lookup_name
from .remembered import entries_for, remember

__all__ = ["append_line", "record"]

_unwritable: set[str] = set()  # files that were warned of


def record(
    path: str | os.PathLike[str],
    host: str,
    port: int,
    key_blob: bytes,
    known: KnownHosts | None = None,
    *,
    hashed: bool = False,
    warn: Callable[[str], object] = lambda text: None,
) -> Verdict:
    """Record a new host key, as policy "accept-new" asks; the verdict may still be a refusal.

    If the file cannot be written, the key is remembered for this process.

    Args:
        known: what the file contains just now; if it is None, the file is read. Another
            connection may have recorded the same key meanwhile, and then nothing is written, or
            another key, and then the verdict is "changed".
        warn: is called once for each file that cannot be written, with a text that says why.

    Raises:
        HostKeyError: the file cannot be read.
    """
    known = known or KnownHosts.load(path)
    where = expand(path)
    more = entries_for(where, make_lookup_name(host, port))
    verdict = known.look_up_host(host, port, more).check(key_blob, "accept-new")
    if not verdict.must_record:
        return verdict
    line = make_known_hosts_line(host, port, key_blob, hashed=hashed)
    try:
        if any("UTF-16" in problem for _, problem in known.problems):
            raise OSError(errno.EINVAL, "the file is UTF-16 text")  # a line would damage it
        append_line(path, line)
    except OSError as error:
        if remember(where, verdict.name, key_blob) != key_blob:
            more = entries_for(where, verdict.name)
            return known.look_up_host(host, port, more).check(key_blob, "accept-new")
        if where not in _unwritable:
            _unwritable.add(where)
            warn(
                f"cannot record host keys in {shlex.quote(where)}: {error.strerror or error}; "
                "new ones are remembered until this process ends"
            )
    return verdict


def append_line(path: str | os.PathLike[str], line: bytes) -> None:
    """Add a line at the end of a file and change nothing else in it.

    A missing file is made with mode 0600, missing folders with 0700. One write in append mode adds
    the line, so lines of concurrent writers do not mix.

    Raises:
        OSError: the file cannot be opened or written.
    """
    where = expand(path)
    if where.startswith("~"):
        raise FileNotFoundError(f"no home folder is known for {where}")
    _make_folders(os.path.dirname(where))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
    with OwnedFd(where, flags, 0o600) as fd:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise OSError(f"could not write a whole line to {where}")


def _make_folders(folder: str) -> None:
    if folder and not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
