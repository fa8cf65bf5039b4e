"""Objects that `SFTP` hands out: open files, and entries of directories.

A finalizer never waits: what was left open is closed when somebody next uses the connection.
"""

from __future__ import annotations

import errno
import io
import os
import stat as modes
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._policy.sftp import AnyPath, SFTPAttributes, decode_path, encode_path, file_error
from .._protocol import sftp_ops as ops
from .._protocol.sftp_stream import Stream
from .._protocol.sftp_wire import (
    FXF_APPEND,
    FXF_CREAT,
    FXF_EXCL,
    FXF_READ,
    FXF_TRUNC,
    FXF_WRITE,
    Name,
    setting,
)

if TYPE_CHECKING:
    from .sftp import SFTP

__all__ = ["RawFile", "ScandirIterator", "SFTPDirEntry", "open_file"]

Run = Callable[..., Any]

_FLAGS = {
    "r": FXF_READ,
    "w": FXF_WRITE | FXF_CREAT | FXF_TRUNC,
    "a": FXF_WRITE | FXF_CREAT | FXF_APPEND,
    "x": FXF_WRITE | FXF_CREAT | FXF_EXCL,
}


def open_file(sftp: SFTP, path: AnyPath, mode: str, run: Run) -> RawFile:
    """Open with a mode of the built-in `open`."""
    letters = set(mode)
    kinds = letters & set(_FLAGS)
    known = not letters - set("rwaxbt+") and len(letters) == len(mode)
    if not known or len(kinds) != 1 or {"b", "t"} <= letters:
        raise ValueError(f"invalid mode: {mode!r}")
    kind = kinds.pop()
    flags = _FLAGS[kind]
    if "+" in letters:
        flags |= FXF_READ | FXF_WRITE
    handle = run(ops.open_handle(sftp._sftp, encode_path(path), flags), "open")
    raw = RawFile(sftp, Stream(handle), path, kind + ("+" if "+" in letters else ""), run)
    if kind == "a":
        try:
            raw.seek(0, io.SEEK_END)
        except BaseException:
            raw.close()
            raise
    return raw


class RawFile(io.RawIOBase):
    """An open remote file; usually within an `io` buffer.

    Attributes:
        name: the path as given.
        mode: "r", "w+" and so on, always binary here.
    """

    def __init__(self, sftp: SFTP, stream: Stream, path: AnyPath, mode: str, run: Run) -> None:
        super().__init__()
        self.name = os.fspath(path)
        self.mode = mode[0] + "b" + mode[1:]
        self._sftp = sftp
        self._stream = stream
        self._run = run
        self._at = 0

    def __repr__(self) -> str:
        return f"<SFTP file {self.name!r}, mode {self.mode!r}>"

    def readable(self) -> bool:
        self._check()
        return "r" in self.mode or "+" in self.mode

    def writable(self) -> bool:
        self._check()
        return "r" not in self.mode or "+" in self.mode

    def seekable(self) -> bool:
        self._check()
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        view = memoryview(buffer).cast("B")
        count: int = self._run(self._stream.read_into(self._at, view), "read")
        self._at += count
        return count

    def write(self, data: Any) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        copy = bytes(memoryview(data).cast("B"))
        self._run(self._stream.write(self._at, copy), "write")
        self._at += len(copy)
        return len(copy)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._check()
        if whence == io.SEEK_CUR:
            offset += self._at
        elif whence == io.SEEK_END:
            offset += self._run(self._stream.size(), "seek")
        elif whence != io.SEEK_SET:
            raise ValueError(f"invalid whence: {whence}")
        if offset < 0:
            raise file_error(errno.EINVAL, "seek", self.name)
        self._at = offset
        return offset

    def tell(self) -> int:
        self._check()
        return self._at

    def truncate(self, size: int | None = None) -> int:
        if not self.writable():
            raise io.UnsupportedOperation("not writable")
        size = self._at if size is None else size
        self._run(self._stream.set(setting(size=size), "truncate"), "truncate")
        return size

    def flush(self) -> None:
        """Wait until the server has written everything; raises what went wrong."""
        if not self.closed and not self._stream.handle.closed:
            self._run(self._stream.settle(), "write")

    def stat(self) -> SFTPAttributes:
        """Attributes of the open file."""
        self._check()
        found: SFTPAttributes = self._run(self._stream.handle.attributes(), "stat")
        return found

    def sync(self) -> None:
        """Have the server bring it to its disk; OSError (EOPNOTSUPP) where it cannot."""
        self._check()
        self._run(self._stream.sync(), "sync")

    def close(self) -> None:
        """Close; raises what writing failed with.  A second call does nothing."""
        if self.closed:
            return
        try:
            if not self._stream.handle.closed:
                self._run(self._stream.close(), "close")
        finally:
            super().close()

    def __del__(self) -> None:
        stream = getattr(self, "_stream", None)
        if stream is not None and not stream.handle.closed:
            _later(self._sftp, ops.Handle.forget, stream.handle)

    def _check(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _later(sftp: SFTP, call: Callable[[Any], None], owner: Any) -> None:
    """For finalizers: make a call with the tree's lock held, now or by who has it."""
    session = sftp._connection._session
    if session is not None:
        session.link.trash.add(call, owner)


class SFTPDirEntry:
    """An entry of a directory, like `os.DirEntry`.

    Attributes:
        name, path: of the type of the path that was scanned.
        attributes: what the listing told, of a link itself.
        longname: the line of ``ls -l`` that many servers add.
    """

    __slots__ = ("name", "path", "attributes", "longname", "_sftp")

    def __init__(self, sftp: SFTP, folder: Any, entry: Name) -> None:
        self._sftp = sftp
        self.attributes = entry.attributes
        self.longname = decode_path(entry.longname)
        self.name: Any = entry.name if isinstance(folder, bytes) else decode_path(entry.name)
        self.path: Any = os.path.join(folder, self.name)

    def __repr__(self) -> str:
        return f"<SFTPDirEntry {self.name!r}>"

    def __fspath__(self) -> Any:
        return self.path

    def stat(self, *, follow_symlinks: bool = True) -> SFTPAttributes:
        """Attributes; asks the server only about links, and where it told no type."""
        known = self.attributes
        if known.st_mode and not (follow_symlinks and modes.S_ISLNK(known.st_mode)):
            return known
        return self._sftp.stat(self.path) if follow_symlinks else self._sftp.lstat(self.path)

    def _mode(self, follow_symlinks: bool) -> int:
        try:
            return self.stat(follow_symlinks=follow_symlinks).st_mode
        except FileNotFoundError:  # a link to nothing, or removed since
            return 0

    def is_dir(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISDIR(self._mode(follow_symlinks))

    def is_file(self, *, follow_symlinks: bool = True) -> bool:
        return modes.S_ISREG(self._mode(follow_symlinks))

    def is_symlink(self) -> bool:
        return modes.S_ISLNK(self._mode(False))


class ScandirIterator(Iterator[SFTPDirEntry]):
    """What `SFTP.scandir` gives; close it, best with a ``with`` block, if it is not used up."""

    def __init__(self, sftp: SFTP, path: AnyPath, run: Run) -> None:
        self._sftp = sftp
        self._folder: str | bytes = os.fspath(path)
        self._run = run
        self._found: list[Name] = []
        self._listing: ops.Listing | None = None
        self._listing = run(ops.open_directory(sftp._sftp, encode_path(path)), "list")

    def __iter__(self) -> ScandirIterator:
        return self

    def __next__(self) -> SFTPDirEntry:
        if not self._found and self._listing is not None:
            self._found = self._run(self._listing.more(), "list")[::-1]
        if not self._found:
            self.close()
            raise StopIteration
        return SFTPDirEntry(self._sftp, self._folder, self._found.pop())

    def close(self) -> None:
        """Let go of the directory; a second call does nothing."""
        listing, self._listing = self._listing, None
        self._found = []
        if listing is not None:
            self._run(listing.ended(), "close")

    def __enter__(self) -> ScandirIterator:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        listing = getattr(self, "_listing", None)
        if listing is not None:
            _later(self._sftp, ops.Listing.close, listing)
