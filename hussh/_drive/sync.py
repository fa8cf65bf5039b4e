"""The driver for threads: runs operations, and waits for their links.

Theory of operation.  All sessions that share a root (a socket to the first hop)
form a `Tree` with one lock.  A thread that runs an operation holds the lock
while the operation steps.  When the operation waits, the thread registers a
`_Waiter` under the token of what it waits for, and then

* leads, if nobody does: it pumps, hands every event to the waiters registered
  for it, and polls the root's fd with the lock let go;
* or sleeps on a lock of its own until somebody wakes it.

A wake-up is never missed: events are handed out and waiters registered under
the lock, with no gap between an operation's look and its registration.  Others
than the leader may pump, too; what they find for the leader, or leave it to do
(output that is stuck), they tell it through a bell that it polls.  A leader
whose own wait ends wakes one other waiter to lead in its place, so leadership
never lapses while somebody waits.  Only waiters whose link or channel
progressed are woken, whatever the number of links in the tree.

A signal handler or a finalizer may run between any two steps.  What it closes
is closed at once if the lock is free, and else when its holder lets go.  A
handler may also run an operation while its thread is in `poll` or asleep: then
it leads itself, since the leader may be the very thread that it interrupted.
"""

from __future__ import annotations

import os
import select
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any, Protocol, TypeVar

from .._native.link import EVENTS, FULL, MORE, WANT_WRITE, Death, Link, Phase
from .._protocol.core import Blocking, DeadlineExceeded, Op, Progress
from ..errors import ForkedConnectionError, HusshError
from .bell import Bell
from .lock import TreeLock
from .patience import patience

__all__ = ["Stream", "Tree"]

T = TypeVar("T")

#: Bytes of the root that one pump may read before others get the lock.
BUDGET = 1 << 20


class Stream(Protocol):
    """What carries a root link: a socket, or the pipes of a child process."""

    def fds(self) -> tuple[int, int]:
        """The fd to read from and the one to write to, both non-blocking."""

    def side_fds(self) -> tuple[int, ...]:
        """More fds to poll for input while waiting; `read_side` deals with them."""

    def read_side(self) -> None:
        """Take what the side fds have, without waiting."""

    def said(self) -> str:
        """What the peer's program said besides the stream; maybe empty."""

    def explain(self, error: HusshError, *, before_banner: bool, heard: bool) -> HusshError:
        """What the stream knows of why it ended and its link died with this error.

        `heard`: some bytes had come.
        """

    def abandon(self) -> None:
        """`close` in a forked child: nothing may reach the parent's peer."""

    def shutdown(self) -> None:
        """End both directions, so that whoever polls wakes up."""

    def close(self) -> None:
        """Let go of the fds, without waiting for the peer; a child gets a second to end."""


class _Waiter:
    """One waiting operation; `alarm` is a lock that is free once somebody woke it."""

    __slots__ = ("woken", "alarm", "thread")

    def __init__(self) -> None:
        self.woken = False
        self.thread = threading.get_ident()
        self.alarm = threading.Lock()
        self.alarm.acquire()

    def wake(self) -> None:
        if self.alarm.locked():
            self.alarm.release()


class Tree:
    """A root link, the links over it, and the threads that wait for them."""

    def __init__(self, stream: Stream) -> None:
        self._lock = TreeLock()
        self._stream = stream
        self._waiters: dict[int, list[_Waiter]] = {}
        self._leader: _Waiter | None = None
        self._bell = Bell()
        self._polls = 0  # threads in poll: the leader, and those that a signal handler put on top
        self._polled_events = 0
        self.forked = False
        self.closed = False
        self.root = Link.over_fds(*stream.fds())
        self.root.trash.lock = self._lock
        _trees.add(self)

    @contextmanager
    def locked(self) -> Iterator[Link]:
        """Hold the tree's lock; for short, non-blocking calls; may be nested (finalizers)."""
        nested = self._lock.owned()
        try:
            self._lock.acquire()
            yield self.root
        finally:
            if not nested:
                try:
                    self._let_go()
                except BaseException:  # interrupted, maybe before it began
                    self._let_go()
                    raise

    @contextmanager
    def fresh(self) -> Iterator[Link]:
        """`locked`, with everything taken in before and everything sent after."""
        with self.locked() as root:
            self._look()
            yield root
            if not root.freed:
                self.root.pump(0)
                self._settle()
                self._dispatch()

    def _let_go(self) -> None:
        self._lock.release()
        self.root.trash.empty()  # what finalizers could not free while we had the lock

    # -- running operations

    def run(self, op: Op[T], deadline: float | None = None) -> T:
        """Run an operation to its end.

        `deadline` is a `time.monotonic()` value; when it passes, the operation
        gets a DeadlineExceeded.  KeyboardInterrupt reaches it at its next wait.

        Raises RuntimeError where a signal handler or finalizer calls it in the
        middle of a step of this thread's own on the same tree.
        """
        if self.forked:
            raise ForkedConnectionError(
                "this connection belongs to the parent process; open a new one after fork"
            )
        if self._lock.owned():
            raise RuntimeError("this interrupted an operation that uses the same connection")
        try:
            self._lock.acquire()
            self._look()
            value = self._run(op, deadline)
            self._finish(op)
            return value
        except BaseException as error:
            calm = isinstance(error, HusshError | DeadlineExceeded)
            for _ in (1, 2):  # an interrupt may hit this, too; all of it can be repeated
                try:
                    self._lock.acquire()
                    if not calm:
                        self._wake_all()
                    self._finish(op)
                    break
                except BaseException:
                    calm = False
            raise

    def _finish(self, op: Op[T]) -> None:
        try:
            # Also on the way out of an error: CLOSE messages and the like must leave.
            op.close()
            if not self.root.freed:
                self._settle()
        finally:
            self._let_go()

    def _run(self, op: Op[T], deadline: float | None) -> T:
        answer: Any = None
        error: BaseException | None = None
        while True:
            self._lock.acquire()  # an interrupt may have come where it was let go
            try:
                need = op.send(answer) if error is None else op.throw(error)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            answer = error = None
            try:
                if isinstance(need, Progress):
                    self._wait(need.of.token, deadline)
                else:
                    answer = self._block(need, deadline)
            except BaseException as raised:
                error = raised

    def _block(self, need: Blocking, deadline: float | None) -> Any:
        """Make a call that may block, with everything so far on its way and the lock free."""
        self._settle()
        self._let_go()
        try:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded
            try:
                answer = need.call(left)
            except TimeoutError:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded from None
                raise
            if deadline is not None and monotonic() >= deadline:
                raise DeadlineExceeded  # a late answer, such as a one-time code, is not spent
            return answer
        finally:
            self._lock.acquire()

    def said(self) -> str:
        """What the stream's program said besides; maybe empty."""
        return "" if self.closed or self.forked else self._stream.said()

    def explain(self, error: HusshError) -> HusshError:
        """The same error, or what the stream knows better of why the root died."""
        if self.closed or self.forked or self._lock.owned():
            return error
        with self.locked() as root:
            if root.freed:
                return error
            state = root.look()
        if state.death not in (Death.EOF, Death.OS):
            return error  # the server told why
        return self._stream.explain(
            error, before_banner=state.phase == Phase.BANNER, heard=state.received > 0
        )

    # -- waiting (the lock is held on entry and on return)

    def _wait(self, token: int, deadline: float | None) -> None:
        me = _Waiter()
        try:
            self._waiters.setdefault(token, []).append(me)
            while not me.woken:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if self._leader is None or self._leader.thread == me.thread:
                    self._lead(me, deadline)
                    continue
                self._settle()
                if not me.woken:
                    self._sleep(me, deadline)
        finally:
            self._lock.acquire()
            waiting = self._waiters.get(token, [])
            if me in waiting:
                waiting.remove(me)
            if not waiting:
                self._waiters.pop(token, None)
            if self._leader is None:
                self._promote()

    def _lead(self, me: _Waiter, deadline: float | None) -> None:
        interrupted = self._leader  # by the signal handler that we run in, or None
        try:
            self._leader = me
            flags = self.root.pump(BUDGET)
            if flags & EVENTS:
                self._dispatch()
            if me.woken or flags & MORE:
                return
            events = 0 if flags & FULL else select.POLLIN  # what is not read would only spin
            self._poll(events | (select.POLLOUT if flags & WANT_WRITE else 0), deadline)
        finally:
            self._leader = interrupted
            if interrupted is not None:
                self._bell.ring()  # it polls, and we may have taken what it waits for

    def _poll(self, events: int, deadline: float | None) -> None:
        """Wait for the root's fds or the bell with the lock free."""
        read_fd, write_fd = self._stream.fds()
        poll = select.poll()
        side = self._stream.side_fds()
        for fd in side:
            poll.register(fd, select.POLLIN)
        poll.register(self._bell.fd, select.POLLIN)
        if read_fd == write_fd:
            poll.register(read_fd, events)
        else:
            poll.register(read_fd, events & select.POLLIN)
            if events & select.POLLOUT:
                poll.register(write_fd, select.POLLOUT)
        before, rung = self._polled_events, True
        try:
            self._polls += 1
            self._polled_events = events
            self._let_go()
            ready = poll.poll(patience(deadline) * 1000)
            rung = any(fd == self._bell.fd for fd, _ in ready)
            if side and any(fd in side for fd, _ in ready):
                self._stream.read_side()
        finally:
            try:
                self._lock.acquire()
            finally:
                self._polls -= 1
                self._polled_events = before
                if rung:
                    self._bell.silence()
                if self.closed and not self._polls:
                    self._close_fds()  # left to us by end()

    def _sleep(self, me: _Waiter, deadline: float | None) -> None:
        self._let_go()
        try:
            me.alarm.acquire(timeout=patience(deadline))
        finally:
            self._lock.acquire()

    def _dispatch(self) -> None:
        for token in self.root.events():
            for waiter in self._waiters.get(token, ()):
                waiter.woken = True
                waiter.wake()
                if waiter is self._leader and self._polls:
                    self._bell.ring()

    def _promote(self) -> None:
        """Wake somebody who still waits: that one will lead."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.woken:
                    waiter.wake()
                    return

    def _look(self) -> None:
        """Take in what has arrived while nobody waited, so that no operation starts out blind."""
        if self._leader is None and not self.root.freed and self.root.pump(0) & EVENTS:
            self._dispatch()

    def _wake_all(self) -> None:
        """Let every waiter look for itself.

        An interrupt can hit where events are taken out and not handed on yet, or
        where a waiter deregisters: whatever got lost there, nobody needs it then.
        """
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken = True
                waiter.wake()
        self._waiters.clear()
        if self._polls:
            self._bell.ring()

    def _settle(self) -> None:
        """Send what can be sent, and let waiters know what that brought."""
        flags = self.root.flush()
        if flags & MORE:
            flags = self.root.pump(0)
        if flags & EVENTS:
            self._dispatch()
        stuck = flags & WANT_WRITE and not self._polled_events & select.POLLOUT
        if self._polls and (stuck or flags & MORE):
            self._bell.ring()

    # -- ending

    def end(self, link: Link) -> None:
        """Disconnect a link and fail everything over it, without waiting.

        The stream goes with the root.  A second call does nothing.
        """
        if self._lock.owned():
            self.collect(link)  # a finalizer or signal handler, in the middle of something
        elif not self.forked:
            with self.locked():
                self._end(link)

    def collect(self, link: Link) -> None:
        """`end` for finalizers: where the lock is taken, its holder does it."""
        if not self.forked:
            self.root.trash.add(self._end, link)

    def _end(self, link: Link) -> None:
        if self.closed or link.freed:
            return
        link.disconnect()
        self.root.flush()
        link.kill()
        if link.outer is not None:
            link.outer.free()
        self.root.pump(0)
        self._dispatch()
        if link is self.root:
            self.closed = True
            self._stream.shutdown()
            if self._polls:  # they close the fds, whose numbers could be reused under a poll
                self._bell.ring()
            else:
                self._close_fds()

    def _close_fds(self) -> None:
        try:
            self._stream.close()
        finally:
            self._bell.close()

    def abandon(self) -> None:
        """In a forked child: nothing of this tree is ours but our copies of the fds.

        Another thread of the parent may have been within C code, so C is not
        touched any more, not even to free.
        """
        self.forked = True
        self.root.trash.lock = _NobodysLock()
        self.closed = True
        self._stream.abandon()
        self._bell.close()


class _NobodysLock:
    """Never free: what falls into the trash stays there."""

    def try_acquire(self) -> bool:
        return False

    def release(self) -> None:
        return


_trees: weakref.WeakSet[Tree] = weakref.WeakSet()


def _after_fork() -> None:
    for tree in list(_trees):
        tree.abandon()


os.register_at_fork(after_in_child=_after_fork)
