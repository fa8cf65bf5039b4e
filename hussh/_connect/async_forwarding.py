"""Removes the file of a Unix socket that a forward has listened on, in a worker.

`async_forward.py` calls it. Everything else of a forward is in `forwarding.py`, for both APIs; only
this step may block a loop.
"""

from __future__ import annotations

import anyio.lowlevel

from .._runtime.async_workers import run_to_the_end
from .._runtime.loop_tools import this_loop
from .forwarding import Forwarding

__all__ = ["remove_file"]


async def remove_file(forwarding: Forwarding) -> None:
    """Remove the file of a Unix socket that a closed forward has listened on, even if cancelled."""
    if forwarding.address.path is not None:
        await run_to_the_end(this_loop(), forwarding.unlink)
    else:
        await anyio.lowlevel.checkpoint()
