"""Finds where an interrupted transfer goes on: after what both sides have, if they have the same.

SFTP 3 has no checksums, so the end of what is there is compared byte by byte with the source. A
transfer that ended with an error left no gap. A transfer whose program was killed may have left
one, if the server answers out of order, but only within the bytes that were on their way; `TAIL` is
twice what those begin with. `sftp.transfer` uses it; `_api` makes its sink.
"""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from functools import partial

from ..._policy.owned_fd import open_fd
from ..core import Op, RunBlocking
from .local_file import FileSink, Source
from .ops import Handle
from .size import find_size
from .stream import Stream

__all__ = ["ResumedSink", "find_download_start", "upload_start"]

#: Bytes that are compared.
TAIL = 4 * 1024 * 1024
PIECE = 256 * 1024

Read = Callable[[int, int], "bytes | memoryview"]  # up to so many bytes from an offset on


class ResumedSink(FileSink):
    """A local file that keeps what it has until the transfer begins."""

    _begun = False

    def open_into(self, owned: list[int]) -> int:
        return open_fd(owned, self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, self.mode)

    def have(self) -> int:
        """Open it; return its number of bytes, 0 if it is no regular file."""
        self.open()
        info = os.fstat(self.fd)
        return info.st_size if modes.S_ISREG(info.st_mode) else 0

    def read(self, offset: int, size: int) -> bytes:
        with self._in_use:
            return os.pread(self.fd, size, offset)

    def begin(self) -> None:
        self._seekable = modes.S_ISREG(os.fstat(self.fd).st_mode)
        self._begun = True

    def end(self, size: int) -> None:
        if not self._begun and self.fd >= 0:  # nothing was written: nothing is to be cut off
            size = os.fstat(self.fd).st_size
        super().end(size)


def find_download_start(handle: Handle, size: int | None, sink: ResumedSink) -> Op[int]:
    """Return the offset from which to go on; 0 if the local file is no beginning of the other."""
    have: int = yield RunBlocking(lambda _: sink.have())
    if size is None or have > size:
        return 0
    return (yield from _start(handle, have, sink.read))


def upload_start(handle: Handle, source: Source) -> Op[int]:
    """Return the same for a remote file; -1 if it must be emptied first.

    Emptying is left to opening it again, because some servers refuse every change of attributes.
    """
    have = yield from find_size(handle)
    start = 0
    if source.size is not None and have <= source.size:
        start = yield from _start(handle, have, lambda at, size: b"".join(source.read(at, size, 1)))
    return start if have == start else -1


def _call(read: Read, offset: int, size: int, _left: float | None) -> bytes | memoryview:
    return read(offset, size)


def _start(handle: Handle, have: int, read: Read) -> Op[int]:
    stream = Stream(handle)
    theirs = memoryview(bytearray(min(PIECE, have)))
    offset = max(0, have - TAIL)
    try:
        while offset < have:
            count = yield from stream.read_into(offset, theirs[: have - offset])
            ours = yield RunBlocking(partial(_call, read, offset, count))
            if not count or ours != theirs[:count]:
                return 0
            offset += count
        return have
    finally:
        stream.drop()
