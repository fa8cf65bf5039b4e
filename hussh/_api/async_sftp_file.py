"""Objects that `AsyncSFTP` returns: open files, and entries of directories.

A finalizer never waits: what was left open is closed at the next use of the connection.
"""

from __future__ import annotations

import io
import os
import stat as modes
import warnings
from collections.abc import AsyncIterator, Iterable
from typing import Any, Generic, TypeVar, overload

from .._policy.sftp import AnyPath, SFTPAttributes, encode_path
from .._protocol.core import Op
from .._protocol.sftp import ops
from .._protocol.sftp.buffer import Buffered
from .._protocol.sftp.file import OVERWRITE, Mode, open_file
from .._protocol.sftp.names import is_entry, stat_entry
from .._protocol.sftp.text import Text
from .._protocol.sftp.wire import Name
from .._runtime.anyio_streams import FairLock
from .async_sftp_run import AsyncRunner
from .closing import AsyncClosing
from .sftp_entry import Entry
from .sftp_file import BUFFER

__all__ = ["AsyncSFTPDirEntry", "AsyncSFTPFile", "AsyncScandirIterator", "open_buffered"]

S = TypeVar("S")
T = TypeVar("T")

#: Lines that one task may take before others have a turn: a few milliseconds' work at most.
MANY = 256


async def open_buffered(
    run: AsyncRunner,
    path: AnyPath,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> AsyncSFTPFile[Any]:
    """Open a file as the built-in `open` does."""
    wanted = Mode.parse(mode)
    if buffering == 0 and not wanted.binary:
        raise ValueError("text must be buffered")
    size = buffering if buffering > 1 or buffering == 0 else BUFFER
    raw = await run(open_file(run.sftp, path, wanted), "open")
    file: AsyncSFTPFile[Any] = AsyncSFTPFile(run, mode, Buffered(raw, size))
    if not wanted.binary:
        file._make_text(encoding, errors, newline, buffering == 1)
    return file


async def open_over(run: AsyncRunner, path: AnyPath) -> AsyncSFTPFile[bytes]:
    """Open an unbuffered file for writing that keeps its contents until they are written over."""
    raw = await run(open_file(run.sftp, path, OVERWRITE), "open")
    return AsyncSFTPFile(run, "wb", Buffered(raw, 0))


class AsyncSFTPFile(AsyncClosing, Generic[S]):
    """An open remote file, with the methods of files, awaited; made by `AsyncSFTP.open`.

    It is an ``AsyncSFTPFile[str]`` or an ``AsyncSFTPFile[bytes]``, as its mode says.

    Tasks may share it, because each call ends before the next begins. A cancelled call loses no
    data: what it read is read again, and `tell` says how much of a write was taken.

    Attributes:
        name: the path as given.
        mode: as given.
    """

    def __init__(self, run: AsyncRunner, mode: str, file: Buffered) -> None:
        self.name: str | bytes = file.file.name
        self.mode = mode
        self._run_op = run
        self._buffer: Buffered = file
        self._file: Any = file  # or a `Text` over it, as `S` says
        self._lock = FairLock()
        self._closed = False
        self._lines = 0  # lines that were returned since other tasks had a turn

    def _make_text(
        self, encoding: str | None, errors: str | None, newline: str | None, by_lines: bool
    ) -> None:
        try:
            self._file = Text(self._buffer, encoding, errors, newline, by_lines)
        except BaseException:
            self._closed = True
            self._run_op.session.call_at_once(self._buffer.file.stream.handle.forget)
            raise

    def __repr__(self) -> str:
        return f"<SFTP file {self.name!r}, mode {self.mode!r}>"

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def readable(self) -> bool:
        """Tell whether its mode is one to read."""
        self._check()
        return self._buffer.file.mode.readable

    def writable(self) -> bool:
        """Tell whether its mode is one to write."""
        self._check()
        return self._buffer.file.mode.writable

    def seekable(self) -> bool:
        """Return True."""
        self._check()
        return True

    async def read(self, size: int | None = -1) -> S:
        """Read up to `size` bytes or characters, fewer only at the end; -1 and None mean all."""
        return await self._run(self._file.read(size), "read")

    async def read1(self, size: int = -1) -> bytes:
        """Read what is there of a binary file, at least a byte; none at the end."""
        return await self._run(self._get_binary().read1(size), "read")

    async def readinto(self, buffer: Any) -> int:
        """Fill a buffer from a binary file; return the number of bytes, fewer only at the end."""
        return await self._run(self._get_binary().readinto(buffer), "read")

    async def readline(self, size: int = -1) -> S:
        """Read a line with its end, which the last one may lack; empty at the end of the file."""
        self._lines += 1
        if self._lines >= MANY:
            self._lines = 0
            await self._lock.rest()
        if size < 0 and not self._closed and self._lock.free:
            line: S | None = self._file.get_cached_line()  # in a tenth of the time of an operation
            if line is not None:
                return line
        return await self._run(self._file.readline(size), "read")

    async def readlines(self, hint: int = -1) -> list[S]:
        """Return all lines, or so many that they have at least `hint` bytes or characters."""
        op: Op[Any] = self._file.readlines(hint)
        return await self._run(op, "read")

    @overload
    async def write(self: AsyncSFTPFile[str], data: str) -> int: ...
    @overload
    async def write(self: AsyncSFTPFile[bytes], data: bytes | bytearray | memoryview) -> int: ...
    async def write(self, data: Any) -> int:
        """Take all of it; return its length.

        It does not wait for the server. `flush` and `close` do, and raise what went wrong.
        """
        return await self._run(self._file.write(data), "write")

    async def writelines(self, lines: Iterable[Any]) -> None:
        """Write each of them."""
        await self._run(self._file.writelines(lines), "write")

    async def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; in text only to one of `tell`, the beginning or the end."""
        return await self._run(self._file.seek(offset, whence), "seek")

    async def tell(self) -> int:
        """Return the position; OSError where a text has none, in the middle of a character."""
        async with self._lock:
            self._check()
            return int(self._file.tell())

    async def truncate(self, size: int | None = None) -> int:
        """Cut or extend to `size` bytes, for None to the position, which does not change."""
        return await self._run(self._file.truncate(size), "truncate")

    async def flush(self) -> None:
        """Wait until the server has written everything; raise what went wrong."""
        await self._run(self._buffer.flush(), "write")

    async def stat(self) -> SFTPAttributes:
        """Return the attributes of the open file."""
        return await self._run(self._buffer.file.stream.handle.fetch_attributes(), "stat")

    async def sync(self) -> None:
        """Have the server write it to its disk; OSError (EOPNOTSUPP) if it cannot."""
        await self._run(self._buffer.sync(), "sync")

    async def close(self) -> None:
        """Close; raise what writing failed with. A second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            async with self._lock:
                await self._run_op(self._buffer.close(), "close")
        except ConnectionError:
            if self._buffer.file.mode.writable:  # of what was only read nothing is lost
                raise
        finally:  # also where it was cancelled while another task wrote
            self._run_op.session.call_at_once(self._buffer.file.stream.handle.forget)

    aclose = close

    def __aiter__(self) -> AsyncIterator[S]:
        return self

    async def __anext__(self) -> S:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __del__(self) -> None:
        if self._closed:
            return
        handle, unwritten = self._buffer.file.stream.handle, self._buffer.unwritten
        if not handle.closed:
            self._run_op.call_later(ops.Handle.forget, handle)
        if unwritten:
            warnings.warn(
                f"unclosed {self!r}: {unwritten} bytes were never written",
                ResourceWarning, stacklevel=2, source=self,
            )  # fmt: skip

    async def _run(self, op: Op[T], doing: str) -> T:
        try:
            async with self._lock:
                self._check()
                return await self._run_op(op, doing)
        finally:
            op.close()

    def _get_binary(self) -> Buffered:
        if isinstance(self._file, Buffered):
            return self._file
        raise io.UnsupportedOperation("this is a text file")

    def _check(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")


class AsyncSFTPDirEntry(Entry):
    """An entry of a directory, like `os.DirEntry`, whose questions are awaited.

    Attributes:
        name, path: of the type of the scanned path.
        attributes: those of the listing, for a link of the link itself.
        longname: the line of ``ls -l`` that many servers add.
    """

    __slots__ = ("_run",)

    def __init__(self, run: AsyncRunner, folder: Any, entry: Name) -> None:
        super().__init__(folder, entry)
        self._run = run

    async def stat(self, *, follow_symlinks: bool = True) -> SFTPAttributes:
        """Return the attributes; ask the server only about links and unknown types."""
        known = self._get_known(follow_symlinks)
        if known is not None:
            return known
        op = stat_entry(self._run.sftp, self.path, self._entry, follow_symlinks)
        return await self._run(op, "stat")

    async def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a directory; ask as `stat` does."""
        return await self._is(modes.S_ISDIR, follow_symlinks)

    async def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a regular file; ask as `stat` does."""
        return await self._is(modes.S_ISREG, follow_symlinks)

    async def is_symlink(self) -> bool:
        """Tell whether it is a link."""
        return await self._is(modes.S_ISLNK, False)

    async def _is(self, test: Any, follow: bool) -> bool:
        known = self._get_known(follow)
        if known is not None:
            return bool(test(known.st_mode))
        op = is_entry(self._run.sftp, self.path, self._entry, test, follow)
        return await self._run(op, "stat")


class AsyncScandirIterator(AsyncClosing):
    """The iterator of `AsyncSFTP.scandir`, for ``async for``.

    It opens the directory when that is first needed. Close it, best with an ``async with`` block,
    if it is not used up.
    """

    def __init__(self, run: AsyncRunner, path: AnyPath) -> None:
        self._run = run
        self._folder: Any = os.fspath(path)
        self._path = encode_path(path)
        self._found: list[Name] = []
        self._listing: ops.Listing | None = None
        self._over = False

    async def __aenter__(self) -> AsyncScandirIterator:
        await self._open()
        return self

    def __aiter__(self) -> AsyncScandirIterator:
        return self

    async def __anext__(self) -> AsyncSFTPDirEntry:
        listing = await self._open()
        if not self._found and listing is not None:
            self._found = (await self._run(listing.fetch_more(), "list"))[::-1]
        if not self._found:
            await self.close()
            raise StopAsyncIteration
        return AsyncSFTPDirEntry(self._run, self._folder, self._found.pop())

    async def close(self) -> None:
        """Close the directory; a second call does nothing."""
        listing, self._listing = self._listing, None
        self._found = []
        self._over = True
        if listing is not None:
            self._run.session.call_at_once(listing.close)

    aclose = close

    async def _open(self) -> ops.Listing | None:
        if self._listing is None and not self._over:
            op = ops.open_directory(self._run.sftp, self._path, lasting=True)
            self._listing = await self._run(op, "list")
        return self._listing

    def __del__(self) -> None:
        listing = getattr(self, "_listing", None)
        if listing is not None:
            self._run.call_later(ops.Listing.close, listing)
