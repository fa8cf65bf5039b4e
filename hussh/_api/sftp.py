"""`SFTP`: files on the server, with the method names of `os`; one-line methods over operations.

`Connection.sftp` in `files.py` makes one. `Connection.sftp_read` and the other file methods use its
transfers. `sftp_calls.py` turns arguments into operations; nothing here makes a request.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Any, overload

from .._policy.connection_options import Milliseconds
from .._policy.remote_path import join
from .._policy.sftp import AnyPath, SFTPAttributes, encode_path
from .._protocol.sftp import ops
from .._protocol.sftp.links import symlink
from .._protocol.sftp.makedirs import make_directories
from .._results.transfer_result import MirrorResult, TransferResult
from . import sftp_calls as calls
from .arguments import check_max_output
from .sftp_calls import Preserve
from .sftp_file import ScandirIterator, open_buffered
from .sftp_run import HasFiles, Runner
from .transfer_bars import ShownProgress, show_bars, show_tree_bars

if TYPE_CHECKING:
    from _typeshed import OpenBinaryMode, OpenTextMode

__all__ = ["SFTP"]


class SFTP:
    """The files of one connection's server.

    Paths are str (UTF-8, with `os.fsdecode`'s surrogates for other bytes), bytes or
    PathLike. Names come back in the type of the argument. All methods may be called
    from any number of threads, and share one channel.

    `timeout` is in **milliseconds**; None means the connection's limit, 0 no limit.

    Raises (all methods):
        SFTPError: an OSError with `.errno`; also a FileNotFoundError,
            PermissionError, FileExistsError … where that fits.
        SFTPTimeout: also a TimeoutError; the connection stays usable.
        SFTPUnavailable: the server has no SFTP.
        ConnectionLost, ConnectionClosed: as everywhere.
    """

    def __init__(self, connection: HasFiles) -> None:
        self._connection = connection
        self._run = Runner(connection)
        self._sftp = self._run.sftp

    def __repr__(self) -> str:
        return f"<SFTP of {self._connection!r}>"

    # -- files and directories

    @overload
    def open(
        self,
        path: AnyPath,
        mode: OpenTextMode = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[str]: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: OpenBinaryMode,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[bytes]: ...
    @overload
    def open(
        self,
        path: AnyPath,
        mode: str,
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]: ...
    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the built-in `open` does; text is UTF-8 unless `encoding` is given.

        Sequential reading fetches ahead. Writing does not wait for the server until `flush` or
        `close`, which also raise what went wrong. buffering=0 returns the raw file.
        """
        return open_buffered(self._run, path, mode, buffering, encoding, errors, newline)

    def stat(self, path: AnyPath) -> SFTPAttributes:
        """Return the attributes of a path, or of the target if it is a link."""
        return self._run(ops.stat(self._sftp, encode_path(path)), "stat")

    def lstat(self, path: AnyPath) -> SFTPAttributes:
        """Return the attributes of a path, or of the link itself if it is one."""
        return self._run(ops.lstat(self._sftp, encode_path(path)), "lstat")

    def exists(self, path: AnyPath) -> bool:
        """Tell whether a path leads to something; False also for a link to nothing."""
        return self._run(calls.exists(self._sftp, path), "stat")

    @overload
    def listdir(self, path: bytes) -> list[bytes]: ...
    @overload
    def listdir(self, path: str | os.PathLike[str] = ".") -> list[str]: ...
    def listdir(self, path: Any = ".") -> Any:
        """Return the names in a directory, in no order, without "." and ".."."""
        return self._run(calls.listdir(self._sftp, path), "list")

    def scandir(self, path: AnyPath = ".") -> ScandirIterator:
        """Iterate over the entries of a directory with their attributes, fetched as needed."""
        return ScandirIterator(self._run, path)

    @overload
    def walk(self, top: bytes) -> Iterator[tuple[bytes, list[bytes], list[bytes]]]: ...
    @overload
    def walk(
        self, top: str | os.PathLike[str] = "."
    ) -> Iterator[tuple[str, list[str], list[str]]]: ...
    def walk(self, top: Any = ".") -> Iterator[tuple[Any, list[Any], list[Any]]]:
        """Walk as `os.walk` from the top down; links to directories are not followed.

        Directories that contain one another without end raise an OSError (ELOOP) at last.
        """
        left: list[Any] = [os.fspath(top)]  # the next one last
        while left:
            folder = left.pop()
            folders, others = self._run(calls.split_names(self._sftp, folder), "list")
            yield folder, folders, others
            # Without those that the caller has taken out.
            left += [join(folder, name) for name in reversed(folders)]

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make a directory."""
        self._run(ops.make_directory(self._sftp, encode_path(path), mode), "mkdir")

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and its missing parents."""
        op = make_directories(self._sftp, encode_path(path), mode, exist_ok)
        self._run(op, "makedirs")

    def remove(self, path: AnyPath) -> None:
        """Remove a file or a link."""
        self._run(ops.remove(self._sftp, encode_path(path)), "remove")

    unlink = remove

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        self._run(ops.remove_directory(self._sftp, encode_path(path)), "rmdir")

    def rmtree(
        self, path: AnyPath, ignore_errors: bool = False, *, timeout: Milliseconds | None = None
    ) -> None:
        """Remove a directory with all that is in it, as `shutil.rmtree` does.

        Links in it are removed and not followed. If somebody on the server puts a link in the
        place of a directory meanwhile, version 3 of SFTP has no way to notice that.

        Raises:
            SFTPError: the first failure, which ends it, unless `ignore_errors`. A path that is a
                link, the root, or ends in ``.`` or ``..`` is refused.
        """
        self._run(calls.rmtree(self._sftp, path, ignore_errors), "remove the tree", timeout)

    def glob(self, pattern: AnyPath, *, timeout: Milliseconds | None = None) -> list[Any]:
        """Return the paths that match a pattern, sorted; see `iglob`."""
        return self._run(calls.PathSearch(pattern).fetch_all(self._sftp), "list", timeout)

    def iglob(self, pattern: AnyPath) -> Iterator[Any]:
        """Iterate over the paths that match a pattern, in no order, in the type of the pattern.

        ``*``, ``?`` and ``[...]`` match within a name, ``**`` any number of directories, as in
        `pathlib`: at the end also files, and without following links. Names that begin with a dot
        match, too. With a slash at its end a pattern means directories. What cannot be listed is
        left out.
        """
        search = calls.PathSearch(pattern)
        return self._yield_found(search)

    def _yield_found(self, search: calls.PathSearch) -> Iterator[Any]:
        while found := self._run(search.fetch_more(self._sftp), "list"):
            yield from found

    def rename(self, src: AnyPath, dst: AnyPath) -> None:
        """Rename; replace a file at `dst` in one step if the server can, otherwise fail there."""
        self._run(ops.rename(self._sftp, encode_path(src), encode_path(dst)), "rename")

    replace = rename

    def symlink(self, src: AnyPath, dst: AnyPath) -> None:
        """Make a link `dst` that leads to `src`."""
        self._run(symlink(self._sftp, encode_path(src), encode_path(dst)), "symlink")

    def link(self, src: AnyPath, dst: AnyPath) -> None:
        """Give the file `src` another name `dst`; OSError (EOPNOTSUPP) if the server cannot."""
        self._run(calls.link(self._sftp, src, dst), "link")

    def readlink(self, path: AnyPath) -> Any:
        """Return the target of a link, in the type of `path`."""
        return self._run(calls.readlink(self._sftp, path), "readlink")

    def realpath(self, path: AnyPath = ".") -> Any:
        """Return the absolute path without links, in the type of `path`."""
        return self._run(calls.realpath(self._sftp, path), "realpath")

    def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permissions of a file."""
        self._run(calls.chmod(self._sftp, path, mode), "chmod")

    def chown(self, path: AnyPath, uid: int, gid: int) -> None:
        """Set owner and group; -1 leaves one of them as it is."""
        self._run(calls.chown(self._sftp, path, uid, gid), "chown")

    def utime(self, path: AnyPath, times: tuple[float, float] | None = None) -> None:
        """Set the times of last access and change, in whole seconds; None means now."""
        self._run(calls.utime(self._sftp, path, times), "utime")

    def truncate(self, path: AnyPath, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        self._run(calls.truncate(self._sftp, path, length), "truncate")

    def statvfs(self, path: AnyPath = ".") -> os.statvfs_result:
        """Return the numbers of a path's file system; OSError (EOPNOTSUPP) if the server cannot."""
        return self._run(calls.statvfs(self._sftp, path), "statvfs")

    # -- whole files

    def copy(
        self,
        src: AnyPath,
        dst: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
    ) -> int:
        """Copy a file on the server; return its size in bytes.

        The bytes stay there if the server has ``copy-data``, as OpenSSH since 9.0. Otherwise they
        come and go by this machine. A new file gets the permissions of `src`.

        Args:
            progress: is called with the bytes so far and in all; see `get`.

        Raises:
            shutil.SameFileError: both paths are the same.
        """
        with show_bars(progress, "copy") as tell:
            op = calls.copy(self._sftp, src, dst, tell)
            return self._run(op, "copy", timeout)

    def get(
        self,
        remote: AnyPath,
        local: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a remote file to a local one; return its size in bytes.

        The local file is made, or emptied, once the remote one is open. A transfer that fails
        leaves there what had arrived, and the error's `.transferred` says how many bytes.

        Args:
            progress: is called with the bytes so far and in all, at most every 100 ms and once
                at the end; what it raises stops the transfer. True shows bars on a terminal
                (needs `rich`).
            resume: go on where an earlier transfer stopped: what the local file has is kept if
                it is no longer than the remote one and its last 4 MiB are the same there.
                Otherwise everything is copied.
        """
        with show_bars(progress, "download") as tell:
            limit = self._run.limit(timeout)[1]
            op = calls.get(self._sftp, remote, local, tell, limit, resume=resume)
            return self._run(op, "download", timeout)

    def get_bytes(
        self,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
        max_output: int | None = None,
    ) -> bytes:
        """Return the contents of a remote file; OutputLimitExceeded beyond `max_output` bytes."""
        with show_bars(progress, "download") as tell:
            most = check_max_output(max_output)
            op = calls.fetch(self._sftp, remote, tell, self._run.limit(timeout)[1], most)
            return self._run(op, "download", timeout)

    def put(
        self,
        local: AnyPath,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a local file to a remote one; return its size in bytes. Otherwise as `get`."""
        with show_bars(progress, "upload") as tell:
            limit = self._run.limit(timeout)[1]
            op = calls.put(self._sftp, local, remote, tell, limit, resume=resume)
            return self._run(op, "upload", timeout)

    def put_bytes(
        self,
        data: bytes | bytearray | memoryview,
        remote: AnyPath,
        *,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
    ) -> int:
        """Write a remote file; return its size in bytes."""
        with show_bars(progress, "upload") as tell:
            op = calls.store(self._sftp, data, remote, tell, self._run.limit(timeout)[1])
            return self._run(op, "upload", timeout)

    def put_dir(
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
        timeout: Milliseconds | None = None,
    ) -> TransferResult:
        """Copy the content of a local directory into a remote one, made with parents if need be.

        Args:
            follow_symlinks: copy the targets of links; with False, make the same links there.
            preserve_permissions: give files and new directories the permissions of their
                source.
            fail_fast: raise the first error instead of going on.
            preserve_times: give them its times, in whole seconds.
            preserve: with None, refused permissions or times of copied files are told by the
                result's `warnings` and the logger ``hussh.sftp``, once for all files; with
                ``"strict"`` each such file has failed.
            progress: as of `get`, with the bytes of all files. The second number is None until
                everything has been listed. True shows bars for bytes and for files.

        Returns:
            A pair of lists, see `TransferResult`: source paths of the files and links that were
                copied, and of those that were not; each of the latter is a str with an
                attribute `error`.

        Raises:
            OSError: there is no such directory, or the other cannot be made; with `fail_fast`,
                the first failure. Errors that end it all, such as ConnectionLost, have both
                lists so far as `.result`.
        """
        wanted = (follow_symlinks, preserve_permissions, preserve_times, fail_fast)
        strict, limit = calls.is_strict(preserve), self._run.limit(timeout)[1]
        with show_tree_bars(progress, "upload") as tell:
            op = calls.put_dir(self._sftp, local, remote, wanted, limit, strict, tell)
            return self._run(op, "upload", timeout)

    def get_dir(
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
        timeout: Milliseconds | None = None,
    ) -> TransferResult:
        """Copy the content of a remote directory into a local one; as `put_dir`.

        Nothing is written outside of the local directory: links below it are not followed, and
        names with a slash are refused.
        """
        wanted = (follow_symlinks, preserve_permissions, preserve_times, fail_fast)
        strict, limit = calls.is_strict(preserve), self._run.limit(timeout)[1]
        with show_tree_bars(progress, "download") as tell:
            op = calls.get_dir(self._sftp, remote, local, wanted, limit, strict, tell)
            return self._run(op, "download", timeout)

    def mirror(
        self,
        local: AnyPath,
        remote: AnyPath,
        *,
        delete: bool = False,
        exclude: AnyPath | Iterable[AnyPath] = (),
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
    ) -> MirrorResult:
        """Make a remote directory what a local one is; only what differs moves.

        Files count as the same if size and time (in whole seconds) are. Links stay links;
        permissions and times are kept. A file is replaced when the new one is complete. Links at
        the receiving end are replaced and never followed.

        Args:
            delete: remove what the source does not have, at the end. If a part of the source could
                not be read, nothing is removed, and the result's `warnings` say so.
            exclude: patterns of what is neither copied nor removed, by rsync's rules: ``*.tmp`` at
                any depth, ``/cache`` in the top directory only, ``logs/`` for directories, ``**``
                for any number of directories.
            preserve, progress: as of `put_dir`.

        Returns:
            A `MirrorResult`: the pair of `put_dir`, with `deleted` and `unchanged`.

        Raises:
            OSError: as `put_dir`.
        """
        strict, limit = calls.is_strict(preserve), self._run.limit(timeout)[1]
        wanted = calls.check_mirror(delete, exclude)
        with show_tree_bars(progress, "upload") as tell:
            op = calls.mirror(self._sftp, local, remote, wanted, limit, strict, tell)
            return self._run(op, "mirror", timeout)

    def mirror_back(
        self,
        remote: AnyPath,
        local: AnyPath,
        *,
        delete: bool = False,
        exclude: AnyPath | Iterable[AnyPath] = (),
        preserve: Preserve | None = None,
        progress: ShownProgress = None,
        timeout: Milliseconds | None = None,
    ) -> MirrorResult:
        """Make a local directory what a remote one is; as `mirror`.

        Nothing is written or removed outside of the local directory.
        """
        strict, limit = calls.is_strict(preserve), self._run.limit(timeout)[1]
        wanted = calls.check_mirror(delete, exclude)
        with show_tree_bars(progress, "download") as tell:
            op = calls.mirror_back(self._sftp, remote, local, wanted, limit, strict, tell)
            return self._run(op, "mirror", timeout)
