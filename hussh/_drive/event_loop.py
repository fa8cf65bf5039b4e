"""The driver for event loops: runs operations in tasks of asyncio or trio.

Theory of operation.  `tree` says who waits for what, who leads and who is woken.
Here a waiter is a task: the leader awaits the root's fds (or a selector's, which
stands for all of them), in a cancel scope of its own, the others await an event
of their own each.  A leader that shall look
again has that scope cancelled.  The tree's lock is held around each step and
each call of C, never across an await: the loop has one thread, but finalizers
and keepalives run in others.  What these have for a task goes through the
loop's thread-safe call.

Cancellation is thrown into the operation where it waits.  Its clean-up only
queues; what is queued is sent as far as the socket takes it, and the
cancellation goes on.  An operation that finds everything it wants without
waiting gives the others a turn every few milliseconds.
"""

from __future__ import annotations

import contextlib
import inspect
import select
import selectors
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._native.link import EVENTS, FULL, MORE, WANT_WRITE, Link
from .._protocol.core import Blocking, DeadlineExceeded, Op, Progress
from ..errors import HusshError
from .loop import Loop, scope_until, until
from .tree import BUDGET, BaseTree, Stream
from .turns import in_turn

__all__ = ["Tree"]

T = TypeVar("T")

#: Seconds that an operation may go on without giving other tasks a turn.
TURN = 0.005


class _Waiter:
    """One waiting operation; `event` exists while its task sleeps."""

    __slots__ = ("woken", "event", "_tree")

    def __init__(self, tree: Tree) -> None:
        self.woken = False
        self.event: anyio.Event | None = None
        self._tree = tree

    def wake(self) -> None:
        event = self.event
        if event is not None:
            self._tree.in_loop(event.set)


class _Several:
    """Several fds that are awaited as one: that of a selector of their own.

    Waiting for each in a task would cost three times as much.
    """

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wanted: dict[int, int] = {}

    def fd_for(self, wanted: dict[int, int]) -> int:
        """The fd that is readable while one of these is ready for what is wanted of it."""
        for fd in self._wanted.keys() - wanted.keys():
            self._selector.unregister(fd)  # maybe closed already, which is no error
        for fd, events in wanted.items():
            if fd not in self._wanted:
                self._selector.register(fd, events)
            elif self._wanted[fd] != events:
                self._selector.modify(fd, events)
        self._wanted = wanted
        fd = self._selector.fileno()
        return int(fd)

    def close(self) -> None:
        self._selector.close()


class Tree(BaseTree[_Waiter]):
    """A root link, the links over it, and the tasks that wait for them."""

    def __init__(self, stream: Stream) -> None:
        self._loop = Loop()
        self._stepping = False  # the loop's thread is in a step, not in a finalizer
        self._scope: anyio.CancelScope | None = None  # of the leader, while it awaits the fds
        self._several: _Several | None = None
        self._closer: threading.Thread | None = None
        super().__init__(stream)

    def check_loop(self) -> None:
        """Raises RuntimeError outside of the loop that this tree belongs to."""
        self._loop.check()

    def in_loop(self, call: Callable[[], object]) -> None:
        """Make a call that only the loop's own steps may make: now, or soon."""
        if self._stepping and self._loop.is_here:
            call()
        else:
            self._loop.soon(call)

    @contextmanager
    def _step(self) -> Iterator[Link]:
        before, self._stepping = self._stepping, True
        try:
            with self.locked() as root:
                yield root
        finally:
            self._stepping = before

    # -- running operations

    async def run(self, op: Op[T], deadline: float | None = None) -> T:
        """Run an operation to its end.

        `deadline` is a `time.monotonic()` value; when it passes, the operation
        gets a DeadlineExceeded.  Cancellation reaches it at its next wait.
        """
        self.check_process()
        self.check_loop()
        calm = True
        try:
            with self._step():
                self._look()
            return await self._run(op, deadline)
        except BaseException as error:
            calm = isinstance(error, HusshError | DeadlineExceeded | _cancelled())
            raise
        finally:
            with self._step():
                if not calm:
                    self._wake_all()
                # Also on the way out of an error: CLOSE messages and the like must leave.
                op.close()
                if not self.root.freed:
                    self._settle()

    async def _run(self, op: Op[T], deadline: float | None) -> T:
        answer: Any = None
        error: BaseException | None = None
        cancelled = False
        turn = monotonic() + TURN
        while True:
            me: _Waiter | None = None
            with self._step():
                try:
                    need = op.send(answer) if error is None else op.throw(error)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                if isinstance(need, Progress):
                    token, me = need.of.token, _Waiter(self)
                    self._waiters.setdefault(token, []).append(me)
            answer = error = None
            try:
                if me is None:
                    assert isinstance(need, Blocking)  # noqa: S101  (there are two needs)
                    # A cancelled operation may still want to close a file.
                    with anyio.CancelScope(shield=cancelled):
                        answer = await self._block(need, deadline)
                    turn = monotonic() + TURN
                elif await self._wait(me, token, deadline):
                    turn = monotonic() + TURN
                elif monotonic() > turn:
                    await anyio.lowlevel.checkpoint()
                    turn = monotonic() + TURN
            except BaseException as raised:
                error = raised
                cancelled = cancelled or isinstance(raised, _cancelled())

    async def _block(self, need: Blocking, deadline: float | None) -> Any:
        """Make a call that may block in a thread, with everything so far on its way."""
        with self._step():
            self._settle()
        left = None if deadline is None else deadline - monotonic()
        if left is not None and left <= 0:
            raise DeadlineExceeded
        try:
            with until(deadline):
                answer = await _Call(need, left).result()
                if inspect.isawaitable(answer):  # of a callback that is a coroutine function
                    answer = await answer
        except TimeoutError:
            if deadline is not None and monotonic() >= deadline:
                raise DeadlineExceeded from None
            raise
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded  # a late answer, such as a one-time code, is not spent
        return answer

    # -- waiting

    async def _wait(self, me: _Waiter, token: int, deadline: float | None) -> bool:
        """Wait for what `me` is registered for; returns whether other tasks had a turn."""
        suspended = False
        try:
            while not me.woken:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if self._leader is None:
                    suspended = await self._lead(me, deadline) or suspended
                    continue
                with self._step():
                    self._settle()
                    event = me.event = None if me.woken else anyio.Event()
                if event is not None:
                    suspended = True
                    if deadline is None:
                        await event.wait()
                    else:
                        with scope_until(deadline):
                            await event.wait()
            return suspended
        finally:
            with self._step():
                self._forget_waiter(me, token)

    async def _lead(self, me: _Waiter, deadline: float | None) -> bool:
        suspended = False
        try:
            self._leader = me
            while True:
                with self._step():
                    if self.closed:
                        me.woken = True
                        return suspended
                    flags = self.root.pump(BUDGET)
                    if flags & EVENTS:
                        self._dispatch()
                    if me.woken:
                        return suspended
                    if not flags & MORE:
                        self._polls = 1
                        events = 0 if flags & FULL else select.POLLIN
                        events |= select.POLLOUT if flags & WANT_WRITE else 0
                        self._polled_events = events
                        scope = self._scope = scope_until(deadline)
                suspended = True
                if flags & MORE:
                    await anyio.lowlevel.checkpoint()
                    continue
                try:
                    with scope:
                        await self._ready(events)
                finally:
                    with self._step():
                        self._scope = None
                        self._polls = self._polled_events = 0
                        if self.closed:
                            self._release()  # left to us by end()
                if me.woken or (deadline is not None and monotonic() >= deadline):
                    return suspended
        finally:
            self._leader = None

    async def _ready(self, events: int) -> None:
        """Wait until one of the fds is."""
        read_fd, write_fd = self._stream.fds()
        side = self._stream.side_fds()
        if events == select.POLLIN and not side:
            await anyio.wait_readable(read_fd)
            return
        wanted = dict.fromkeys(side, selectors.EVENT_READ)
        if events & select.POLLIN:
            wanted[read_fd] = selectors.EVENT_READ
        if events & select.POLLOUT:
            wanted[write_fd] = wanted.get(write_fd, 0) | selectors.EVENT_WRITE
        if self._several is None:
            self._several = _Several()
        await anyio.wait_readable(self._several.fd_for(wanted))
        if side:
            self._stream.read_side()

    def _ring(self) -> None:
        scope = self._scope
        if scope is not None:
            self.in_loop(scope.cancel)

    # -- ending

    def _release(self) -> None:
        self._forget()
        if not self._stream.slow:
            self._stream.close()
        elif self._closer is None:
            self._closer = threading.Thread(target=self._stream.close, name="hussh-close")
            self._closer.start()

    def _forget(self) -> None:
        several, self._several = self._several, None
        if several is not None:
            several.close()

    async def gone(self) -> None:
        """Wait, even when cancelled, until the fds of a closed tree are closed.

        A proxy command that ignores SIGTERM takes a second.
        """
        with anyio.CancelScope(shield=True):
            while self.closed and self._polls:
                await anyio.lowlevel.checkpoint()  # the leader is on its way out
            if self._closer is not None:
                await anyio.to_thread.run_sync(self._closer.join)


class _Call:
    """A call in a thread that may be given up; nobody else closes then what it returns."""

    def __init__(self, need: Blocking, left: float | None) -> None:
        self._need = need
        self._left = left
        self._given_up = False
        # Not returned by the thread: trio takes a coroutine for a mistake.
        self._results: list[Any] = []

    async def result(self) -> Any:
        try:
            await anyio.to_thread.run_sync(self._make, abandon_on_cancel=True)
        except BaseException:
            self._given_up = True
            self._discard()
            raise
        return self._results.pop()

    def _make(self) -> None:
        need, left = self._need, self._left
        self._results.append(in_turn(need.turn, partial(need.call, left), left))
        if self._given_up:
            self._discard()

    def _discard(self) -> None:
        """Close a file that was opened, or a coroutine that was made; both threads may try."""
        with contextlib.suppress(IndexError, AttributeError):
            self._results.pop().close()


def _cancelled() -> type[BaseException]:
    return anyio.get_cancelled_exc_class()
