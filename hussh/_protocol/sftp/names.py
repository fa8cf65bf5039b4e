"""Answers questions about paths and directories in the way of `os`, from one or two requests.

`_api`, `glob.py` and `remove_tree.py` use it. Nothing here knows sockets or threads.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..._policy.remote_path import join
from ..._policy.sftp import AnyPath, SFTPAttributes, decode_path, encode_path, make_file_error
from ..core import Checkpoint, Op
from . import ops
from .file_types import Kind, find_kind, get_listed_type, run_inquiry
from .home import expands_home
from .request import Request
from .session import SftpState
from .wire import Name

__all__ = ["is_entry", "stat_entry", "exists", "get_file_system", "convert_like", "split_names"]

#: Bytes of a path below which directories are walked; PATH_MAX of Linux four times over.
LONGEST_PATH = 16 * 1024


def exists(sftp: SftpState, path: bytes) -> Op[bool]:
    try:
        yield from ops.stat(sftp, path)
    except FileNotFoundError:
        return False
    return True


def convert_like(path: AnyPath, op: Op[bytes]) -> Op[Any]:
    """Return a path that an operation found, in the type of another path."""
    found = yield from op
    return found if isinstance(os.fspath(path), bytes) else decode_path(found)


def get_file_system(sftp: SftpState, path: bytes) -> Op[os.statvfs_result]:
    numbers = yield from ops.statvfs(sftp, path)
    bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax = numbers
    return os.statvfs_result(
        (bsize, frsize, blocks, bfree, bavail, files, ffree, favail, flag, namemax, fsid)
    )


def split_names(sftp: SftpState, path: bytes, as_bytes: bool) -> Op[tuple[list[Any], list[Any]]]:
    """Return the names of directories in a directory, and of all else; links are among these."""
    if len(path) > LONGEST_PATH:
        reason = "directories lie in one another without end"
        raise make_file_error(errno.ELOOP, "list", path, reason=reason)
    found: list[Name] = yield from ops.list_names(sftp, path, lambda name: name)
    folders: list[Any] = []
    others: list[Any] = []
    for number, entry in enumerate(found, 1):
        if number % ops.NAMES_AT_ONCE == 0:
            yield Checkpoint()
        inner = join(path, entry.name)
        is_folder = yield from is_entry(sftp, inner, entry, modes.S_ISDIR, False)
        name = entry.name if as_bytes else decode_path(entry.name)
        (folders if is_folder else others).append(name)
    return folders, others


def stat_entry(sftp: SftpState, path: AnyPath, entry: Name, follow: bool) -> Op[SFTPAttributes]:
    """Return attributes with the type; ask the server only about links and unknown types."""
    listed = entry.attributes if get_listed_type(entry.attributes) else None
    attributes, kind = yield from _find_kind(
        sftp, encode_path(path), listed, entry.longname, follow
    )
    return replace(attributes, st_mode=modes.S_IMODE(attributes.st_mode) | kind)


def is_entry(
    sftp: SftpState, path: AnyPath, entry: Name, test: Callable[[int], bool], follow: bool
) -> Op[bool]:
    """Tell whether an entry is of some kind; False for a link to nothing, and a removed entry."""
    listed = entry.attributes
    try:
        _, kind = yield from _find_kind(sftp, encode_path(path), listed, entry.longname, follow)
    except FileNotFoundError:
        return False
    return test(kind)


@expands_home
def _find_kind(
    sftp: SftpState, path: bytes, listed: SFTPAttributes | None, longname: bytes, follow: bool
) -> Op[Kind]:
    found = yield from run_inquiry(sftp, find_kind(path, listed, longname, follow=follow))
    if isinstance(found, Request):
        raise (yield from ops.explain_present(sftp, found, "stat" if follow else "lstat", path))
    return found
