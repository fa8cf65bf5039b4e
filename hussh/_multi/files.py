"""File operations on many hosts: what is done on one host.

Both classes for many hosts import it. Arguments are checked here, once and before anything is
opened. A local file takes the contents of one host only, because two that write to it at once would
leave a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import TypeAlias

from .._api.arguments import check_memory_only, check_plain_function
from .._api.async_connection import AsyncConnection
from .._policy.sftp import AnyPath, encode_path
from .._runtime.async_workers import in_thread
from .._runtime.loop_tools import this_loop
from ..errors import SFTPExistsError

__all__ = ["LocalPath", "Move", "read", "write", "write_data"]

#: The same path for all hosts, or a function from host to path.
LocalPath: TypeAlias = "AnyPath | Callable[[str], AnyPath]"

#: The operation's name, its limit in seconds, and the operation, with what is left of that.
Move = tuple[
    str,
    "float | None",
    Callable[[AsyncConnection, "float | None"], Awaitable["bytes | str | None"]],
]


def read(
    remote_path: AnyPath,
    local_path: LocalPath | None,
    timeout: float | None,
    max_output: int | None = None,
) -> Move:
    encode_path(remote_path)
    check_memory_only(max_output, local_path)
    check_plain_function(local_path, "local_path")
    if local_path is not None and not callable(local_path):
        os.fspath(local_path)  # or its TypeError, before anything is opened
    taken: dict[bytes, list[str]] = {}

    async def move(connection: AsyncConnection, left: float | None) -> bytes | str:
        to = local_path(connection.host) if callable(local_path) else local_path
        if to is None:
            return await connection.sftp_read(
                remote_path, encoding=None, timeout=left, max_output=max_output
            )
        name = await in_thread(this_loop(), partial(_exclusive, to))
        with _taking(name, [connection.host], taken):
            return await connection.sftp_read(remote_path, to, encoding=None, timeout=left)

    return "sftp_read", timeout, move


def write(local_path: AnyPath, remote_path: AnyPath | None, timeout: float | None) -> Move:
    os.fspath(local_path)  # or its TypeError, before anything is opened
    encode_path(local_path if remote_path is None else remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.sftp_write(local_path, remote_path, timeout=left)

    return "sftp_write", timeout, move


def write_data(data: str | bytes, remote_path: AnyPath, timeout: float | None) -> Move:
    # Not bytes(data): that makes a number that many NULs.
    raw = data.encode() if isinstance(data, str) else bytes(memoryview(data))
    encode_path(remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.sftp_write_data(raw, remote_path, timeout=left)

    return "sftp_write_data", timeout, move


def _exclusive(path: AnyPath) -> bytes | None:
    """Return the file that one host alone may write to; None if all may.

    A device takes what all hosts have; a directory has its own error.
    """
    name = os.path.realpath(os.fsencode(os.path.expanduser(path)))
    return None if os.path.exists(name) and not os.path.isfile(name) else name


@contextlib.contextmanager
def _taking(
    name: bytes | None, own: list[str], taken: dict[bytes, list[str]]
) -> Generator[None, None, None]:
    """Keep a local file for one result, unless that fails; SFTPExistsError for any other."""
    if name is None:
        yield
        return
    first = taken.setdefault(name, own)  # atomic: the hosts may be in several loops
    if first is not own:
        raise SFTPExistsError(
            f"cannot write to {os.fsdecode(name)!r}: it gets the file of {first[0]}; "
            "give a function from host to path as local_path",
            errno=errno.EEXIST,
        )
    try:
        yield
    except BaseException:
        del taken[name]
        raise
