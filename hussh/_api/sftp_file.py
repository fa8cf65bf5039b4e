"""Objects that `SFTP` returns: open files, and entries of directories.

A finalizer waits only for the writing of what was not written yet, as that of any file does. What
was left open is closed at the next use of the connection.
"""

from __future__ import annotations

import io
import os
import stat as modes
from collections.abc import Iterator
from typing import IO, Any

from .._policy.sftp import AnyPath, SFTPAttributes, encode_path
from .._protocol.sftp import ops
from .._protocol.sftp.file import OVERWRITE, File, Mode, open_file
from .._protocol.sftp.names import is_entry, stat_entry
from .._protocol.sftp.wire import Name
from .closing import Closing
from .sftp_entry import Entry
from .sftp_run import Runner

__all__ = ["BUFFER", "RawFile", "SFTPDirEntry", "ScandirIterator", "open_buffered"]

#: Bytes that a file object holds unless told otherwise.
BUFFER = 256 * 1024


def open_buffered(
    run: Runner,
    path: AnyPath,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    """Open a file as the built-in `open` does: a raw file in the layers of `io` asked for."""
    wanted = Mode.parse(mode)
    if buffering == 0 and not wanted.binary:
        raise ValueError("text must be buffered")
    raw: Any = RawFile(run, run(open_file(run.sftp, path, wanted), "open"))
    if buffering == 0:
        return raw  # type: ignore[no-any-return]
    try:
        size = buffering if buffering > 1 else BUFFER
        buffered: Any
        if wanted.readable and wanted.writable:
            buffered = _Random(raw, size)
        elif wanted.writable:
            buffered = _Writer(raw, size)
        else:
            buffered = io.BufferedReader(raw, size)
        if wanted.binary:
            return buffered  # type: ignore[no-any-return]
        text: Any = io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, buffering == 1)
        text.mode = mode  # as the built-in `open` does
        return text  # type: ignore[no-any-return]
    except BaseException:
        raw.close()
        raise


def open_over(run: Runner, path: AnyPath) -> RawFile:
    """Open a raw file for writing that keeps its contents until they are written over."""
    return RawFile(run, run(open_file(run.sftp, path, OVERWRITE), "open"))


class _Flushing:
    """A buffer that also flushes the raw file, whose writes may be on their way."""

    closed: bool
    raw: Any

    def flush(self) -> None:
        super().flush()  # type: ignore[misc]
        if not self.closed:
            self.raw.flush()


class _Writer(_Flushing, io.BufferedWriter):
    pass


class _Random(_Flushing, io.BufferedRandom):
    pass


class RawFile(io.RawIOBase):
    """An open remote file; usually within an `io` buffer.

    Attributes:
        name: the path as given.
        mode: "rb", "wb+" and so on.
    """

    def __init__(self, run: Runner, file: File) -> None:
        super().__init__()
        self.name = file.name
        self.mode = str(file.mode)
        self._run = run
        self._file = file
        self._dropped = False

    def __repr__(self) -> str:
        return f"<SFTP file {self.name!r}, mode {self.mode!r}>"

    def readable(self) -> bool:
        self._check()
        return self._file.mode.readable

    def writable(self) -> bool:
        self._check()
        return self._file.mode.writable

    def seekable(self) -> bool:
        self._check()
        return True

    def readinto(self, buffer: Any) -> int:
        self._check()
        return self._run(self._file.read_into(memoryview(buffer).cast("B")), "read")

    def write(self, data: Any) -> int:
        self._check()
        return self._run(self._file.write(bytes(memoryview(data).cast("B"))), "write")

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        if whence == io.SEEK_END:
            return self._run(self._file.seek(offset, whence), "seek")
        return self._file.move(offset, whence)

    def tell(self) -> int:
        self._check()
        return self._file.at

    def truncate(self, size: int | None = None) -> int:
        self._check()
        return self._run(self._file.truncate(size), "truncate")

    def flush(self) -> None:
        """Wait until the server has written everything; raise what went wrong."""
        stream = self._file.stream
        if not self.closed and not stream.handle.closed and not stream.settled:
            self._run(stream.settle(), "write")

    def stat(self) -> SFTPAttributes:
        """Return the attributes of the open file."""
        self._check()
        return self._run(self._file.stream.handle.fetch_attributes(), "stat")

    def sync(self) -> None:
        """Have the server write it to its disk; OSError (EOPNOTSUPP) if it cannot."""
        self._check()
        self._run(self._file.stream.sync(), "sync")

    def close(self) -> None:
        """Close; raise what writing failed with. A second call does nothing."""
        if self.closed:
            return
        stream = self._file.stream
        try:
            if self._dropped and stream.settled:
                self._run.call_later(ops.Handle.forget, stream.handle)
            elif not stream.handle.closed:
                self._run(stream.close(), "close")
        except ConnectionError:
            if self._file.mode.writable:  # of what was only read nothing is lost
                raise
        finally:
            super().close()

    def _dealloc_warn(self, source: object) -> None:
        """Warn that only the finalizer of a buffer closes the file; `io` calls this."""
        self._dropped = True

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None and not file.stream.handle.closed:
            self._run.call_later(ops.Handle.forget, file.stream.handle)

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


class SFTPDirEntry(Entry):
    """An entry of a directory, like `os.DirEntry`.

    Attributes:
        name, path: of the type of the scanned path.
        attributes: those of the listing, for a link of the link itself.
        longname: the line of ``ls -l`` that many servers add.
    """

    __slots__ = ("_run",)

    def __init__(self, run: Runner, folder: Any, entry: Name) -> None:
        super().__init__(folder, entry)
        self._run = run

    def stat(self, *, follow_symlinks: bool = True) -> SFTPAttributes:
        """Return the attributes; ask the server only about links and unknown types."""
        known = self._get_known(follow_symlinks)
        if known is not None:
            return known
        op = stat_entry(self._run.sftp, self.path, self._entry, follow_symlinks)
        return self._run(op, "stat")

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a directory; ask as `stat` does."""
        return self._is(modes.S_ISDIR, follow_symlinks)

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        """Tell whether it is a regular file; ask as `stat` does."""
        return self._is(modes.S_ISREG, follow_symlinks)

    def is_symlink(self) -> bool:
        """Tell whether it is a link."""
        return self._is(modes.S_ISLNK, False)

    def _is(self, test: Any, follow: bool) -> bool:
        known = self._get_known(follow)
        if known is not None:
            return bool(test(known.st_mode))
        op = is_entry(self._run.sftp, self.path, self._entry, test, follow)
        return self._run(op, "stat")


class ScandirIterator(Closing, Iterator[SFTPDirEntry]):
    """The iterator of `SFTP.scandir`; close it, best with a ``with`` block, unless used up."""

    def __init__(self, run: Runner, path: AnyPath) -> None:
        self._run = run
        self._folder: Any = os.fspath(path)
        self._found: list[Name] = []
        self._listing: ops.Listing | None = None
        self._listing = run(ops.open_directory(run.sftp, encode_path(path), lasting=True), "list")

    def __iter__(self) -> ScandirIterator:
        return self

    def __next__(self) -> SFTPDirEntry:
        if not self._found and self._listing is not None:
            self._found = self._run(self._listing.fetch_more(), "list")[::-1]
        if not self._found:
            self.close()
            raise StopIteration
        return SFTPDirEntry(self._run, self._folder, self._found.pop())

    def close(self) -> None:
        """Close the directory; a second call does nothing."""
        listing, self._listing = self._listing, None
        self._found = []
        if listing is not None:
            self._run.session.call_at_once(listing.close)

    def __del__(self) -> None:
        listing = getattr(self, "_listing", None)
        if listing is not None:
            self._run.call_later(ops.Listing.close, listing)
