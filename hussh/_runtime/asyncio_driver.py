"""The driver for asyncio: the loop itself moves the bytes; only `choose_driver` imports it.

From the first wait on the root's fd is registered with the loop. When it is ready, the loop calls
`_run_turn`, which does what a leader does elsewhere: it pumps, and wakes the tasks whose link or
channel progressed. It steps an operation with `step_in_loop` itself, for some milliseconds at most,
and wakes its task when the operation is over. So a wait costs a future, or not even that, and no
system call. What comes while nobody waits is taken in as well.

The registration ends with the connection, in the loop's own thread and before the fd is closed. So
the loop never mistakes another file with that number for ours. Any loop with asyncio's interface
will do, such as uvloop's.
"""

from __future__ import annotations

import asyncio
import contextvars
import select
from collections import deque
from time import monotonic
from typing import Any

from .._native.constants import EVENTS, FULL, MORE, WANT_WRITE
from .._native.link import Link
from .._protocol.core import DeadlineExceeded, Op, WaitFor
from .async_driver import TIME_SLICE, AsyncDriver, TaskState
from .driver import BUDGET
from .fd_set import FdSet
from .keepalive import Keepalive, MakeBeats, Rounds, Tended
from .loop_tools import Loop
from .stream import Stream

__all__ = ["AsyncioDriver"]


class _TaskState(TaskState):
    """The state of one operation.

    Attributes:
        future: exists while its task sleeps.
        context: a copy of its task's context, if a turn of the loop may step it; otherwise
            None.
    """

    __slots__ = ("future", "context", "_driver")

    def __init__(self, op: Op[Any], driver: AsyncioDriver, *, step_in_loop: bool) -> None:
        super().__init__(op)
        self.future: asyncio.Future[None] | None = None
        self.context = contextvars.copy_context() if step_in_loop else None
        self._driver = driver

    def wake(self) -> None:
        future = self.future
        if future is None or future.done():
            return
        driver = self._driver
        if self.context is not None and driver.turning:
            driver.backlog.append(self)
        else:
            driver.call_in_loop(self.resolve)

    def resolve(self) -> None:
        if self.future is not None and not self.future.done():
            try:
                self.future.set_result(None)
            except RuntimeError:  # the loop is closed, and so nobody waits
                return


class AsyncioDriver(AsyncDriver):
    """A root link, the links over it, and asyncio's tasks that wait for them.

    Attributes:
        turning: whether a turn is under way.
        backlog: woken operations that this turn, or the next, has yet to step.
    """

    needs_idle_thread = False
    turning = False

    def __init__(self, stream: Stream, loop: Loop) -> None:
        self._native: asyncio.AbstractEventLoop = loop.native
        self._watched = (-1, -1)  # the fd that the loop watches for input, and for output
        self._side: tuple[int, ...] = ()  # the side fds in `_several`
        self._simple = False  # one fd, for input, is watched
        self.backlog: deque[_TaskState] = deque()
        self._again: asyncio.Handle | None = None  # a turn that is due without any fd
        self._rounds = Rounds()
        self._timer: asyncio.TimerHandle | None = None  # for the link that is due next
        # What takes the place of a leader while fds are watched.
        self._nobody: Any = object()
        super().__init__(stream, loop)

    def _make_task_state(self, op: Op[Any], *, step_in_loop: bool) -> _TaskState:
        return _TaskState(op, self, step_in_loop=step_in_loop)

    def _prepare(self, task: _TaskState) -> None:
        if self.closed:
            return
        if self._polls:
            self._leader = self._nobody
            self._settle()
        else:
            self._begin()
        if not task.woken:
            task.future = self._native.create_future()

    async def _wait(self, task: _TaskState, deadline: float | None) -> bool:
        suspended = False
        timer = None
        try:
            while not (task.woken or task.moved):
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if task.future is None:
                    try:
                        self._enter()
                        self._prepare(task)
                    finally:
                        self._leave()
                    if task.future is None:  # woken, or closed
                        return suspended
                suspended = True
                if deadline is not None:
                    left = max(0.0, deadline - monotonic())
                    timer = self._native.call_later(left, task.resolve)
                await task.future
                task.future = None
                if timer is not None:
                    timer.cancel()
            return suspended
        finally:
            task.future = None
            if timer is not None:
                timer.cancel()

    # -- in the leader's place (in a step)

    def _begin(self) -> None:
        """Start to watch, after all input was taken in and all output was sent that can be."""
        flags = self.root.pump(BUDGET)
        self._leader = self._nobody
        self._polls = 1
        if flags & EVENTS:
            flags = self._dispatch(flags)
        self._watch(flags)

    def _run_turn(self) -> None:
        """Serve the tree after an fd is ready or a call asked for it; the loop calls this."""
        try:
            self._enter()
            again, self._again = self._again, None
            if again is not None:
                again.cancel()
            if not self._polls:
                return
            if self.closed:
                self._unwatch()
                self._release()  # left to us by end()
                return
            if self._side:
                self._stream.read_side()
            flags = EVENTS if self.backlog else self.root.pump(BUDGET)
            if flags & EVENTS or self._background.ready:
                flags = self._serve()
            if not self._waiters and self.root.dead:
                self._unwatch()  # its fd stays ready for ever
                return
            self._watch(flags)
        except BaseException:
            self.turning = False  # maybe it had not come to that
            self._again = None
            self._wake_all()
            raise
        finally:
            self._leave()

    def _serve(self) -> int:
        """Hand out the events, and step what may be stepped here; return the bits of a pump.

        What takes too long goes on in the loop's next turn.
        """
        backlog = self.backlog
        self.turning = True
        try:
            self._dispatch()
            end = monotonic() + TIME_SLICE if backlog else 0.0
            while backlog:
                self._advance(backlog.popleft())
                if monotonic() >= end:
                    break
            flags = self._settle()
        finally:
            self.turning = False
        return flags | MORE if backlog else flags

    def _advance(self, task: _TaskState) -> None:
        """Step an operation; its task gets whatever is raised meanwhile."""
        if task.future is None or task.future.done():
            return  # its task goes on with it
        assert task.context is not None  # noqa: S101  (it is ours)
        try:
            task.woken = False
            try:
                task.context.run(task.step)
                need = task.need
                if isinstance(need, WaitFor):
                    if need.of.token != task.token:
                        self._forget_waiter(task)
                        self._add_waiter(task, need.of.token)
                    return
            except BaseException as error:
                task.failure = error
            task.moved = True
            task.resolve()
        except BaseException as interrupt:  # of a signal handler, between any two
            task.failure = interrupt
            task.moved = True
            task.resolve()

    def _watch(self, flags: int) -> None:
        """Make the loop call us for what a pump has left to wait for."""
        if self._simple and not self._endpoints and not flags & (MORE | WANT_WRITE | FULL):
            return  # it is watched for input, and that is all
        if flags & MORE and self._again is None:
            self._again = self._native.call_soon(self._run_turn)
        events = 0 if flags & FULL else select.POLLIN
        events |= select.POLLOUT if flags & WANT_WRITE else 0
        side = self._list_side_fds()
        if events == self._polled_events and side == self._side:
            return
        self._polled_events, self._side = events, side
        read_fd, write_fd = self._stream.fds()
        several = bool(side) or read_fd != write_fd
        self._simple = events == select.POLLIN and not several
        if several:
            if self._fd_set is None:
                self._fd_set = FdSet()
            self._register(self._fd_set.get_fd(events, read_fd, write_fd, side), -1)
        else:
            self._register(
                read_fd if events & select.POLLIN else -1,
                write_fd if events & select.POLLOUT else -1,
            )

    def _register(self, reading: int, writing: int) -> None:
        before_reading, before_writing = self._watched
        self._watched = reading, writing
        if before_reading != reading:
            if before_reading >= 0:
                self._native.remove_reader(before_reading)
            if reading >= 0:
                self._native.add_reader(reading, self._run_turn)
        if before_writing != writing:
            if before_writing >= 0:
                self._native.remove_writer(before_writing)
            if writing >= 0:
                self._native.add_writer(writing, self._run_turn)

    def _unwatch(self) -> None:
        self._leader = None
        self._polls = self._polled_events = 0
        self._side = ()
        self._simple = False
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if not self._native.is_closed():
            self._register(-1, -1)
            while self.backlog:  # there will be no turn
                self.backlog.popleft().resolve()

    def _note_rest(self) -> None:
        if not self._polls or self._waiters:
            return
        self._leader = None
        if self.closed or self.root.dead:
            self._unwatch()
            if self.closed:
                self._release()

    def end(self, link: Link) -> None:
        idle = self._polls and not self._waiters and not self._lock.is_owned()
        if idle and link is self.root and self._loop.runs_here:
            self._unwatch()  # so that the fd is closed now, and not in the loop's next turn
        super().end(link)

    def _ring(self) -> None:
        if self._stepping and self._loop.is_here:
            if self._again is None:
                self._again = self._native.call_soon(self._run_turn)
        elif self._loop.rests_here or not self._loop.call_soon(self._run_turn):
            # It has ended, or rests and may never run again: nobody polls.
            self._unwatch()
            if self.closed:
                self._release()

    # -- keepalives

    def tend(self, session: Tended, interval: float, make: MakeBeats = Keepalive) -> None:
        self._rounds.add(session, interval, make)
        self._set_timer(self._rounds.find_due())

    def note_session_end(self) -> None:
        self.call_in_loop(self._stop_timer)

    def _stop_timer(self) -> None:
        if not self._rounds.live():
            self._set_timer(None)

    def _beat(self) -> None:
        """Probe what is due; raise nothing, because the loop itself makes this call."""
        self._rounds.beat()
        self._set_timer(self._rounds.find_due() if self._rounds.live() else None)

    def _set_timer(self, when: float | None) -> None:
        """Call `_beat` at this time of `time.monotonic()`, and at no other time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._native.call_later(max(0.0, when - monotonic()), self._beat)
