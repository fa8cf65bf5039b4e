"""File operations on many hosts: what is done on one host.

`multi_files.py` and `async_multi_files.py` import it. Arguments are checked here, once and before
anything is opened. A local file takes the contents of one host only, because two that write to it
at once would leave a mixture.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from typing import NamedTuple, TypeAlias

from .._api.arguments import check_memory_only, check_plain_function
from .._api.async_connection import AsyncConnection
from .._api.sftp_calls import Preserve, is_strict
from .._policy.connection_options import Seconds
from .._policy.sftp import AnyPath, encode_path
from .._results.transfer_result import TransferResult
from .._runtime.async_workers import run_in_thread
from .._runtime.loop_tools import this_loop
from ..errors import SFTPExistsError

__all__ = [
    "LocalPath",
    "Move",
    "TreeArguments",
    "get_dir",
    "put_dir",
    "read",
    "scp_read",
    "scp_write",
    "scp_write_data",
    "write",
    "write_data",
]

#: The same path for all hosts, or a function from host to path.
LocalPath: TypeAlias = AnyPath | Callable[[str], AnyPath]

#: The operation's name, its limit in seconds, and the operation, with what is left of that.
Move = tuple[
    str,
    "Seconds | None",
    Callable[[AsyncConnection, "float | None"], Awaitable["bytes | str | TransferResult | None"]],
]


class TreeArguments(NamedTuple):
    """How a directory is copied; see `AsyncConnection.sftp_put_dir`."""

    follow_symlinks: bool
    preserve_permissions: bool
    fail_fast: bool
    preserve_times: bool
    preserve: Preserve | None


def read(
    remote_path: AnyPath,
    local_path: LocalPath | None,
    timeout: Seconds | None,
    max_output: int | None = None,
) -> Move:
    check_memory_only(max_output, local_path)

    async def fetch(
        connection: AsyncConnection, to: AnyPath | None, left: float | None
    ) -> bytes | str:
        return await connection.sftp_read(
            remote_path, to, encoding=None, timeout=left, max_output=max_output
        )

    return "sftp_read", timeout, _make_reading(remote_path, local_path, fetch)


def scp_read(remote_path: AnyPath, local_path: LocalPath | None, timeout: Seconds | None) -> Move:
    async def fetch(
        connection: AsyncConnection, to: AnyPath | None, left: float | None
    ) -> bytes | str:
        return await connection.scp_read(remote_path, to, encoding=None, timeout=left)

    return "scp_read", timeout, _make_reading(remote_path, local_path, fetch)


def _make_reading(
    remote_path: AnyPath,
    local_path: LocalPath | None,
    fetch: Callable[[AsyncConnection, AnyPath | None, float | None], Awaitable[bytes | str]],
) -> Callable[[AsyncConnection, float | None], Awaitable[bytes | str]]:
    encode_path(remote_path)
    _check_local(local_path)
    taken: dict[bytes, list[str]] = {}

    async def move(connection: AsyncConnection, left: float | None) -> bytes | str:
        to = local_path(connection.host) if callable(local_path) else local_path
        if to is None:
            return await fetch(connection, None, left)
        name = await run_in_thread(this_loop(), partial(_find_exclusive, to))
        with _keep_taken(name, [connection.host], taken):
            return await fetch(connection, to, left)

    return move


def put_dir(
    local_path: AnyPath, remote_path: AnyPath, how: TreeArguments, timeout: Seconds | None
) -> Move:
    os.fspath(local_path)  # or its TypeError, before anything is opened
    encode_path(remote_path)
    is_strict(how.preserve)

    async def move(connection: AsyncConnection, left: float | None) -> TransferResult:
        return await connection.sftp_put_dir(local_path, remote_path, timeout=left, **how._asdict())

    return "sftp_put_dir", timeout, move


def get_dir(
    remote_path: AnyPath, local_path: LocalPath, how: TreeArguments, timeout: Seconds | None
) -> Move:
    encode_path(remote_path)
    if local_path is None:
        raise TypeError("local_path is missing")
    _check_local(local_path)
    is_strict(how.preserve)
    taken: dict[bytes, list[str]] = {}

    async def move(connection: AsyncConnection, left: float | None) -> TransferResult:
        to = local_path(connection.host) if callable(local_path) else local_path
        name = await run_in_thread(this_loop(), partial(_resolve, to))
        with _keep_taken(name, [connection.host], taken, "files"):
            return await connection.sftp_get_dir(remote_path, to, timeout=left, **how._asdict())

    return "sftp_get_dir", timeout, move


def _check_local(local_path: LocalPath | None) -> None:
    """Raise TypeError for what is neither a path nor a function, before anything is opened."""
    check_plain_function(local_path, "local_path")
    if local_path is not None and not callable(local_path):
        os.fspath(local_path)


def write(local_path: AnyPath, remote_path: AnyPath | None, timeout: Seconds | None) -> Move:
    os.fspath(local_path)  # or its TypeError, before anything is opened
    encode_path(local_path if remote_path is None else remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.sftp_write(local_path, remote_path, timeout=left)

    return "sftp_write", timeout, move


def write_data(data: str | bytes, remote_path: AnyPath, timeout: Seconds | None) -> Move:
    raw = _encode(data)
    encode_path(remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.sftp_write_data(raw, remote_path, timeout=left)

    return "sftp_write_data", timeout, move


def scp_write(local_path: AnyPath, remote_path: AnyPath, timeout: Seconds | None) -> Move:
    os.fspath(local_path)  # or its TypeError, before anything is opened
    encode_path(remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.scp_write(local_path, remote_path, timeout=left)

    return "scp_write", timeout, move


def scp_write_data(data: str | bytes, remote_path: AnyPath, timeout: Seconds | None) -> Move:
    raw = _encode(data)
    encode_path(remote_path)

    async def move(connection: AsyncConnection, left: float | None) -> None:
        await connection.scp_write_data(raw, remote_path, timeout=left)

    return "scp_write_data", timeout, move


def _encode(data: str | bytes) -> bytes:
    # Not bytes(data): that makes a number that many NULs.
    return data.encode() if isinstance(data, str) else bytes(memoryview(data))


def _resolve(path: AnyPath) -> bytes:
    return os.path.realpath(os.fsencode(os.path.expanduser(path)))


def _find_exclusive(path: AnyPath) -> bytes | None:
    """Return the file that one host alone may write to; None if all may.

    A device takes what all hosts have; a directory has its own error.
    """
    name = _resolve(path)
    return None if os.path.exists(name) and not os.path.isfile(name) else name


@contextlib.contextmanager
def _keep_taken(
    name: bytes | None, own: list[str], taken: dict[bytes, list[str]], what: str = "file"
) -> Generator[None, None, None]:
    """Keep a local file for one result, unless that fails; SFTPExistsError for any other."""
    if name is None:
        yield
        return
    first = taken.setdefault(name, own)  # atomic: the hosts may be in several loops
    if first is not own:
        raise SFTPExistsError(
            f"cannot write to {os.fsdecode(name)!r}: it gets the {what} of {first[0]}; "
            "give a function from host to path as local_path",
            errno=errno.EEXIST,
        )
    try:
        yield
    except BaseException:
        del taken[name]
        raise
