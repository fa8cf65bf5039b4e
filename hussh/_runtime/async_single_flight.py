"""Makes one call for many tasks that need it at once, because all can use the first one's result.

`async_driver` and `async_configure` import it. `single_flight` has the same for threads. Here the
others wait in the loop, so a batch which needs one key, or one file of known hosts, gives one call
to a thread and not one for each host.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from .loop_tools import Loop

__all__ = ["single_flight"]

T = TypeVar("T")

#: By loop and what the call is about; the first caller's, set when its call has ended.
_under_way: dict[tuple[object, object], anyio.Event] = {}


async def single_flight(
    loop: Loop, of: object, cached: Callable[[], T | None], call: Callable[[], Awaitable[T]]
) -> T:
    """Make a call, or take the result of another task's call.

    Args:
        loop: the loop that runs.
        of: what the call is about, compared by identity or as an equal tuple of such.
        cached: is asked after another's call; it returns what this call would return, or None
            if the call must be made.
    """
    key = loop.native, of
    # The first call may have looked before we asked; the second one has not.
    for _ in range(2):
        another = _under_way.get(key)
        if another is None:
            break
        await another.wait()
        found = cached()
        if found is not None:
            return found
    if key in _under_way:
        return await call()
    over = _under_way[key] = anyio.Event()
    try:
        return await call()
    finally:
        del _under_way[key]
        over.set()
