"""Records a new host key; nothing else writes to a known_hosts file.

Connecting imports it. It appends one line and changes no other.
"""

from __future__ import annotations

import os
import shlex

from ...errors import HostKeyError
from .known_hosts import KnownHosts, Verdict, expand
from .known_hosts_line import known_hosts_line

__all__ = ["append_line", "record"]


def record(
    path: str | os.PathLike[str],
    host: str,
    port: int,
    key_blob: bytes,
    known: KnownHosts | None = None,
    *,
    hashed: bool = False,
) -> Verdict:
    """Record a new host key, as policy "accept-new" asks; the verdict may still be a refusal.

    Args:
        known: what the file contains just now; if it is None, the file is read. Another
            connection may have recorded the same key meanwhile, and then nothing is written, or
            another key, and then the verdict is "changed".

    Raises:
        HostKeyError: the file cannot be read or written.
    """
    known = known or KnownHosts.load(path)
    verdict = known.check(host, port, key_blob, "accept-new")
    if verdict.must_record:
        try:
            append_line(path, known_hosts_line(host, port, key_blob, hashed=hashed))
        except OSError as error:
            raise HostKeyError(
                f"cannot record the host key of {verdict.name} in {shlex.quote(expand(path))}: "
                f"{error.strerror or error}",
                host=verdict.name,
                fingerprint=verdict.fingerprint,
            ) from error
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
    fd = os.open(where, flags, 0o600)
    try:
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise OSError(f"could not write a whole line to {where}")
    finally:
        os.close(fd)


def _make_folders(folder: str) -> None:
    if folder and not os.path.isdir(folder):
        _make_folders(os.path.dirname(folder))
        try:
            os.mkdir(folder, 0o700)
        except FileExistsError:
            if not os.path.isdir(folder):
                raise
