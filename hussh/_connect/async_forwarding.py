"""What `forwarding` needs of an event loop besides: files are removed in a worker."""

from __future__ import annotations

import anyio.lowlevel

from .._runtime.async_workers import to_the_end
from .._runtime.loop_tools import this_loop
from .forwarding import Forwarding

__all__ = ["remove_file"]


async def remove_file(forwarding: Forwarding) -> None:
    """Remove the file of a Unix socket that a closed forward has listened on, even if cancelled."""
    if forwarding.address.path is not None:
        await to_the_end(this_loop(), forwarding.unlink)
    else:
        await anyio.lowlevel.checkpoint()
