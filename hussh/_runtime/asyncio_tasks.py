"""A group of asyncio's own tasks, for loops that are asyncio's for certain.

`background_loops` imports it. A task of anyio costs three times as much to start and end. That
counts where every host gets a task for each thing that is done to it. It must not be used in a loop
of trio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

import anyio

__all__ = ["AsyncioTasks"]


class AsyncioTasks:
    """A context manager whose tasks have ended when its block has.

    A block that raises cancels them first. Errors of the tasks are not passed on: their main
    function must return, or end as a cancelled one.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self._cancelled: set[asyncio.Task[object]] = set()
        self._none_left: asyncio.Event | None = None  # exists while somebody waits for that

    async def __aenter__(self) -> AsyncioTasks:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.cancel()
        try:
            await self._wait_ended()
        except BaseException:
            self.cancel()
            with anyio.CancelScope(shield=True):
                await self._wait_ended()
            raise

    async def _wait_ended(self) -> None:
        # asyncio.wait() would cost one more callback for each task.
        while self._tasks:
            self._none_left = asyncio.Event()
            await self._none_left.wait()

    def start_soon(self, main: Callable[[], Coroutine[Any, Any, object]]) -> None:
        task = self._loop.create_task(main())
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def cancel(self) -> None:
        # Once each: a second time would hit the clean-up, also where anyio shields it.
        fresh = self._tasks - self._cancelled
        self._cancelled |= fresh
        for task in fresh:
            task.cancel()

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        self._cancelled.discard(task)
        if not self._tasks and self._none_left is not None:
            self._none_left.set()
