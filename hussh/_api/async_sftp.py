"""`AsyncSFTP`: what `SFTP` is for threads, for tasks; one-line methods over the same operations.

`AsyncConnection.sftp` makes one, and `async_files.py` has that method. `sftp_calls.py` turns
arguments into operations; nothing here makes a request or blocks the loop.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._policy.connection_options import Seconds
from .._policy.remote_path import join
from .._policy.sftp import AnyPath, SFTPAttributes, encode_path
from .._protocol.core import Op
from .._protocol.sftp import ops
from .._protocol.sftp.links import symlink
from .._protocol.sftp.makedirs import make_directories
from .._protocol.sftp.session import SftpState
from .._results.transfer_result import MirrorResult, TransferResult
from . import sftp_calls as calls
from .arguments import check_max_output
from .async_sftp_file import AsyncScandirIterator, AsyncSFTPFile, open_buffered
from .async_sftp_run import AsyncHasFiles, AsyncRunner
from .documented import details_of
from .sftp import SFTP
from .sftp_calls import Preserve
from .transfer_bars import ShownProgress, show_bars, show_tree_bars

__all__ = ["AsyncSFTP"]

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

T = TypeVar("T")


class AsyncSFTP:
    """The files of one connection's server; see `AsyncConnection.sftp`.

    Paths are str (UTF-8, with `os.fsdecode`'s surrogates for other bytes), bytes or
    PathLike. Names come back in the type of the argument. All methods may be called
    from any number of tasks, and share one channel.

    `timeout` is in **seconds**; None means the connection's limit, 0 no limit.

    Raises (all methods):
        SFTPError: an OSError with `.errno`; also a FileNotFoundError,
            PermissionError, FileExistsError … where that fits.
        SFTPTimeout: also a TimeoutError; the connection stays usable.
        SFTPUnavailable: the server has no SFTP.
        ConnectionLost, ConnectionClosed: as everywhere.
    """

    def __init__(self, connection: AsyncHasFiles) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return f"<SFTP of {self._connection!r}>"

    @property
    def _bound(self) -> AsyncRunner:
        """Return the session that the connection has now."""
        return AsyncRunner(self._connection)

    @property
    def _sftp(self) -> SftpState:
        return self._connection._get_sftp_state()

    async def _run(self, op: Op[T], doing: str, timeout: Seconds | None = None) -> T:
        return await self._bound(op, doing, timeout)

    # -- files and directories

    @overload
    async def open(
        self,
        path: AnyPath,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncSFTPFile[str]: ...
    @overload
    async def open(
        self,
        path: AnyPath,
        mode: OpenBinaryMode,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncSFTPFile[bytes]: ...
    @overload
    async def open(
        self,
        path: AnyPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncSFTPFile[Any]: ...
    @details_of(SFTP.open)
    async def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> AsyncSFTPFile[Any]:
        """Open a file as the built-in `open` does; text is UTF-8 unless `encoding` is given."""
        return await open_buffered(self._bound, path, mode, buffering, encoding, errors, newline)

    async def stat(self, path: AnyPath) -> SFTPAttributes:
        """Return the attributes of a path, or of the target if it is a link."""
        return await self._run(ops.stat(self._sftp, encode_path(path)), "stat")

    async def lstat(self, path: AnyPath) -> SFTPAttributes:
        """Return the attributes of a path, or of the link itself if it is one."""
        return await self._run(ops.lstat(self._sftp, encode_path(path)), "lstat")

    async def exists(self, path: AnyPath) -> bool:
        """Tell whether a path leads to something; False also for a link to nothing."""
        return await self._run(calls.exists(self._sftp, path), "stat")

    @overload
    async def listdir(self, path: bytes) -> list[bytes]: ...
    @overload
    async def listdir(self, path: str | os.PathLike[str] = ".") -> list[str]: ...
    async def listdir(self, path: Any = ".") -> Any:
        """Return the names in a directory, in no order, without "." and ".."."""
        return await self._run(calls.listdir(self._sftp, path), "list")

    def scandir(self, path: AnyPath = ".") -> AsyncScandirIterator:
        """Iterate over the entries of a directory with their attributes, fetched as needed."""
        return AsyncScandirIterator(self._bound, path)

    @overload
    def walk(self, top: bytes) -> AsyncIterator[tuple[bytes, list[bytes], list[bytes]]]: ...
    @overload
    def walk(
        self, top: str | os.PathLike[str] = "."
    ) -> AsyncIterator[tuple[str, list[str], list[str]]]: ...
    @details_of(SFTP.walk)
    def walk(self, top: Any = ".") -> AsyncIterator[tuple[Any, list[Any], list[Any]]]:
        """Walk as `os.walk` from the top down; links to directories are not followed."""
        return _Walk(self, top)

    async def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make a directory."""
        await self._run(ops.make_directory(self._sftp, encode_path(path), mode), "mkdir")

    async def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and its missing parents."""
        op = make_directories(self._sftp, encode_path(path), mode, exist_ok)
        await self._run(op, "makedirs")

    async def remove(self, path: AnyPath) -> None:
        """Remove a file or a link."""
        await self._run(ops.remove(self._sftp, encode_path(path)), "remove")

    unlink = remove

    async def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        await self._run(ops.remove_directory(self._sftp, encode_path(path)), "rmdir")

    @details_of(SFTP.rmtree)
    async def rmtree(
        self, path: AnyPath, ignore_errors: bool = False, *, timeout: Seconds | None = None
    ) -> None:
        """Remove a directory with all that is in it, as `shutil.rmtree` does."""
        await self._run(calls.rmtree(self._sftp, path, ignore_errors), "remove the tree", timeout)

    async def glob(self, pattern: AnyPath, *, timeout: Seconds | None = None) -> list[Any]:
        """Return the paths that match a pattern, sorted; see `iglob`."""
        return await self._run(calls.PathSearch(pattern).fetch_all(self._sftp), "list", timeout)

    @details_of(SFTP.iglob)
    def iglob(self, pattern: AnyPath) -> AsyncIterator[Any]:
        """Iterate over the paths that match a pattern, in no order, in the type of the pattern."""
        return _Glob(self, calls.PathSearch(pattern))

    async def rename(self, src: AnyPath, dst: AnyPath) -> None:
        """Rename; replace a file at `dst` in one step if the server can, otherwise fail there."""
        await self._run(ops.rename(self._sftp, encode_path(src), encode_path(dst)), "rename")

    replace = rename

    async def symlink(self, src: AnyPath, dst: AnyPath) -> None:
        """Make a link `dst` that leads to `src`."""
        await self._run(symlink(self._sftp, encode_path(src), encode_path(dst)), "symlink")

    async def link(self, src: AnyPath, dst: AnyPath) -> None:
        """Give the file `src` another name `dst`; OSError (EOPNOTSUPP) if the server cannot."""
        await self._run(calls.link(self._sftp, src, dst), "link")

    async def readlink(self, path: AnyPath) -> Any:
        """Return the target of a link, in the type of `path`."""
        return await self._run(calls.readlink(self._sftp, path), "readlink")

    async def realpath(self, path: AnyPath = ".") -> Any:
        """Return the absolute path without links, in the type of `path`."""
        return await self._run(calls.realpath(self._sftp, path), "realpath")

    async def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permissions of a file."""
        await self._run(calls.chmod(self._sftp, path, mode), "chmod")

    async def chown(self, path: AnyPath, uid: int, gid: int) -> None:
        """Set owner and group; -1 leaves one of them as it is."""
        await self._run(calls.chown(self._sftp, path, uid, gid), "chown")

    async def utime(self, path: AnyPath, times: tuple[float, float] | None = None) -> None:
        """Set the times of last access and change, in whole seconds; None means now."""
        await self._run(calls.utime(self._sftp, path, times), "utime")

    async def truncate(self, path: AnyPath, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        await self._run(calls.truncate(self._sftp, path, length), "truncate")

    async def statvfs(self, path: AnyPath = ".") -> os.statvfs_result:
        """Return the numbers of a path's file system; OSError (EOPNOTSUPP) if the server cannot."""
        return await self._run(calls.statvfs(self._sftp, path), "statvfs")

    # -- whole files

    @details_of(SFTP.copy)
    async def copy(
        self,
        src: AnyPath,
        dst: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> int:
        """Copy a file on the server; return its size in bytes."""
        with show_bars(progress, "copy") as tell:
            return await self._run(calls.copy(self._sftp, src, dst, tell), "copy", timeout)

    @details_of(SFTP.get)
    async def get(
        self,
        remote: AnyPath,
        local: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a remote file to a local one; return its size in bytes."""
        with show_bars(progress, "download") as tell:
            limit = self._bound.limit(timeout)[1]
            op = calls.get(self._sftp, remote, local, tell, limit, resume=resume)
            return await self._run(op, "download", timeout)

    async def get_bytes(
        self,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
        max_output: int | None = None,
    ) -> bytes:
        """Return the contents of a remote file; OutputLimitExceeded beyond `max_output` bytes."""
        with show_bars(progress, "download") as tell:
            most = check_max_output(max_output)
            op = calls.fetch(self._sftp, remote, tell, self._bound.limit(timeout)[1], most)
            return await self._run(op, "download", timeout)

    async def put(
        self,
        local: AnyPath,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a local file to a remote one; return its size in bytes. Otherwise as `get`."""
        with show_bars(progress, "upload") as tell:
            limit = self._bound.limit(timeout)[1]
            op = calls.put(self._sftp, local, remote, tell, limit, resume=resume)
            return await self._run(op, "upload", timeout)

    async def put_bytes(
        self,
        data: bytes | bytearray | memoryview,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> int:
        """Write a remote file; return its size in bytes."""
        with show_bars(progress, "upload") as tell:
            op = calls.store(self._sftp, data, remote, tell, self._bound.limit(timeout)[1])
            return await self._run(op, "upload", timeout)

    @details_of(SFTP.put_dir)
    async def put_dir(
        self,
        local: AnyPath,
        remote: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> TransferResult:
        """Copy the content of a local directory into a remote one, made with parents if need be."""
        wanted = (follow_symlinks, preserve_permissions, preserve_times, fail_fast)
        strict, limit = calls.is_strict(preserve), self._bound.limit(timeout)[1]
        with show_tree_bars(progress, "upload") as tell:
            op = calls.put_dir(self._sftp, local, remote, wanted, limit, strict, tell)
            return await self._run(op, "upload", timeout)

    @details_of(SFTP.get_dir)
    async def get_dir(
        self,
        remote: AnyPath,
        local: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> TransferResult:
        """Copy the content of a remote directory into a local one; as `put_dir`."""
        wanted = (follow_symlinks, preserve_permissions, preserve_times, fail_fast)
        strict, limit = calls.is_strict(preserve), self._bound.limit(timeout)[1]
        with show_tree_bars(progress, "download") as tell:
            op = calls.get_dir(self._sftp, remote, local, wanted, limit, strict, tell)
            return await self._run(op, "download", timeout)

    @details_of(SFTP.mirror)
    async def mirror(
        self,
        local: AnyPath,
        remote: AnyPath,
        *,
        delete: bool = False,
        exclude: AnyPath | Iterable[AnyPath] = (),
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> MirrorResult:
        """Make a remote directory what a local one is; only what differs moves."""
        strict, limit = calls.is_strict(preserve), self._bound.limit(timeout)[1]
        wanted = calls.check_mirror(delete, exclude)
        with show_tree_bars(progress, "upload") as tell:
            op = calls.mirror(self._sftp, local, remote, wanted, limit, strict, tell)
            return await self._run(op, "mirror", timeout)

    @details_of(SFTP.mirror_back)
    async def mirror_back(
        self,
        remote: AnyPath,
        local: AnyPath,
        *,
        delete: bool = False,
        exclude: AnyPath | Iterable[AnyPath] = (),
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Seconds | None = None,
    ) -> MirrorResult:
        """Make a local directory what a remote one is; as `mirror`."""
        strict, limit = calls.is_strict(preserve), self._bound.limit(timeout)[1]
        wanted = calls.check_mirror(delete, exclude)
        with show_tree_bars(progress, "download") as tell:
            op = calls.mirror_back(self._sftp, remote, local, wanted, limit, strict, tell)
            return await self._run(op, "mirror", timeout)


class _Walk(AsyncIterator[tuple[Any, list[Any], list[Any]]]):
    """The iterator of `walk`; an async generator would need care if it is not used up."""

    def __init__(self, sftp: AsyncSFTP, top: AnyPath) -> None:
        self._sftp = sftp
        self._left: list[Any] = [os.fspath(top)]  # the next one last
        self._yielded: tuple[Any, list[Any], list[Any]] | None = None

    async def __anext__(self) -> tuple[Any, list[Any], list[Any]]:
        if self._yielded is not None:  # the caller may have taken directories out
            (top, folders, _), self._yielded = self._yielded, None
            self._left += [join(top, name) for name in reversed(folders)]
        if not self._left:
            raise StopAsyncIteration
        top = self._left[-1]
        found = await self._sftp._run(calls.split_names(self._sftp._sftp, top), "list")
        self._left.pop()
        self._yielded = (top, *found)
        return self._yielded


class _Glob(AsyncIterator[Any]):
    """The iterator of `iglob`; an async generator would need care if it is not used up."""

    def __init__(self, sftp: AsyncSFTP, search: calls.PathSearch) -> None:
        self._sftp = sftp
        self._search = search
        self._found: list[Any] = []  # the next one last

    async def __anext__(self) -> Any:
        if not self._found:
            op = self._search.fetch_more(self._sftp._sftp)
            self._found = (await self._sftp._run(op, "list"))[::-1]
        if not self._found:
            raise StopAsyncIteration
        return self._found.pop()
