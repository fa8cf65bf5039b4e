"""The driver for trio: one of the waiting tasks leads; only `choose_driver` imports it.

The leader awaits the root's fd (or a selector's, which stands for all of them) in its own cancel
scope; the others sleep until they are woken. To make the leader look again, its scope is cancelled.

While no task waits, nobody leads. Then the idle thread reads (`idle_thread`), and it also sends the
keepalives. No nursery of the user lasts as long as a connection, and a system task of trio would
have to be cancelled before a leader may await the same fd.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import Any

import trio

from .._native.constants import EVENTS, FULL, MORE, WANT_WRITE
from .._protocol.core import DeadlineExceeded, Op
from .async_driver import AsyncDriver, TaskState
from .driver import BUDGET
from .fd_set import FdSet
from .idle_thread import LAST_MOMENT, is_ending, note_session_end, tend
from .keepalive import Keepalive, MakeBeats, Tended
from .loop_tools import Loop
from .stream import Stream

__all__ = ["TrioDriver"]


class _TaskState(TaskState):
    """The state of one operation; `event` exists while its task sleeps."""

    __slots__ = ("event", "_driver")

    def __init__(self, op: Op[Any], driver: TrioDriver) -> None:
        super().__init__(op)
        self.event: trio.Event | None = None
        self._driver = driver

    def wake(self) -> None:
        event = self.event
        if event is not None:
            self._driver.call_in_loop(event.set)


class TrioDriver(AsyncDriver):
    """A root link, the links over it, and trio's tasks that wait for them."""

    def __init__(self, stream: Stream, loop: Loop) -> None:
        self._scope: trio.CancelScope | None = None  # of the leader, while it awaits the fds
        super().__init__(stream, loop)

    def _make_task_state(self, op: Op[Any], *, step_in_loop: bool) -> _TaskState:
        return _TaskState(op, self)

    async def _wait(self, task: _TaskState, deadline: float | None) -> bool:
        suspended = False
        try:
            while not task.woken:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if self._leader is None:
                    suspended = await self._lead(task, deadline) or suspended
                    continue
                try:
                    self._enter()
                    self._settle()
                    event = task.event = None if task.woken else trio.Event()
                finally:
                    self._leave()
                if event is not None:
                    suspended = True
                    if deadline is None:
                        await event.wait()
                    else:
                        with _make_scope(deadline):
                            await event.wait()
            return suspended
        finally:
            try:
                self._enter()
                self._forget_waiter(task)
            finally:
                self._leave()

    async def _lead(self, task: _TaskState, deadline: float | None) -> bool:
        suspended = False
        try:
            self._leader = task
            while True:
                try:
                    self._enter()
                    if self.closed:
                        task.woken = True
                        return suspended
                    flags = self.root.pump(BUDGET)
                    if flags & EVENTS:
                        flags = self._dispatch(flags)
                    if task.woken:
                        return suspended
                    if not flags & MORE:
                        self._polls = 1
                        events = 0 if flags & FULL else select.POLLIN
                        events |= select.POLLOUT if flags & WANT_WRITE else 0
                        self._polled_events = events
                        scope = self._scope = _make_scope(deadline)
                finally:
                    self._leave()
                suspended = True
                if flags & MORE:
                    await trio.lowlevel.checkpoint()
                    continue
                try:
                    with scope:
                        await self._wait_ready(events)
                finally:
                    try:
                        self._enter()
                        self._scope = None
                        self._polls = self._polled_events = 0
                        if self.closed:
                            self._release()  # left to us by end()
                    finally:
                        self._leave()
                if task.woken or (deadline is not None and monotonic() >= deadline):
                    return suspended
        finally:
            self._leader = None

    async def _wait_ready(self, events: int) -> None:
        """Wait until one of the fds is ready."""
        read_fd, write_fd = self._stream.fds()
        side = self._list_side_fds()
        if events == select.POLLIN and not side:
            await trio.lowlevel.wait_readable(read_fd)
            return
        if self._fd_set is None:
            self._fd_set = FdSet()
        fd = self._fd_set.get_fd(events, read_fd, write_fd, side)
        await trio.lowlevel.wait_readable(fd)
        if side:
            self._stream.read_side()

    def _ring(self) -> None:
        scope = self._scope
        if scope is not None:
            self.call_in_loop(scope.cancel)

    # -- keepalives

    def tend(self, session: Tended, interval: float, make: MakeBeats = Keepalive) -> None:
        tend(session, interval, make)

    def note_session_end(self) -> None:
        note_session_end()

    async def wait_gone(self) -> None:
        await super().wait_gone()
        with trio.move_on_after(LAST_MOMENT, shield=True):
            while self.closed and is_ending():
                await trio.sleep(0.0005)


def _make_scope(deadline: float | None) -> trio.CancelScope:
    if deadline is None:
        return trio.CancelScope()
    return trio.CancelScope(deadline=trio.current_time() + deadline - monotonic())
