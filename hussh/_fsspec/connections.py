"""Shares connections between file systems: one for each event loop and set of options.

fsspec's blocking API works in one loop for the whole process, so all of its threads share a login.
A connection that is lost is opened again by the next call. It is closed when no file system uses
it any more, and at the end of the process. `filesystem.py` uses it.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import Any, cast

from .._api.async_connection import AsyncConnection
from .._api.internals import get_shared
from .._runtime.anyio_streams import FairLock
from .._runtime.async_workers import run_in_thread
from .._runtime.loop_tools import this_loop
from ..errors import AuthenticationError
from .options import make_connection

__all__ = ["SharedConnection", "share_connection"]

_known: weakref.WeakValueDictionary[tuple[Any, ...], SharedConnection] = (
    weakref.WeakValueDictionary()
)


def share_connection(options: Mapping[str, Any], left_out: tuple[str, ...]) -> SharedConnection:
    """Return the connection of the running loop with these options, which must be sealed."""
    loop = asyncio.get_running_loop()
    key = (os.getpid(), id(loop), repr(sorted(options.items())), left_out)
    found = _known.get(key)
    if found is None or found.loop is not loop:
        found = _known.setdefault(key, SharedConnection(loop, options, left_out))
        if found.loop is not loop:  # a new loop at the address of an old one
            found = _known[key] = SharedConnection(loop, options, left_out)
    return found


class SharedConnection:
    """A connection that is opened when it is first needed, and again when it was lost.

    Args:
        left_out: secrets that a pickle did not bring here, by name.
    """

    def __init__(self, loop: object, options: Mapping[str, Any], left_out: tuple[str, ...]) -> None:
        self.loop = loop
        self._options = dict(options)
        self._left_out = left_out
        self._lock = FairLock()
        self._connection: AsyncConnection | None = None
        self._end: weakref.finalize[..., SharedConnection] | None = None

    @property
    def is_here(self) -> bool:
        """Whether it belongs to the loop that runs."""
        return self.loop is asyncio.get_running_loop()

    async def get_connection(self) -> AsyncConnection:
        """Return the connection, open.

        Raises:
            HusshError: it cannot be opened.
        """
        connection = self._connection
        if connection is not None and _is_usable(connection):
            return connection
        async with self._lock:
            connection = self._connection
            if connection is not None and _is_usable(connection):
                return connection
            await self._close()
            options = self._options
            made = await run_in_thread(this_loop(), lambda: make_connection(options), is_slow=True)
            connection = cast("AsyncConnection", made)
            try:
                await connection.connect()
            except AuthenticationError as error:
                if self._left_out:
                    error.text += _advise(self._left_out)
                raise
            self._connection = connection
            self._end = weakref.finalize(self, _collect, connection)
            return connection

    async def close(self) -> None:
        """Close it; the next `get_connection` opens it again."""
        async with self._lock:
            await self._close()

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if self._end is not None:
            self._end.detach()
            self._end = None
        if connection is not None:
            await connection.close()


def _is_usable(connection: AsyncConnection) -> bool:
    session = get_shared(connection)
    return session.is_open and not session.is_lost


def _collect(connection: AsyncConnection) -> None:
    """Close it for a finalizer, in any thread; waits for nothing."""
    get_shared(connection).collect()


def _advise(left_out: tuple[str, ...]) -> str:
    return (
        f"; this file system was unpickled, which never brings {', '.join(left_out)}: let workers "
        "have a private_key= by its path, an ssh-agent, or credentials='package.module:function'"
    )
