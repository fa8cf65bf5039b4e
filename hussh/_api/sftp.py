"""`SFTP`: files on the server, named as `os` names them; one-line methods over operations.

`Connection.sftp` makes one; the transfers here are also `Connection.sftp_read` and its kin.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from shutil import SameFileError
from time import monotonic, time
from typing import IO, TYPE_CHECKING, Any, TypeVar, overload

from .._policy.sftp import AnyPath, SFTPAttributes, decode_path, encode_path, file_error
from .._protocol import sftp_ops as ops
from .._protocol.core import Op
from .._protocol.sftp_channel import LinkOpener, Sftp
from .._protocol.sftp_get_tree import get_tree
from .._protocol.sftp_local import FileSink, FileSource, MemorySink, MemorySource
from .._protocol.sftp_put_tree import put_tree
from .._protocol.sftp_resume import ResumedSink
from .._protocol.sftp_transfer import Way, download, upload
from .._protocol.sftp_tree import TreeOptions
from .._protocol.sftp_wire import Name, setting
from ..errors import SFTPError
from .arguments import check_number
from .sftp_file import ScandirIterator, open_file

if TYPE_CHECKING:
    from .._drive.connect import Session
    from .connection import Connection

__all__ = ["SFTP", "copy", "new_sftp"]

T = TypeVar("T")
Progress = Callable[[int, "int | None"], object]

#: Bytes that a copy from server to server holds at once.
COPY_BUFFER = 1 << 20


def new_sftp(session: Session) -> Sftp:
    """What a connection keeps of SFTP; opens nothing yet."""
    return Sftp(LinkOpener(session.link))


class SFTP:
    """The files of one connection's server.

    Paths are str (UTF-8, with `os.fsdecode`'s surrogates for other bytes), bytes or
    PathLike; names come back in the type of the path that was asked about.  All
    methods may be called from any number of threads; all share one channel.

    `timeout` is in **milliseconds**; None: the connection's; 0: no limit.

    Raises (all methods):
        SFTPError: an OSError with `.errno`; also a FileNotFoundError,
            PermissionError, FileExistsError … where that fits.
        SFTPTimeout: also a TimeoutError; the connection stays usable.
        SFTPUnavailable: the server has no SFTP.
        ConnectionLost, ConnectionClosed: as everywhere.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sftp: Sftp = connection._sftp

    def __repr__(self) -> str:
        return f"<SFTP of {self._connection!r}>"

    def _run(self, op: Op[T], doing: str, timeout: int | None = None) -> T:
        seconds, limit = self._limit(timeout)
        deadline = monotonic() + seconds if seconds else None
        return self._connection._live().run(ops.within(op, doing, limit), deadline, "sftp")

    def _limit(self, timeout: int | None) -> tuple[float, str]:
        """Seconds, and how an error words them."""
        given = self._connection.timeout if timeout is None else timeout
        milliseconds = check_number(given, "milliseconds")
        return milliseconds / 1000, f" after {milliseconds} ms"

    # -- files and directories

    def open(
        self,
        path: AnyPath,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> IO[Any]:
        """Open a file as the built-in `open` does; text is UTF-8 unless `encoding` says otherwise.

        Sequential reading fetches ahead, and writing does not wait for the server until `flush`
        or `close`, which also raise what went wrong.  buffering=0 gives the raw file.
        """
        raw = open_file(self, path, mode, self._run)
        try:
            return _wrapped(raw, mode, buffering, encoding, errors, newline)
        except BaseException:
            raw.close()
            raise

    def stat(self, path: AnyPath) -> SFTPAttributes:
        """Attributes of what a path leads to."""
        return self._run(ops.stat(self._sftp, encode_path(path)), "stat")

    def lstat(self, path: AnyPath) -> SFTPAttributes:
        """As `stat`, of a link itself."""
        return self._run(ops.lstat(self._sftp, encode_path(path)), "lstat")

    def exists(self, path: AnyPath) -> bool:
        """Whether a path leads to something; False also where only a link to nothing is."""
        try:
            self.stat(path)
        except FileNotFoundError:
            return False
        return True

    @overload
    def listdir(self, path: bytes) -> list[bytes]: ...
    @overload
    def listdir(self, path: str | os.PathLike[str] = ".") -> list[str]: ...
    def listdir(self, path: Any = ".") -> Any:
        """Names in a directory, in no order, without "." and ".."."""
        pick = _plain if isinstance(os.fspath(path), bytes) else _text
        return self._run(ops.list_names(self._sftp, encode_path(path), pick), "list")

    def scandir(self, path: AnyPath = ".") -> ScandirIterator:
        """Entries of a directory with what the server tells of them, fetched as needed."""
        return ScandirIterator(self, path, self._run)

    def walk(self, top: AnyPath = ".") -> Iterator[tuple[Any, list[Any], list[Any]]]:
        """As `os.walk` from the top down; links to directories are not followed."""
        with self.scandir(top) as entries:
            found = list(entries)
        folders = [entry for entry in found if entry.is_dir(follow_symlinks=False)]
        names = [entry.name for entry in found if not entry.is_dir(follow_symlinks=False)]
        left = [entry.name for entry in folders]
        yield os.fspath(top), left, names
        for entry in folders:
            if entry.name in left:
                yield from self.walk(entry.path)

    def mkdir(self, path: AnyPath, mode: int = 0o777) -> None:
        """Make a directory."""
        self._run(ops.make_directory(self._sftp, encode_path(path), mode), "mkdir")

    def makedirs(self, path: AnyPath, mode: int = 0o777, exist_ok: bool = False) -> None:
        """Make a directory and the parents that it lacks."""
        op = ops.make_directories(self._sftp, encode_path(path), mode, exist_ok)
        self._run(op, "makedirs")

    def remove(self, path: AnyPath) -> None:
        """Remove a file or a link."""
        self._run(ops.remove(self._sftp, encode_path(path)), "remove")

    unlink = remove

    def rmdir(self, path: AnyPath) -> None:
        """Remove an empty directory."""
        self._run(ops.remove_directory(self._sftp, encode_path(path)), "rmdir")

    def rename(self, src: AnyPath, dst: AnyPath) -> None:
        """Rename; replaces a file at `dst` in one step where the server can, else fails there."""
        self._run(ops.rename(self._sftp, encode_path(src), encode_path(dst)), "rename")

    replace = rename

    def symlink(self, src: AnyPath, dst: AnyPath) -> None:
        """Make a link `dst` that leads to `src`."""
        self._run(ops.symlink(self._sftp, encode_path(src), encode_path(dst)), "symlink")

    def readlink(self, path: AnyPath) -> Any:
        """Where a link leads, in the type of `path`."""
        return _like(path, self._run(ops.read_link(self._sftp, encode_path(path)), "readlink"))

    def realpath(self, path: AnyPath = ".") -> Any:
        """The absolute path without links, in the type of `path`."""
        return _like(path, self._run(ops.real_path(self._sftp, encode_path(path)), "realpath"))

    def chmod(self, path: AnyPath, mode: int) -> None:
        """Set the permissions of a file."""
        self._set(path, setting(mode=mode & 0o7777), "chmod")

    def chown(self, path: AnyPath, uid: int, gid: int) -> None:
        """Set owner and group."""
        self._set(path, setting(owner=(uid, gid)), "chown")

    def utime(self, path: AnyPath, times: tuple[float, float] | None = None) -> None:
        """Set the times of last access and change, in whole seconds; None: now."""
        access, change = times if times is not None else (time(),) * 2
        self._set(path, setting(times=(_seconds(access), _seconds(change))), "utime")

    def truncate(self, path: AnyPath, length: int) -> None:
        """Cut or extend a file to `length` bytes."""
        if length < 0:
            raise file_error(errno.EINVAL, "truncate", path)
        self._set(path, setting(size=length), "truncate")

    def _set(self, path: AnyPath, to: bytes, doing: str) -> None:
        self._run(ops.set_attributes(self._sftp, encode_path(path), to, doing), doing)

    def statvfs(self, path: AnyPath = ".") -> os.statvfs_result:
        """The file system that a path is on; OSError (EOPNOTSUPP) where the server cannot tell."""
        numbers = self._run(ops.statvfs(self._sftp, encode_path(path)), "statvfs")
        bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax = numbers
        return os.statvfs_result(
            (bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax, fsid)
        )

    # -- whole files

    def get(
        self,
        remote: AnyPath,
        local: AnyPath,
        *,
        progress: Progress | None = None,
        timeout: int | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a remote file to a local one; returns its size in bytes.

        The local file is made, or emptied, once the remote one is open.  When the transfer
        fails, what had arrived stays there, and the error's `.transferred` says how much.

        Args:
            progress: called with the bytes so far and in all, at most every 100 ms and once
                at the end; what it raises stops the transfer.
            resume: go on where an earlier transfer stopped: what the local file has is kept if
                it is no longer than the remote one and its last 4 MiB are the same there.
                Otherwise everything is copied.
        """
        sink = (ResumedSink if resume else FileSink)(_local(local))
        return self._download(encode_path(remote), sink, sink.path, progress, timeout)

    def get_bytes(
        self, remote: AnyPath, *, progress: Progress | None = None, timeout: int | None = None
    ) -> bytes:
        """The contents of a remote file."""
        sink = MemorySink()
        self._download(encode_path(remote), sink, None, progress, timeout)
        return sink.data

    def put(
        self,
        local: AnyPath,
        remote: AnyPath,
        *,
        progress: Progress | None = None,
        timeout: int | None = None,
        resume: bool = False,
    ) -> int:
        """Copy a local file to a remote one; returns its size in bytes.  As `get` otherwise."""
        path = _local(local)
        return self._upload(lambda: FileSource.open(path), path, remote, progress, timeout, resume)

    def put_bytes(
        self,
        data: bytes | bytearray | memoryview,
        remote: AnyPath,
        *,
        progress: Progress | None = None,
        timeout: int | None = None,
    ) -> int:
        """Write a remote file; returns its size in bytes."""
        return self._upload(lambda: MemorySource(data), None, remote, progress, timeout)

    def put_dir(
        self,
        local: AnyPath,
        remote: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        timeout: int | None = None,
    ) -> tuple[list[str], list[str]]:
        """Copy what lies in a local directory into a remote one, made with its parents if need be.

        Args:
            follow_symlinks: copy what links lead to; False: make the same links there.
            preserve_permissions: give files and new directories the permissions of their source.
            fail_fast: raise the first error instead of going on.
            preserve_times: give them its times, in whole seconds.

        Returns:
            Source paths of the files and links that were copied, and of what was not; each of
            the latter is a str with an attribute `error`.

        Raises:
            OSError: there is no such directory, or the other cannot be made; with `fail_fast`,
                what failed first.  Errors that end it all, such as ConnectionLost, have both
                lists so far as `.result`.
        """
        return self._tree(
            put_tree, _local(local), encode_path(remote), "upload",
            (follow_symlinks, preserve_permissions, preserve_times, fail_fast), timeout,
        )  # fmt: skip

    def get_dir(
        self,
        remote: AnyPath,
        local: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        timeout: int | None = None,
    ) -> tuple[list[str], list[str]]:
        """Copy what lies in a remote directory into a local one; as `put_dir`.

        Nothing is written outside of the local directory: links below it are not followed,
        and names with a slash are refused.
        """
        return self._tree(
            get_tree, encode_path(remote), _local(local), "download",
            (follow_symlinks, preserve_permissions, preserve_times, fail_fast), timeout,
        )  # fmt: skip

    def _tree(
        self,
        copy: Callable[[Sftp, bytes, bytes, TreeOptions], Op[tuple[list[str], list[str]]]],
        source: bytes,
        target: bytes,
        doing: str,
        options: tuple[bool, bool, bool, bool],
        timeout: int | None,
    ) -> tuple[list[str], list[str]]:
        asked = TreeOptions(*options, self._limit(timeout)[1], monotonic)
        return self._run(copy(self._sftp, source, target, asked), doing, timeout)

    def _download(
        self,
        remote: bytes,
        sink: FileSink | MemorySink,
        local: bytes | None,
        progress: Progress | None,
        timeout: int | None,
    ) -> int:
        way = Way("read" if local is None else "download", remote, local, self._limit(timeout)[1])
        op = download(self._sftp, remote, sink, way, monotonic, _callback(progress))
        return self._run(op, "download", timeout)

    def _upload(
        self,
        source: Callable[[], FileSource | MemorySource],
        local: bytes | None,
        remote: AnyPath,
        progress: Progress | None,
        timeout: int | None,
        resume: bool = False,
    ) -> int:
        path = encode_path(remote)
        way = Way("write" if local is None else "upload", local, path, self._limit(timeout)[1])
        op = upload(self._sftp, source, path, way, monotonic, _callback(progress), resume=resume)
        return self._run(op, "upload", timeout)


def copy(source: SFTP, source_path: AnyPath, dest: SFTP, dest_path: AnyPath) -> None:
    """From server to server: read ahead on one side, written behind on the other."""
    if _one_server(source._connection, dest._connection):
        _check_distinct(source, source_path, dest, dest_path)
    buffer = memoryview(bytearray(COPY_BUFFER))
    with (
        source.open(source_path, "rb", buffering=0) as reader,
        dest.open(dest_path, "wb", buffering=0) as writer,
    ):
        while count := reader.readinto(buffer):  # type: ignore[attr-defined]
            writer.write(buffer[:count])


def _one_server(one: Connection, other: Connection) -> bool:
    """Whether these certainly lead to one server; the same address elsewhere may be another."""
    if one is other:
        return True
    ways = [[(hop.host, hop.port) for hop in each._plan.route] for each in (one, other)]
    return ways[0] == ways[1] and one.proxy_command is other.proxy_command is None


def _check_distinct(source: SFTP, source_path: AnyPath, dest: SFTP, dest_path: AnyPath) -> None:
    """Opening the destination would empty the source, were it the same file."""
    try:
        same = source.realpath(os.fsencode(source_path)) == dest.realpath(os.fsencode(dest_path))
    except SFTPError:
        return  # one of them is not there, or the server cannot tell
    if same:
        raise SameFileError(
            errno.EINVAL, "source and destination are the same file", source_path, None, dest_path
        )


def _callback(progress: Progress | None) -> Progress | None:
    if progress is not None and not callable(progress):
        raise TypeError("progress must be callable")
    return progress


def _local(path: AnyPath) -> bytes:
    return os.fsencode(os.path.expanduser(path))


def _seconds(value: float) -> int:
    seconds = int(value)
    if not 0 <= seconds < 1 << 32:
        raise ValueError("a time must be between 1970 and 2106")
    return seconds


def _plain(name: Name) -> bytes:
    return name.name


def _text(name: Name) -> str:
    return decode_path(name.name)


def _like(path: AnyPath, found: bytes) -> str | bytes:
    return found if isinstance(os.fspath(path), bytes) else decode_path(found)


def _wrapped(
    raw: Any,
    mode: str,
    buffering: int,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> IO[Any]:
    text = "b" not in mode
    if buffering == 0:
        if text:
            raise ValueError("text must be buffered")
        return raw  # type: ignore[no-any-return]
    size = buffering if buffering > 1 else 256 * 1024
    buffered: Any
    if raw.readable() and raw.writable():
        buffered = io.BufferedRandom(raw, size)
    elif raw.writable():
        buffered = io.BufferedWriter(raw, size)
    else:
        buffered = io.BufferedReader(raw, size)
    if not text:
        return buffered  # type: ignore[no-any-return]
    return io.TextIOWrapper(buffered, encoding or "utf-8", errors, newline, buffering == 1)
