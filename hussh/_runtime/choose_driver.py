"""Chooses the driver for the loop that runs, asyncio's or trio's; `async_connect` asks.

It imports each driver only in programs that have such a loop.
"""

from __future__ import annotations

from .async_driver import AsyncDriver
from .loop_tools import this_loop
from .stream import Stream

__all__ = ["start_driver"]


def start_driver(stream: Stream) -> AsyncDriver:
    """Start a driver for the loop that runs."""
    loop = this_loop()
    if loop.is_trio:
        from .trio_driver import TrioDriver

        return TrioDriver(stream, loop)
    from .asyncio_driver import AsyncioDriver

    return AsyncioDriver(stream, loop)
