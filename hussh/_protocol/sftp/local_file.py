"""The local end of a transfer: a local file, or memory.

`transfer.py` and `scp.py` use it. Methods of the file classes may block. Operations call them
through `RunBlocking`, or directly if they work on memory or when everything is over. Nothing here
knows SFTP.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from typing import Protocol

from ..._policy.owned_fd import OwnedFds, close_fds, open_fd
from ..growing import GrowingBytes
from ..in_use import InUse

__all__ = ["FileSink", "FileSource", "MemorySink", "MemorySource", "Sink", "Source"]

Part = tuple[int, memoryview]  # offset and bytes


class Source(Protocol):
    """The data of an upload.

    Attributes:
        size: number of bytes, as far as it is known beforehand.
        blocks: whether methods may block.
    """

    size: int | None
    blocks: bool

    def read(self, offset: int, size: int, count: int) -> list[memoryview]:
        """Read up to `count` pieces of up to `size` bytes from `offset` on; none at the end.

        They are valid until the next call.
        """

    def may_restart(self) -> bool:
        """Whether it can be read from the beginning again."""

    def close(self) -> None:
        """Close it; a second call does nothing."""


class Sink(Protocol):
    """The destination of a download; `blocks` is as for `Source`."""

    blocks: bool

    def begin(self) -> None:
        """Make or empty the file, because the remote one is open."""

    def write(self, parts: list[Part]) -> None:
        """Store bytes at their offsets, in any order."""

    def may_restart(self) -> bool:
        """Whether what was stored can be written over."""

    def end(self, size: int) -> None:
        """Keep the first `size` bytes and close; a second call does nothing."""


class MemorySource:
    """Bytes that the caller has."""

    blocks = False

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        self._data = memoryview(data).cast("B")
        self.size: int | None = len(self._data)

    def read(self, offset: int, size: int, count: int) -> list[memoryview]:
        end = min(offset + size * count, len(self._data))
        return [self._data[at : min(at + size, end)] for at in range(offset, end, size)]

    def may_restart(self) -> bool:
        return True

    def close(self) -> None:
        return


class MemorySink:
    """Collects bytes; `data` returns them after `end`."""

    blocks = False

    def __init__(self) -> None:
        self._bytes = GrowingBytes()
        self.data = b""

    def begin(self) -> None:
        return

    def write(self, parts: list[Part]) -> None:
        for offset, data in parts:
            self._bytes.write_at(offset, data)

    def may_restart(self) -> bool:
        return True

    def end(self, size: int) -> None:
        self.data = self._bytes.take(size)


class FileSource:
    """A local file, regular or not."""

    blocks = True

    def __init__(self, path: bytes) -> None:
        """Open it.

        Raises:
            OSError: as `os.open`, and of folders.
        """
        self._owned = OwnedFds()  # `_fd`, until it is closed
        self._fd = open_fd(self._owned, path, os.O_RDONLY | os.O_CLOEXEC)
        self._in_use = InUse()
        info = os.fstat(self._fd)
        if modes.S_ISDIR(info.st_mode):
            raise IsADirectoryError(21, os.strerror(21), path)
        regular = modes.S_ISREG(info.st_mode)
        self.info = info
        self.size: int | None = info.st_size if regular else None
        self._pieces: list[memoryview] = []
        self._seekable = regular

    def read(self, offset: int, size: int, count: int) -> list[memoryview]:
        with self._in_use:
            return self._read(offset, size, count)

    def _read(self, offset: int, size: int, count: int) -> list[memoryview]:
        found: list[memoryview] = []
        for number in range(count):
            if len(self._pieces) <= number or len(self._pieces[number]) != size:
                self._pieces[number:] = [memoryview(bytearray(size))]
            piece = self._pieces[number]
            got = 0
            while got < size:
                if self._seekable:
                    n = os.preadv(self._fd, [piece[got:]], offset + got)
                else:
                    n = os.readv(self._fd, [piece[got:]])
                if not n:
                    break
                got += n
            if got:
                found.append(piece[:got])
            if got < size:
                break
            offset += size
        return found

    def may_restart(self) -> bool:
        return self._seekable

    def close(self) -> None:
        self._in_use.end(self._close)

    def _close(self) -> None:
        self._fd = -1
        close_fds(self._owned)


class FileSink:
    """A local file that is made, or emptied if it exists, once the remote file is open."""

    blocks = True

    def __init__(self, path: bytes, *, mode: int = 0o666) -> None:
        self.path = path
        self.mode = mode
        self.fd = -1
        self._at = 0
        self._seekable = True
        self._ended = False
        self._in_use = InUse()
        self._owned = OwnedFds()  # `fd`, until somebody pops it to close it
        self._closing = OwnedFds()

    def open_into(self, owned: list[int]) -> int:
        """Open it, as `open_fd` does; subclasses open it otherwise."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        return open_fd(owned, self.path, flags, self.mode)

    def begin(self) -> None:
        self.open()
        self._seekable = modes.S_ISREG(os.fstat(self.fd).st_mode)

    def open(self) -> None:
        """Open it, unless `end` has been called while this call was abandoned in a thread."""
        try:
            self.fd = self.open_into(self._owned)
        except BaseException:
            close_fds(self._owned)
            raise
        if self._ended:
            with contextlib.suppress(IndexError):
                os.close(self._owned.pop())
            raise InterruptedError(errno.EINTR, "the transfer has ended")

    def write(self, parts: list[Part]) -> None:
        with self._in_use:
            self._write(parts)

    def _write(self, parts: list[Part]) -> None:
        for offset, data in parts:
            if not self._seekable and offset != self._at:
                # A pipe or a terminal: nothing can be put right later.
                raise OSError(29, "the server sent data out of order, and this cannot seek")
            while data:
                if self._seekable:
                    n = os.pwrite(self.fd, data, offset)
                else:
                    n = os.write(self.fd, data)
                offset += n
                data = data[n:]
            self._at = offset

    def may_restart(self) -> bool:
        return self._seekable

    def end(self, size: int) -> None:
        self._ended = True
        self._in_use.end(lambda: self._end(size))

    def _end(self, size: int) -> None:
        try:
            self._closing.extend(map(list.pop, (self._owned,)))
            fd, self.fd = self._closing[-1], -1
        except IndexError:
            return
        try:
            if self._seekable:
                if os.fstat(fd).st_size > size:
                    os.ftruncate(fd, size)
                self.finish(fd)
        finally:
            with contextlib.suppress(InterruptedError):
                close_fds(self._closing)

    def finish(self, fd: int) -> None:
        """Set modes and times before the file is closed; subclasses do."""
