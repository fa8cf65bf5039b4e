"""Makes calls that may block, for tasks: a worker thread makes them while the loop goes on.

`async_driver` and the async modules of `_connect` import it. `workers` has the threads. It waits
for none of them longer than it is told.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import anyio

from .loop_tools import Loop
from .workers import Call

__all__ = ["run_in_thread", "run_to_the_end"]


async def run_in_thread(
    loop: Loop,
    make: Callable[[], Any],
    *,
    is_slow: bool = False,
    abort: Callable[[], None] | None = None,
    moment: float = 0.0,
) -> Any:
    """Make a call in a thread; a task that is cancelled meanwhile abandons it.

    Args:
        loop: the loop that runs.
        make: the call that may block.
        is_slow: as for `Call`.
        abort: a call that ends an abandoned call soon.
        moment: seconds that an abandoned call gets to end, if it has begun.
    """
    ended = anyio.Event()
    call = Call(make, partial(loop.call_soon, ended.set), is_slow=is_slow)
    try:
        call.start()
        await ended.wait()
        return call.get_outcome()
    except GeneratorExit:  # the task itself is being collected: nothing can be awaited
        raise
    except BaseException:
        if not call.over:
            if abort is not None:
                abort()
            if moment and call.has_begun:
                with anyio.move_on_after(moment, shield=True):
                    await ended.wait()
        raise
    finally:
        call.abandon()


async def run_to_the_end(loop: Loop, make: Callable[[], Any]) -> Any:
    """Make a call in a thread and wait for its end, even if the task is cancelled."""
    with anyio.CancelScope(shield=True):
        return await run_in_thread(loop, make, is_slow=True)
