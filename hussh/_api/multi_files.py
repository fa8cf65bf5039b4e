"""File operations on many hosts: what one host does; the facades for many hosts import it.

Arguments are checked here, once and before anything is opened.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from .._policy.sftp import AnyPath, encode_path
from .arguments import check_number
from .async_connection import AsyncConnection

__all__ = ["LocalPath", "Move", "read", "write", "write_data"]

#: The same path for all hosts, or a function from host to path.
LocalPath: TypeAlias = "AnyPath | Callable[[str], AnyPath]"

#: The operation's name, and the operation.
Move = tuple[str, Callable[[AsyncConnection], Awaitable["bytes | str | None"]]]


def read(remote_path: AnyPath, local_path: LocalPath | None, timeout: float | None) -> Move:
    encode_path(remote_path)
    _check_timeout(timeout)
    if local_path is not None and not callable(local_path):
        _check_local(local_path)

    async def move(connection: AsyncConnection) -> bytes | str:
        to = local_path(connection.host) if callable(local_path) else local_path
        return await connection.sftp_read(remote_path, to, encoding=None, timeout=timeout)

    return "sftp_read", move


def write(local_path: AnyPath, remote_path: AnyPath | None, timeout: float | None) -> Move:
    _check_local(local_path)
    encode_path(local_path if remote_path is None else remote_path)
    _check_timeout(timeout)

    async def move(connection: AsyncConnection) -> None:
        await connection.sftp_write(local_path, remote_path, timeout=timeout)

    return "sftp_write", move


def write_data(data: str | bytes, remote_path: AnyPath, timeout: float | None) -> Move:
    raw = data.encode() if isinstance(data, str) else bytes(data)
    encode_path(remote_path)
    _check_timeout(timeout)

    async def move(connection: AsyncConnection) -> None:
        await connection.sftp_write_data(raw, remote_path, timeout=timeout)

    return "sftp_write_data", move


def _check_local(path: AnyPath) -> None:
    os.fsencode(os.path.expanduser(path))


def _check_timeout(timeout: float | None) -> None:
    if timeout is not None:
        check_number(timeout, "seconds")
