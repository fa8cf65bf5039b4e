"""Which tree goes with the loop that runs: asyncio's or trio's; `loop_connect` asks.

Each is imported by those who have such a loop only.
"""

from __future__ import annotations

from .event_loop import Tree
from .loop import this_loop
from .tree import Stream

__all__ = ["grow"]


def grow(stream: Stream) -> Tree:
    """A tree for the loop that runs."""
    loop = this_loop()
    if loop.is_trio:
        from .loop_trio import TrioTree

        return TrioTree(stream, loop)
    from .loop_asyncio import AsyncioTree

    return AsyncioTree(stream, loop)
