"""`AsyncForward`: a listening address, here or at the server, and the tunnels behind it.

`async_port_forwarding.py` makes one. `_connect/forwarding.py` does the work; nothing here touches a
socket.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from typing import Any

from .._connect.async_connect import AsyncSession
from .._connect.async_forwarding import remove_file
from .._connect.forwarding import Forwarding
from ..errors import HusshError, Phase
from .closing import AsyncClosing
from .documented import details_of
from .forward import Forward, ForwardView

__all__ = ["AsyncForward"]


class AsyncForward(ForwardView, AsyncClosing):
    """A forward of an `AsyncConnection`; see `forward_local`, `forward_remote`, `forward_socks`.

    It begins when it is awaited or its ``async with`` block is entered. It works from then on while
    the event loop runs (with trio also while it does not). Leaving the block closes it.
    """

    def __init__(
        self, connection: object, session: AsyncSession, forwarding: Forwarding, timeout: float
    ) -> None:
        self._connection = connection  # lives as long as this
        self._session = session
        self._forwarding = forwarding
        self._timeout = timeout
        self._begun = False

    def __await__(self) -> Generator[Any, Any, AsyncForward]:
        return self._begin().__await__()

    async def __aenter__(self) -> AsyncForward:
        return await self._begin()

    async def _begin(self) -> AsyncForward:
        if not self._begun:
            self._begun = True
            await self._session.call(self._forwarding.begin(), self._timeout or None, Phase.CHANNEL)
        return self

    @details_of(Forward.close)
    async def aclose(self) -> None:
        """Stop listening, and end the connections; waits for nothing, and may be repeated."""
        with contextlib.suppress(HusshError):
            self._session.call_at_once(self._forwarding.close)
        await remove_file(self._forwarding)

    async def close(self) -> None:
        """Close as `aclose`, under the name that `Forward` has for it."""
        await self.aclose()

    def __del__(self) -> None:
        forwarding: Any = getattr(self, "_forwarding", None)
        if forwarding is not None and self._begun and not forwarding.closed:
            with contextlib.suppress(Exception):  # a finalizer has nobody to tell
                self._session.driver.root.deferred_frees.add(type(forwarding).close, forwarding)
