"""A buffered binary file for tasks: what `io.Buffered*` over the raw file is for threads.

`_api` wraps it for `AsyncSFTP.open`. An operation that is cancelled loses nothing: the next one
reads again what was read and not returned, and `tell` says how much of a write was taken.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from ..core import Op
from .file import File

__all__ = ["Buffered", "Lines"]

S = TypeVar("S", str, bytes)

#: Bytes of a raw file's read at most.
RAW = 256 * 1024


class Lines(Generic[S]):
    """What follows from reading and writing one line, for bytes and text alike."""

    def readline(self, size: int = -1) -> Op[S]:
        raise NotImplementedError

    def get_cached_line(self) -> S | None:
        """Return what `readline` would return if it need not ask the server, otherwise None."""
        raise NotImplementedError

    def write(self, data: Any) -> Op[int]:
        raise NotImplementedError

    def readlines(self, hint: int = -1) -> Op[list[S]]:
        """Return all lines, or so many that they have at least `hint` bytes or characters."""
        lines: list[S] = []
        size = 0
        while line := (yield from self.readline()):
            lines.append(line)
            size += len(line)
            if 0 < hint <= size:
                break
        return lines

    def writelines(self, lines: Iterable[Any]) -> Op[None]:
        for line in lines:
            yield from self.write(line)


class Buffered(Lines[bytes]):
    """A buffered binary file.

    Args:
        size: bytes to hold; 0 means that nothing is held, and a read is one request.
    """

    def __init__(self, file: File, size: int) -> None:
        self.file = file
        self._size = size
        self._at = file.at  # where the next byte is read or written
        self._chunk = b""  # what was read; from `_used` on it is not taken, and lies at `_at`
        self._used = 0
        self._out = bytearray()  # written and not handed over, up to `_at`

    @property
    def unwritten(self) -> int:
        """Number of bytes that the server was not sent yet."""
        return len(self._out)

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> Op[bytes]:
        """Read up to `size` bytes, fewer only at the end; -1 and None mean everything."""
        left = size if size is not None and size >= 0 else None
        if not self._size and left is not None:
            return (yield from self.read1(left))
        at, chunk, used = yield from self._find_place()
        parts = []
        while left is None or left:
            if used == len(chunk):
                chunk, used = (yield from self._fill(at, RAW)), 0
                if not chunk:
                    break
            end = len(chunk) if left is None else min(len(chunk), used + left)
            parts.append(chunk[used:end])
            left = None if left is None else left - (end - used)
            at += end - used
            used = end
        self._at, self._chunk, self._used = at, chunk, used
        return b"".join(parts)

    def read1(self, size: int = -1) -> Op[bytes]:
        """Read what is there, after one request at most: at least a byte, none at the end."""
        at, chunk, used = yield from self._find_place()
        if used == len(chunk) and size:
            chunk, used = (yield from self._fill(at, RAW if size < 0 else size)), 0
        end = len(chunk) if size < 0 else min(len(chunk), used + size)
        self._at, self._chunk, self._used = at + end - used, chunk, end
        return chunk[used:end]

    def readinto(self, buffer: Any) -> Op[int]:
        """Fill a buffer; return the number of bytes, fewer than its size only at the end."""
        view = memoryview(buffer).cast("B")
        data = yield from self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readline(self, size: int = -1) -> Op[bytes]:
        """Read up to and with the next newline; the last line may lack it."""
        at, chunk, used = yield from self._find_place()
        parts = []
        got = 0
        while size < 0 or got < size:
            if used == len(chunk):
                chunk, used = (yield from self._fill(at, RAW)), 0
                if not chunk:
                    break
            most = len(chunk) if size < 0 else min(len(chunk), used + size - got)
            found = chunk.find(b"\n", used, most) + 1
            end = found or most
            parts.append(chunk[used:end])
            got += end - used
            at += end - used
            used = end
            if found:
                break
        self._at, self._chunk, self._used = at, chunk, used
        return b"".join(parts)

    def get_cached_line(self) -> bytes | None:
        end = self._chunk.find(b"\n", self._used) + 1
        if not end or self._out:
            return None
        line = self._chunk[self._used : end]
        self._at += len(line)
        self._used = end
        return line

    def write(self, data: Any) -> Op[int]:
        """Take all of it, and send what the buffer does not hold; return its length."""
        self.file.check_writable()
        left = view = memoryview(data).cast("B")
        self._forget_read()
        most = self._measure_request()
        while left:
            if self._out and (len(self._out) >= self._size or len(left) >= most):
                yield from self._push()
            piece = bytes(left[:most])
            if len(piece) < most:
                self._out += piece
            else:  # no use to collect it
                yield from self.file.stream.write(self._at, piece)
            self._at += len(piece)
            left = left[len(piece) :]
        if not self._size:
            yield from self._push()
        return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> Op[int]:
        yield from self._push()
        self.file.at = self._at
        self._at = yield from self.file.seek(offset, whence)
        self._forget_read()
        return self._at

    def truncate(self, size: int | None = None) -> Op[int]:
        """Cut or extend the file, to the position for None; the position does not move."""
        yield from self._push()
        self.file.at = self._at
        self._forget_read()
        return (yield from self.file.truncate(size))

    def flush(self) -> Op[None]:
        """Wait until the server has written everything; raise what went wrong."""
        yield from self._push()
        yield from self.file.stream.settle()

    def sync(self) -> Op[None]:
        yield from self._push()
        yield from self.file.stream.sync()

    def close(self) -> Op[None]:
        """Close the file, and raise what writing failed with; the file is closed anyway."""
        try:
            yield from self._push()
        except BaseException:
            self._out.clear()
            self.file.stream.drop()
            self.file.stream.handle.forget()
            raise
        yield from self.file.stream.close()

    def _find_place(self) -> Op[tuple[int, bytes, int]]:
        """Return where to read on, and what is there already."""
        self.file.check_readable()
        yield from self._push()
        return self._at, self._chunk, self._used

    def _forget_read(self) -> None:
        self._chunk, self._used = b"", 0

    def _fill(self, at: int, wanted: int) -> Op[bytes]:
        view = memoryview(bytearray(self._size or min(wanted, RAW)))
        count = yield from self.file.stream.read_into(at, view)
        return bytes(view[:count])

    def _push(self) -> Op[None]:
        """Send what was written; piece by piece, each of them once."""
        while self._out:
            piece = bytes(self._out[: self._measure_request()])
            yield from self.file.stream.write(self._at - len(self._out), piece)
            del self._out[: len(piece)]

    def _measure_request(self) -> int:
        """Bytes of one request: such a write waits first, then it is sent as a whole."""
        return self.file.stream.handle.session.machine.limits.write
