"""The driver for threads: it runs operations, and waits for their links.

Theory of operation. `driver` explains who waits for what, who leads and who is woken. Here a waiter
is a thread. The leader polls the root's fds; each of the others sleeps on its own lock. The leader
also polls a wakeup fd, by which others end its `poll`.

A signal handler may run between any two steps. It may run an operation while its thread is in
`poll` or asleep. Then it leads itself, because the leader may be the very thread that it
interrupted.

`connect.py` makes one for each tree. It knows nothing of SSH but links and their events.
"""

from __future__ import annotations

import inspect
import select
import threading
from time import monotonic
from typing import Any, TypeVar

from .._native.constants import EVENTS, FULL, MORE, WANT_WRITE
from .._protocol.core import Checkpoint, DeadlineExceeded, Op, RunBlocking, WaitFor
from ..errors import HusshError
from .blocking_call import call_in_time
from .driver import BUDGET, Driver
from .poll_timeout import poll_timeout
from .polling import Poll, make_poll
from .stream import Stream
from .wakeup_fd import WakeupFd
from .workers import LAST_MOMENT, call_within

__all__ = ["BUDGET", "Stream", "ThreadDriver"]

T = TypeVar("T")


class _Waiter:
    """One waiting operation.

    `alarm` is a lock that is free once the operation was woken. It exists from its first sleep
    on: until then its thread holds the tree's lock between a look at `woken` and the sleep.
    """

    __slots__ = ("token", "woken", "alarm", "thread")

    def __init__(self) -> None:
        self.token = 0
        self.woken = False
        self.thread = threading.get_ident()
        self.alarm: threading.Lock | None = None

    def wake(self) -> None:
        if self.alarm is not None and self.alarm.locked():
            self.alarm.release()

    def make_alarm(self) -> threading.Lock:
        """Return the lock, made if need be; with the tree's lock held."""
        if self.alarm is None:
            alarm = threading.Lock()
            alarm.acquire()
            self.alarm = alarm
        return self.alarm


class ThreadDriver(Driver[_Waiter]):
    """A root link, the links over it, and the threads that wait for them."""

    def __init__(self, stream: Stream) -> None:
        self._wakeup = WakeupFd()
        self._kept_poll: tuple[tuple[object, ...], Poll] | None = None
        super().__init__(stream)

    def _ring(self) -> None:
        self._wakeup.wake()

    def _close_stream(self) -> None:
        try:
            self._stream.close()
        finally:
            self._wakeup.close()

    def _forget(self) -> None:
        self._wakeup.close()

    # -- running operations

    def run(self, op: Op[T], deadline: float | None = None) -> T:
        """Run an operation to its end.

        KeyboardInterrupt reaches the operation at its next wait.

        Args:
            deadline: a `time.monotonic()` value; when it passes, the operation gets a
                DeadlineExceeded.

        Raises:
            RuntimeError: a signal handler or finalizer calls it in the middle of a step of its
                own thread on the same tree.
        """
        self.check_process()
        if self._lock.is_owned():
            raise RuntimeError("this interrupted an operation that uses the same connection")
        try:
            self._lock.acquire()
            self._take_input()
            value = self._run(op, deadline)
            self._finish(op)
            return value
        except BaseException as error:
            calm = isinstance(error, HusshError | DeadlineExceeded)
            interrupt: BaseException | None = None
            for _ in (1, 2):  # an interrupt may hit this, too; all of it can be repeated
                try:
                    self._lock.acquire()
                    if not calm:
                        self._wake_all()
                    self._finish(op)
                    break
                except BaseException as late_error:
                    calm = False
                    interrupt = None if isinstance(late_error, Exception) else late_error
            try:
                if interrupt is not None:
                    raise interrupt from None  # it would get lost behind an error of the peer
                raise
            finally:
                del interrupt  # whose traceback holds this frame

    def _finish(self, op: Op[T]) -> None:
        try:
            # Also on the way out of an error: CLOSE messages and the like must leave.
            op.close()
            flags = None if self.root.freed else self._settle()
        except BaseException:
            self.let_go()
            raise
        self.let_go(flags)

    def _run(self, op: Op[T], deadline: float | None) -> T:
        answer: Any = None
        error: BaseException | None = None
        looked = self.arrivals
        try:
            while True:
                self._lock.acquire()  # an interrupt may have come where it was let go
                try:
                    need = op.send(answer) if error is None else op.throw(error)
                except StopIteration as done:
                    return done.value  # type: ignore[no-any-return]
                answer = error = None
                try:
                    if isinstance(need, WaitFor):
                        if looked == self.arrivals:  # else it looks again first
                            self._wait(need.of.token, deadline)
                        looked = self.arrivals
                    elif isinstance(need, Checkpoint):
                        self._pass_checkpoint(deadline)
                    else:
                        answer = self._block(need, deadline)
                except BaseException as raised:
                    error = raised
        finally:
            error = None  # its traceback holds this frame, and so the operation

    def _pass_checkpoint(self, deadline: float | None) -> None:
        """Send what is queued, and let others have the lock."""
        self._settle()
        self.let_go()
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded

    def _block(self, need: RunBlocking, deadline: float | None) -> Any:
        """Make a call that may block, after everything so far was sent, and without the lock."""
        self._settle()
        self.let_go()
        try:
            with call_in_time(need, deadline) as make:
                if deadline is not None and not need.in_caller:
                    moment = 0.0 if need.detachable else LAST_MOMENT
                    return call_within(make, deadline, moment=moment)
                answer = make()
                if inspect.iscoroutine(answer):
                    answer.close()
                    raise TypeError(
                        "a callback returned a coroutine, which nothing would await here: "
                        "give a plain function, or use the async API"
                    )
                return answer
        finally:
            self._lock.acquire()

    # -- waiting (the lock is held on entry and on return)

    def _wait(self, token: int, deadline: float | None) -> None:
        waiter = _Waiter()
        try:
            self._add_waiter(waiter, token)
            while not waiter.woken:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if self._leader is None or self._leader.thread == waiter.thread:
                    self._lead(waiter, deadline)
                    continue
                self._settle()
                if not waiter.woken:
                    self._sleep(waiter, deadline)
        finally:
            self._lock.acquire()
            self._forget_waiter(waiter)

    def _lead(self, waiter: _Waiter, deadline: float | None) -> None:
        interrupted = self._leader  # by the signal handler that we run in, or None
        try:
            self._leader = waiter
            flags = self.root.pump(BUDGET)
            if flags & EVENTS:
                flags = self._dispatch(flags)
            if waiter.woken or flags & MORE:
                return
            events = 0 if flags & FULL else select.POLLIN  # what is not read would only spin
            self._poll(events | (select.POLLOUT if flags & WANT_WRITE else 0), deadline)
        finally:
            self._leader = interrupted
            if interrupted is not None:
                self._wakeup.wake()  # it polls, and we may have taken what it waits for

    def _poll(self, events: int, deadline: float | None) -> None:
        """Wait for the root's fds or the wakeup fd, without the lock."""
        side = self._list_side_fds()
        poll = self._poll_for(events, side)
        before, rung = self._polled_events, True
        try:
            self._polls += 1
            self._polled_events = events
            self.let_go()
            ready = poll.poll(poll_timeout(deadline) * 1000)
            rung = False
            for fd, _ in ready:
                rung = rung or fd == self._wakeup.fd
            if side and any(fd in side for fd, _ in ready):
                self._stream.read_side()
        finally:
            try:
                self._lock.acquire()
            finally:
                self._polls -= 1
                self._polled_events = before
                if rung:
                    self._wakeup.clear()
                if self.closed and not self._polls:
                    self._release()  # left to us by end()

    def _poll_for(self, events: int, side: tuple[int, ...]) -> Poll:
        """Return what polls the root's fds for these events, and the others for input.

        It is used again while they stay the same. One that an operation polls with is not
        (a signal handler may run another one), and neither is one of gevent's, which belongs to a
        thread.
        """
        fds = self._stream.fds()
        of = (getattr(select, "poll", None), events, fds, side)
        kept = self._kept_poll
        if kept is not None and not self._polls and kept[0] == of:
            return kept[1]
        poll = make_poll()
        for fd in side:
            poll.register(fd, select.POLLIN)
        poll.register(self._wakeup.fd, select.POLLIN)
        if fds[0] == fds[1]:
            poll.register(fds[0], events)
        else:
            poll.register(fds[0], events & select.POLLIN)
            if events & select.POLLOUT:
                poll.register(fds[1], select.POLLOUT)
        if type(poll).__module__ == "select" and not self._polls:
            self._kept_poll = of, poll
        return poll

    def _sleep(self, waiter: _Waiter, deadline: float | None) -> None:
        alarm = waiter.make_alarm()
        self.let_go()
        try:
            alarm.acquire(timeout=poll_timeout(deadline))
        finally:
            self._lock.acquire()
