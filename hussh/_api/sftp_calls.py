"""Turns the arguments of `SFTP` and `AsyncSFTP` methods into operations.

Both classes call these functions. They check arguments at once, not when the operation runs. Paths
may be str, bytes or PathLike, and names come back in the same type.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from time import monotonic, time
from typing import Any, Literal

from .._policy.glob_pattern import Exclusion
from .._policy.sftp import (
    FILE_MOST,
    AnyPath,
    decode_path,
    encode_path,
    make_file_error,
)
from .._protocol.core import Op
from .._protocol.sftp import names, ops
from .._protocol.sftp.get_tree import get_tree
from .._protocol.sftp.glob import Glob
from .._protocol.sftp.home import run_at_home
from .._protocol.sftp.local_file import FileSink, FileSource, MemorySink, MemorySource
from .._protocol.sftp.mirror import Wanted
from .._protocol.sftp.mirror_get import mirror_get
from .._protocol.sftp.mirror_put import mirror_put
from .._protocol.sftp.put_tree import put_tree
from .._protocol.sftp.remove_tree import remove_tree
from .._protocol.sftp.resume import ResumedSink
from .._protocol.sftp.server_copy import copy_file, make_hard_link
from .._protocol.sftp.session import SftpState
from .._protocol.sftp.transfer import download, upload
from .._protocol.sftp.transfer_context import Meter, TransferContext
from .._protocol.sftp.tree import TreeCallback, TreeOptions
from .._protocol.sftp.wire import Name, encode_setting
from .._results.ssh_result import SSHResult
from .._results.transfer_result import FailedPath, MirrorResult, TransferResult
from ..errors import OutputLimitExceeded, Phase, SFTPError, SFTPTimeout, SFTPUnavailable
from .plan import Plan
from .transfer_bars import Progress

__all__ = [
    "COPY_BUFFER",
    "PathSearch",
    "Preserve",
    "check_destination",
    "check_longer",
    "check_other_file",
    "chmod",
    "chown",
    "copy",
    "exists",
    "fetch",
    "get",
    "get_dir",
    "is_strict",
    "link",
    "listdir",
    "encode_local_path",
    "mirror",
    "mirror_back",
    "make_not_begun_result",
    "is_same_server",
    "put",
    "put_dir",
    "readlink",
    "realpath",
    "rmtree",
    "split_names",
    "statvfs",
    "store",
    "truncate",
    "utime",
    "check_mirror",
]

#: How a file counts whose attributes are refused though its data is there.
Preserve = Literal["strict"]

#: Bytes that a copy from server to server holds at once.
COPY_BUFFER = 1 << 20


def exists(sftp: SftpState, path: AnyPath) -> Op[bool]:
    return names.exists(sftp, encode_path(path))


def listdir(sftp: SftpState, path: AnyPath) -> Op[list[Any]]:
    pick = _get_plain if isinstance(os.fspath(path), bytes) else _get_text
    return ops.list_names(sftp, encode_path(path), pick)


def split_names(sftp: SftpState, path: AnyPath) -> Op[tuple[list[Any], list[Any]]]:
    return names.split_names(sftp, encode_path(path), isinstance(os.fspath(path), bytes))


def readlink(sftp: SftpState, path: AnyPath) -> Op[Any]:
    return names.convert_like(path, ops.read_link(sftp, encode_path(path)))


def realpath(sftp: SftpState, path: AnyPath) -> Op[Any]:
    return names.convert_like(path, ops.resolve_path(sftp, encode_path(path)))


def chmod(sftp: SftpState, path: AnyPath, mode: int) -> Op[None]:
    return ops.set_attributes(sftp, encode_path(path), encode_setting(mode=mode & 0o7777), "chmod")


def chown(sftp: SftpState, path: AnyPath, uid: int, gid: int) -> Op[None]:
    return ops.change_owner(sftp, encode_path(path), _check_id("uid", uid), _check_id("gid", gid))


def utime(sftp: SftpState, path: AnyPath, times: tuple[float, float] | None) -> Op[None]:
    access, change = times if times is not None else (time(),) * 2
    to = encode_setting(times=(_check_seconds(access), _check_seconds(change)))
    return ops.set_attributes(sftp, encode_path(path), to, "utime")


def truncate(sftp: SftpState, path: AnyPath, length: int) -> Op[None]:
    if not 0 <= length < FILE_MOST:
        raise make_file_error(errno.EINVAL, "truncate", path)
    return ops.truncate(sftp, encode_path(path), length)


def rmtree(sftp: SftpState, path: AnyPath, ignore_errors: bool) -> Op[None]:
    return remove_tree(sftp, encode_path(path), bool(ignore_errors))


def link(sftp: SftpState, source: AnyPath, target: AnyPath) -> Op[None]:
    return make_hard_link(sftp, encode_path(source), encode_path(target))


def copy(sftp: SftpState, source: AnyPath, target: AnyPath, progress: Progress | None) -> Op[int]:
    """Copy a file on the server; return its size."""
    meter = Meter(progress, monotonic)
    return copy_file(sftp, encode_path(source), encode_path(target), meter)


class PathSearch:
    """A search for paths by a pattern, whose matches come in the type of the pattern."""

    def __init__(self, pattern: AnyPath) -> None:
        self._as_bytes = isinstance(os.fspath(pattern), bytes)
        self._glob = Glob(encode_path(pattern))

    def fetch_more(self, sftp: SftpState) -> Op[list[Any]]:
        """Return some paths; none at all at the end."""
        found = yield from self._glob.fetch_more(sftp)
        return found if self._as_bytes else [decode_path(path) for path in found]

    def fetch_all(self, sftp: SftpState) -> Op[list[Any]]:
        """Return all paths, sorted."""
        found: list[Any] = []
        while some := (yield from self.fetch_more(sftp)):
            found += some
        return sorted(found)


def statvfs(sftp: SftpState, path: AnyPath) -> Op[os.statvfs_result]:
    return names.get_file_system(sftp, encode_path(path))


# -- whole files and directories; `limit` is how an error words the time allowed


def get(
    sftp: SftpState,
    remote: AnyPath,
    local: AnyPath,
    progress: Progress | None,
    limit: str,
    *,
    resume: bool,
) -> Op[int]:
    """Copy into a local file; return its size."""
    sink = (ResumedSink if resume else FileSink)(encode_local_path(local))
    tell = progress

    def copy(path: bytes) -> Op[int]:
        context = TransferContext("download", path, sink.path, limit)
        return download(sftp, path, sink, context, monotonic, tell)

    return run_at_home(sftp, encode_path(remote), copy)


def fetch(
    sftp: SftpState,
    remote: AnyPath,
    progress: Progress | None,
    limit: str,
    max_output: int | None = None,
) -> Op[bytes]:
    """Copy into memory, no more than `max_output` bytes; beyond that the error has what came."""
    tell = progress
    return run_at_home(
        sftp, encode_path(remote), lambda path: _fetch(sftp, path, tell, limit, max_output)
    )


def _fetch(
    sftp: SftpState, remote: bytes, progress: Progress | None, limit: str, max_output: int | None
) -> Op[bytes]:
    sink = MemorySink()
    context = TransferContext("read", remote, None, limit)
    most = None if max_output is None else max_output + 1  # one byte more tells that there is more
    yield from download(sftp, remote, sink, context, monotonic, progress, most=most)
    if max_output is not None and len(sink.data) > max_output:
        raise OutputLimitExceeded(
            f"cannot read {decode_path(remote)!r}: it has more than {max_output} bytes "
            "(max_output)",
            result=SSHResult(sink.data[:max_output], truncated=True),
            phase=Phase.SFTP,
        )
    return sink.data


def put(
    sftp: SftpState,
    local: AnyPath,
    remote: AnyPath,
    progress: Progress | None,
    limit: str,
    *,
    resume: bool,
) -> Op[int]:
    """Copy from a local file; return its size."""
    path, tell = encode_local_path(local), progress

    def copy(to: bytes) -> Op[int]:
        context = TransferContext("upload", path, to, limit)
        return upload(sftp, lambda: FileSource(path), to, context, monotonic, tell, resume=resume)

    return run_at_home(sftp, encode_path(remote), copy)


def store(
    sftp: SftpState,
    data: bytes | bytearray | memoryview,
    remote: AnyPath,
    progress: Progress | None,
    limit: str,
) -> Op[int]:
    """Copy from memory; return its size."""
    tell = progress

    def copy(to: bytes) -> Op[int]:
        context = TransferContext("write", None, to, limit)
        return upload(sftp, lambda: MemorySource(data), to, context, monotonic, tell)

    return run_at_home(sftp, encode_path(remote), copy)


def is_strict(preserve: object) -> bool:
    """Tell whether `preserve` is "strict"; raise ValueError for what it cannot be."""
    if preserve not in (None, "strict"):
        raise ValueError(f'preserve must be None or "strict", not {preserve!r}')
    return preserve is not None


def put_dir(
    sftp: SftpState,
    local: AnyPath,
    remote: AnyPath,
    options: tuple[bool, bool, bool, bool],
    limit: str,
    strict: bool,
    progress: TreeCallback | None = None,
) -> Op[TransferResult]:
    """Copy a directory to the server; `options` are the first four of `TreeOptions`."""
    asked = TreeOptions(*options, limit, monotonic, strict, progress)
    source = encode_local_path(local)
    return run_at_home(sftp, encode_path(remote), lambda to: put_tree(sftp, source, to, asked))


def get_dir(
    sftp: SftpState,
    remote: AnyPath,
    local: AnyPath,
    options: tuple[bool, bool, bool, bool],
    limit: str,
    strict: bool,
    progress: TreeCallback | None = None,
) -> Op[TransferResult]:
    """Copy a directory from the server; `options` as for `put_dir`."""
    asked = TreeOptions(*options, limit, monotonic, strict, progress)
    target = encode_local_path(local)
    return run_at_home(sftp, encode_path(remote), lambda path: get_tree(sftp, path, target, asked))


def mirror(
    sftp: SftpState,
    local: AnyPath,
    remote: AnyPath,
    wanted: Wanted,
    limit: str,
    strict: bool,
    progress: TreeCallback | None,
) -> Op[MirrorResult]:
    """Make a remote directory what a local one is."""
    asked = _make_mirror_options(limit, strict, progress)
    source = encode_local_path(local)
    return run_at_home(
        sftp, encode_path(remote), lambda to: mirror_put(sftp, source, to, asked, wanted)
    )


def mirror_back(
    sftp: SftpState,
    remote: AnyPath,
    local: AnyPath,
    wanted: Wanted,
    limit: str,
    strict: bool,
    progress: TreeCallback | None,
) -> Op[MirrorResult]:
    """Make a local directory what a remote one is."""
    asked = _make_mirror_options(limit, strict, progress)
    target = encode_local_path(local)
    return run_at_home(
        sftp, encode_path(remote), lambda path: mirror_get(sftp, path, target, asked, wanted)
    )


def _make_mirror_options(limit: str, strict: bool, progress: TreeCallback | None) -> TreeOptions:
    return TreeOptions(
        follow_symlinks=False, preserve_permissions=True, preserve_times=True, fail_fast=False,
        limit=limit, clock=monotonic, strict=strict, progress=progress,
    )  # fmt: skip


def check_mirror(delete: bool, exclude: AnyPath | Iterable[AnyPath]) -> Wanted:
    """Return what a mirror is to do; raise TypeError or ValueError for patterns that are none."""
    return Wanted(bool(delete), Exclusion(exclude))


def make_not_begun_result(error: SFTPError, source: AnyPath, fail_fast: bool) -> TransferResult:
    """Return what hussh 0.3.3 returned if one of the two directories is not available.

    It raises the error with `fail_fast`, and if it is about no file (time-outs, no SFTP).
    """
    begun = error.result is not None
    if fail_fast or begun or isinstance(error, SFTPTimeout | SFTPUnavailable):
        raise error
    return TransferResult([], [FailedPath.of(decode_path(encode_path(source)), error)])


# -- from server to server


def check_destination(dest: object, kind: type, noun: str) -> None:
    """Raise TypeError if the destination is not of a class, which the error calls `noun`."""
    if not isinstance(dest, kind):
        raise TypeError(f"dest_conn must be {noun}, not {type(dest).__name__}")


def is_same_server(one: Plan[Any], other: Plan[Any]) -> bool:
    """Tell whether these certainly lead to one server; an equal address may be another."""
    ways = [[(hop.host, hop.port) for hop in plan.route] for plan in (one, other)]
    return one is other or (
        ways[0] == ways[1] and one.proxy_command is None and other.proxy_command is None
    )


def check_other_file(source: AnyPath, target: AnyPath, real: tuple[AnyPath, AnyPath]) -> None:
    """Raise shutil.SameFileError if the `real` paths are the same."""
    if encode_path(real[0]) == encode_path(real[1]):
        from shutil import SameFileError  # slow to import, and hardly ever needed

        text = "it would be copied onto itself"
        raise SameFileError(errno.EINVAL, text, source, None, target)


def check_longer(error: SFTPError, size: int | None, copied: int, source: int | None) -> None:
    """Raise the error of a destination that could not be cut, unless it may be emptied.

    Args:
        size: that of the destination before; None if it is not known.
        copied: bytes that the source had.
        source: its size now; while they are one file, that is no less than `size`.
    """
    if error.status is None or size is None or source != copied:
        raise error


def encode_local_path(path: AnyPath) -> bytes:
    return os.fsencode(os.path.expanduser(path))


def _check_id(what: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{what} must be an int, not {type(value).__name__}")
    if not -1 <= value < 1 << 32:
        raise ValueError(f"{what} must be from 0 to 2**32 - 1, or -1 to leave it as it is")
    return value


def _check_seconds(value: float) -> int:
    seconds = int(value)
    if not 0 <= seconds < 1 << 32:
        raise ValueError("a time must be between 1970 and 2106")
    return seconds


def _get_plain(name: Name) -> bytes:
    return name.name


def _get_text(name: Name) -> str:
    return decode_path(name.name)
