"""Does one piece of work on many items in several event loops, so many at a time.

`_multi.host_group` imports it. It knows nothing of hosts.

Theory of operation. Each item belongs to a lane, which is an event loop: one of `background_loops`,
or the caller's own. A batch has a part in every lane that has items, and `limit` slots. A slot is a
worker task, which takes one item after another from its lane. When a lane has none left, its worker
ends and the slot goes to the lane with the most. So a lane that is done early does not leave the
others with half the slots. There are never more tasks than slots, whatever the number of items. A
result waits in the queue of `take` for the caller. The caller is woken once for all results of one
turn of a loop, because each change of threads costs. When that queue is as long as there are slots,
workers end, and each result that is taken lets one begin again. So a slow caller bounds the memory.

Stopping cancels the workers, whose operations then end as cancelled ones do. `over` tells when they
have ended.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import anyio
import anyio.abc

from .._runtime.background_loops import is_loop_thread
from .._runtime.loop_tools import Loop
from .._runtime.poll_timeout import poll_timeout

__all__ = ["Batch", "Here", "HereDrain", "Lane", "drain"]

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


class Group(Protocol):
    """A context manager whose tasks end before its block does."""

    async def __aenter__(self) -> Group: ...
    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any: ...

    def start_soon(self, main: Callable[[], Coroutine[Any, Any, object]]) -> object:
        """Run a coroutine function in a task."""

    def cancel(self) -> object:
        """Cancel those tasks."""


class Lane(Protocol):
    """An event loop that work can be given to, from any thread."""

    def make_group(self) -> Group:
        """Return a new group of tasks; for tasks of the loop."""

    def start(self, main: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a coroutine function in a task, soon; return False if the loop has ended."""

    def call_soon(self, call: Callable[[], object]) -> None:
        """Make a call in the loop's thread."""

    def call_later(self, call: Callable[[], object]) -> None:
        """Make a call, maybe after what is due in this turn; for the loop's thread."""


class Batch(Generic[I, R]):
    """The work and its state.

    Args:
        do: the work on one item; it raises nothing but bugs.
        items: the items, each with its lane.
        limit: how many are worked on at once.
        wake: is called, in any thread, when `take` or `over` may have changed.
    """

    def __init__(
        self,
        do: Callable[[I], Awaitable[R]],
        items: Sequence[tuple[Lane, I]],
        limit: int,
        wake: Callable[[], object],
    ) -> None:
        self.do = do
        self.items = items
        self.limit = limit
        self.wake = wake
        self.stopping = False
        self.error: BaseException | None = None
        self._lock = threading.RLock()  # a finalizer may come while this thread has it
        self._results: deque[tuple[int, R]] = deque()
        self._parked = 0  # slots that wait for room in the queue
        parts: dict[int, _Part[I, R]] = {}
        for index, (lane, _) in enumerate(items):
            part = parts.get(id(lane))
            if part is None:
                part = parts[id(lane)] = _Part(self, lane)
            part.pending.append(index)
        self._active = list(parts.values())

    def start(self) -> None:
        parts, left, slots = list(self._active), len(self.items), self.limit
        for part in parts:
            count = len(part.pending)
            # A fair share of what is left, rounded up; so the last loops may start without any,
            # and get their slots from the first worker that ends.
            part.grants = min(count, slots, -(-slots * count // left))
            slots -= part.grants
            left -= count
        for part in parts:
            self._begin(part)

    def take(self) -> tuple[int, R] | None:
        """Return a result with its item's index, as they come; None if there is none now."""
        with self._lock:
            if not self._results:
                return None
            got = self._results.popleft()
            if self._parked:
                self._parked -= 1
                self._pass_on()
            return got

    @property
    def over(self) -> bool:
        """Whether nothing will come any more, and no task is left."""
        with self._lock:
            return not self._active and (self.stopping or not self._results)

    def stop(self) -> None:
        """Cancel what is under way and begin nothing more."""
        with self._lock:
            if self.stopping:
                return
            self.stopping = True
            parts = list(self._active)
        for part in parts:
            part.lane.call_soon(part.cancel)
            # An interrupt may have come before it was begun; so it is, and ends at once.
            self._begin(part)

    def _begin(self, part: _Part[I, R]) -> None:
        if not part.begun and not part.lane.start(part.run):
            self.note_end(part)

    # -- for the parts

    def claim(self, part: _Part[I, R]) -> int | None:
        """Return the next item for a worker; None tells it to end."""
        with self._lock:
            if self.stopping:
                return None
            if len(self._results) >= self.limit:
                self._parked += 1
                return None
            if part.pending:
                return part.pending.popleft()
            self._pass_on()
            return None

    def grant_workers(self, part: _Part[I, R]) -> int | None:
        """Return how many workers a part shall begin now; None if it has nothing to do any more."""
        with self._lock:
            if self.stopping:
                return None
            grants, part.grants = part.grants, 0
            if part.pending:
                return grants
            for _ in range(grants):  # they came too late
                self._pass_on()
            return None

    def deliver(self, part: _Part[I, R], index: int, result: R) -> None:
        with self._lock:
            self._results.append((index, result))
        # Once for all that a turn of the loop brings: each wake costs a change of threads.
        if not part.waking:
            part.waking = True
            part.lane.call_later(part.wake)

    def note_failure(self, error: BaseException) -> None:
        """Note a bug, or an error that is no failure of a host: the caller shall get it."""
        with self._lock:
            self.error = self.error or error
        self.stop()

    def note_end(self, part: _Part[I, R]) -> None:
        with self._lock:
            if part in self._active:
                self._active.remove(part)
        self.wake()

    def _pass_on(self) -> None:
        """Give a free slot to the lane that has the most to do; needs the lock."""
        part = max(self._active, key=lambda part: len(part.pending), default=None)
        if part is not None and part.pending:
            part.grants += 1
            part.lane.call_soon(part.look)


class _Part(Generic[I, R]):
    """The part of a batch in one lane."""

    def __init__(self, batch: Batch[I, R], lane: Lane) -> None:
        self.lane = lane
        self.pending: deque[int] = deque()
        self.grants = 0  # slots that came and have no worker yet
        self.begun = False
        self.waking = False  # the caller will be woken in this turn of the loop
        self._batch = batch
        self._group: Group | None = None
        self._changed: anyio.Event | None = None

    def look(self) -> None:
        """Look, in the lane, whether there is something to begin."""
        if self._changed is not None:
            self._changed.set()

    def wake(self) -> None:
        """Tell the caller, from the lane, that there are results."""
        self.waking = False
        self._batch.wake()

    def cancel(self) -> None:
        """End all workers, in the lane."""
        if self._group is not None:
            self._group.cancel()
        self.look()

    async def run(self) -> None:
        if self.begun:
            return
        self.begun = True
        try:
            async with self.lane.make_group() as self._group:
                while True:
                    self._changed = anyio.Event()
                    grants = self._batch.grant_workers(self)
                    if grants is None:
                        if self._batch.stopping:
                            self.cancel()
                        break
                    for _ in range(grants):
                        self._group.start_soon(self._do_items)
                    await self._changed.wait()
        finally:
            self._group = None
            self._batch.note_end(self)

    async def _do_items(self) -> None:
        batch = self._batch
        try:
            while (index := batch.claim(self)) is not None:
                batch.deliver(self, index, await batch.do(batch.items[index][1]))
        except (GeneratorExit, anyio.get_cancelled_exc_class()):
            raise
        except BaseException as error:  # also what a user's callback has raised to end the program
            batch.note_failure(error)
        finally:
            if not self.pending:
                self.look()


# -- callers


def drain(
    do: Callable[[I], Awaitable[R]],
    items: Sequence[tuple[Lane, I]],
    limit: int,
    running: set[Batch[Any, Any]] | None = None,
) -> Iterator[tuple[int, R]]:
    """Run a batch and yield results with indexes, as they come; for a thread that may wait.

    The batch is in `running` meanwhile, so that others can stop it; then nothing more is yielded,
    and nothing raised. Whatever ends the iteration early stops the batch, and waits until it has
    stopped.
    """
    changed = threading.Event()
    process = os.getpid()
    batch = Batch(do, items, limit, changed.set)
    running = set() if running is None else running
    try:
        running.add(batch)
        batch.start()
        while True:
            changed.clear()
            got = batch.take()
            if got is not None:
                yield got
            elif batch.over:
                break
            else:
                changed.wait(poll_timeout(None))
    finally:
        running.discard(batch)
        if os.getpid() == process:  # in a forked child there are none of its threads
            batch.stop()
        # A generator that was dropped may be collected in the thread that it would wait for.
        while os.getpid() == process and not is_loop_thread() and not batch.over:
            changed.wait(poll_timeout(None))
            changed.clear()
    if batch.error is not None:
        raise batch.error


class _AnyGroup:
    """A `Group` of the loop that runs, of either kind."""

    async def __aenter__(self) -> _AnyGroup:
        self._group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> Any:
        return await self._group.__aexit__(kind, error, trace)

    def start_soon(self, main: Callable[[], Coroutine[Any, Any, object]]) -> None:
        self._group.start_soon(main)

    def cancel(self) -> None:
        self._group.cancel_scope.cancel()


class Here:
    """The running event loop as a lane; its tasks are in a task group of the caller."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.group: anyio.abc.TaskGroup | None = None

    def start(self, main: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        if self.group is None:
            return False
        self.group.start_soon(main)
        return True

    def call_soon(self, call: Callable[[], object]) -> None:
        self.loop.call_soon(call)

    def call_later(self, call: Callable[[], object]) -> None:
        call()

    def make_group(self) -> Group:
        return _AnyGroup()

    @staticmethod
    def make_unhurried_scope() -> anyio.CancelScope:
        """Return a scope whose end is reached even if the task is cancelled."""
        return anyio.CancelScope(shield=True)


class HereDrain(Generic[I, R]):
    """The same as `drain` for a task: an async context manager and iterator.

    It never blocks the loop.

    Args:
        here: the lane of those items that this loop must work on itself.
        running: as for `drain`.
    """

    def __init__(
        self,
        do: Callable[[I], Awaitable[R]],
        items: Sequence[tuple[Lane, I]],
        limit: int,
        here: Here,
        running: set[Batch[Any, Any]] | None = None,
    ) -> None:
        self._batch = Batch(do, items, limit, self._wake)
        self._running = set() if running is None else running
        self._here = here
        self._asleep = False
        self._event = anyio.Event()
        self._stack = contextlib.AsyncExitStack()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._here.loop.call_soon(lambda: self._event.set())

    async def __aenter__(self) -> HereDrain[I, R]:
        if any(lane is self._here for lane, _ in self._batch.items):
            group = await self._stack.enter_async_context(anyio.create_task_group())
            self._here.group = group
        self._running.add(self._batch)
        self._batch.start()
        return self

    def __aiter__(self) -> HereDrain[I, R]:
        return self

    async def __anext__(self) -> tuple[int, R]:
        while True:
            self._event = anyio.Event()
            self._asleep = True  # before looking, so that nothing comes unnoticed in between
            got = self._batch.take()
            if got is not None:
                self._asleep = False
                return got
            if self._batch.over:
                raise StopAsyncIteration
            await self._event.wait()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        batch = self._batch
        self._running.discard(batch)
        batch.stop()
        try:
            await self._stack.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                while True:
                    self._event = anyio.Event()
                    self._asleep = True
                    if batch.over:
                        break
                    await self._event.wait()
        if batch.error is not None and error is None:
            raise batch.error
