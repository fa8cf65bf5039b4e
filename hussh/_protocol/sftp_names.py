"""Questions about paths and directories that take a look at the answer, as `os` gives it."""

from __future__ import annotations

import os
import stat as modes
from collections.abc import Callable
from typing import Any

from .._policy.sftp import AnyPath, SFTPAttributes, decode_path, encode_path
from . import sftp_ops as ops
from .core import Op
from .sftp_channel import Sftp
from .sftp_wire import Name

__all__ = ["entry_is", "entry_stat", "exists", "file_system", "like", "sorted_out"]


def exists(sftp: Sftp, path: bytes) -> Op[bool]:
    try:
        yield from ops.stat(sftp, path)
    except FileNotFoundError:
        return False
    return True


def like(path: AnyPath, op: Op[bytes]) -> Op[Any]:
    """A path that an operation finds, in the type of another."""
    found = yield from op
    return found if isinstance(os.fspath(path), bytes) else decode_path(found)


def file_system(sftp: Sftp, path: bytes) -> Op[os.statvfs_result]:
    numbers = yield from ops.statvfs(sftp, path)
    bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax = numbers
    return os.statvfs_result(
        (bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax, fsid)
    )


def sorted_out(sftp: Sftp, path: bytes, as_bytes: bool) -> Op[tuple[list[Any], list[Any]]]:
    """The names of the directories in a directory, and of everything else; links are of these."""
    found: list[Name] = yield from ops.list_names(sftp, path, lambda name: name)
    folders: list[Any] = []
    others: list[Any] = []
    for entry in found:
        inner = os.path.join(path, entry.name)
        is_folder = yield from entry_is(sftp, inner, entry.attributes, modes.S_ISDIR, False)
        name = entry.name if as_bytes else decode_path(entry.name)
        (folders if is_folder else others).append(name)
    return folders, others


def entry_stat(
    sftp: Sftp, path: AnyPath, known: SFTPAttributes, follow: bool
) -> Op[SFTPAttributes]:
    """Attributes; asks the server only about links, and where it told no type."""
    if known.st_mode and not (follow and modes.S_ISLNK(known.st_mode)):
        return known
    return (yield from (ops.stat if follow else ops.lstat)(sftp, encode_path(path)))


def entry_is(
    sftp: Sftp, path: AnyPath, known: SFTPAttributes, test: Callable[[int], bool], follow: bool
) -> Op[bool]:
    """Whether an entry is of some kind; False for a link to nothing, and what was removed since."""
    try:
        return test((yield from entry_stat(sftp, path, known, follow)).st_mode)
    except FileNotFoundError:
        return False
