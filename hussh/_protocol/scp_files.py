"""Files and bytes over scp: the operations that the ``scp_*`` methods run."""

from __future__ import annotations

import errno
import io
import os
import stat
from functools import partial
from typing import IO

from .._native.link import Link
from .core import Blocking, Op
from .scp import receive, send

__all__ = ["LocalPath", "fetch", "fetch_file", "store", "store_file"]

LocalPath = str | os.PathLike[str]


def fetch(link: Link, remote: str) -> Op[bytes]:
    """The contents of a remote file."""
    memory = io.BytesIO()
    yield from receive(link, remote, memory.write)
    return memory.getvalue()


def fetch_file(link: Link, remote: str, local: LocalPath) -> Op[None]:
    """A remote file into a local one."""
    file: IO[bytes] = yield Blocking(partial(_open, local, "wb"))
    with file:
        yield from receive(link, remote, file.write)


def store(link: Link, data: str | bytes, remote: str) -> Op[None]:
    """Contents (text as UTF-8) into a remote file of mode 644."""
    raw = data.encode() if isinstance(data, str) else bytes(data)
    return send(link, remote, 0o644, len(raw), io.BytesIO(raw).read)


def store_file(link: Link, local: LocalPath, remote: str) -> Op[None]:
    """A local file, regular, into a remote one of the same mode."""
    file: IO[bytes] = yield Blocking(partial(_open, local, "rb"))
    with file:
        info = os.fstat(file.fileno())
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", os.fspath(local))
        yield from send(link, remote, info.st_mode, info.st_size, file.read)


def _open(path: LocalPath, mode: str, _seconds_left: float | None) -> IO[bytes]:
    file: IO[bytes] = open(os.path.expanduser(path), mode)  # noqa: SIM115  (its user closes it)
    return file
