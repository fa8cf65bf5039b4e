"""The driver for threads: runs operations, and waits for their links.

Theory of operation.  All sessions that share a root (a socket to the first hop)
form a `Tree` with one lock.  A thread that runs an operation holds the lock
while the operation steps.  When the operation waits, the thread registers a
`_Waiter` under the token of what it waits for, and then

* leads, if nobody does: it pumps, hands every event to the waiters registered
  for it, and polls the root's fd with the lock let go;
* or writes, if output is stuck and the leader polls for input only;
* or sleeps on a lock of its own until somebody wakes it.

A wake-up is never missed: events are handed out and waiters registered under
the lock, with no gap between an operation's look and its registration.  A
leader whose own wait ends wakes one other waiter to lead in its place, so
leadership never lapses while somebody waits.  Only waiters whose link or
channel progressed are woken, whatever the number of links in the tree.
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

from .._native.link import EVENTS, MORE, WANT_WRITE, Link
from .._protocol.core import Blocking, DeadlineExceeded, Op, Progress
from ..errors import ForkedConnectionError
from .lock import TreeLock

__all__ = ["Stream", "Tree"]

T = TypeVar("T")

#: Bytes of the root that one pump may read before others get the lock.
BUDGET = 1 << 20


class Stream(Protocol):
    """What carries a root link: a socket, or the pipes of a child process."""

    def fds(self) -> tuple[int, int]:
        """The fd to read from and the one to write to, both non-blocking."""

    def shutdown(self) -> None:
        """End both directions, so that whoever polls wakes up."""

    def close(self) -> None:
        """Let go of the fds, without waiting for the peer."""


class _Waiter:
    """One waiting operation; `alarm` is a lock that is free once somebody woke it."""

    __slots__ = ("woken", "alarm")

    def __init__(self) -> None:
        self.woken = False
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
        self._writer: _Waiter | None = None
        self._polls = 0
        self.forked = False
        self.closed = False
        self.root = Link.over_fds(*stream.fds())
        self.root.trash.lock = self._lock
        _trees.add(self)

    @contextmanager
    def locked(self) -> Iterator[Link]:
        """Hold the tree's lock; for short, non-blocking calls."""
        try:
            self._lock.acquire()
            yield self.root
        finally:
            self._lock.release()
            self.root.trash.empty()

    # -- running operations

    def run(self, op: Op[T], deadline: float | None = None) -> T:
        """Run an operation to its end.

        `deadline` is a `time.monotonic()` value; when it passes, the operation
        gets a DeadlineExceeded.  KeyboardInterrupt reaches it at its next wait.
        """
        if self.forked:
            raise ForkedConnectionError(
                "this connection belongs to the parent process; open a new one after fork"
            )
        try:
            self._lock.acquire()
            try:
                return self._run(op, deadline)
            finally:
                # Also on the way out of an error: CLOSE messages and the like must leave.
                op.close()
                if not self.root.freed:
                    self._settle()
        finally:
            self._lock.release()
            self.root.trash.empty()

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
        self._lock.release()
        try:
            left = None if deadline is None else deadline - monotonic()
            if left is not None and left <= 0:
                raise DeadlineExceeded
            try:
                return need.call(left)
            except TimeoutError:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded from None
                raise
        finally:
            self._lock.acquire()

    # -- waiting (the lock is held on entry and on return)

    def _wait(self, token: int, deadline: float | None) -> None:
        me = _Waiter()
        try:
            self._waiters.setdefault(token, []).append(me)
            while not me.woken:
                if deadline is not None and monotonic() >= deadline:
                    raise DeadlineExceeded
                if self._leader is None:
                    self._lead(me, deadline)
                    continue
                flags = self.root.flush()
                if flags & MORE:
                    flags = self.root.pump(BUDGET)
                if flags & EVENTS:
                    self._dispatch()
                elif flags & WANT_WRITE and self._writer is None:
                    try:
                        self._writer = me
                        self._poll(select.POLLOUT, deadline)
                    finally:
                        self._writer = None
                else:
                    self._sleep(me, deadline)
        finally:
            waiting = self._waiters.get(token, [])
            if me in waiting:
                waiting.remove(me)
            if not waiting:
                self._waiters.pop(token, None)
            if self._leader is None:
                self._promote()

    def _lead(self, me: _Waiter, deadline: float | None) -> None:
        try:
            self._leader = me
            flags = self.root.pump(BUDGET)
            if flags & EVENTS:
                self._dispatch()
            if me.woken or flags & MORE:
                return
            events = select.POLLIN
            if flags & WANT_WRITE:
                events |= select.POLLOUT
            self._poll(events, deadline)
        finally:
            self._leader = None

    def _poll(self, events: int, deadline: float | None) -> None:
        """Wait for the root's fds with the lock free."""
        timeout = None
        if deadline is not None:
            timeout = max(0.0, deadline - monotonic()) * 1000
        read_fd, write_fd = self._stream.fds()
        poll = select.poll()
        if read_fd == write_fd:
            poll.register(read_fd, events)
        else:
            if events & select.POLLIN:
                poll.register(read_fd, select.POLLIN)
            if events & select.POLLOUT:
                poll.register(write_fd, select.POLLOUT)
        try:
            self._polls += 1
            self._lock.release()
            poll.poll(timeout)
        finally:
            try:
                self._lock.acquire()
            finally:
                self._polls -= 1
                if self.closed and not self._polls:
                    self._stream.close()  # left to us by end()

    def _sleep(self, me: _Waiter, deadline: float | None) -> None:
        timeout = -1.0 if deadline is None else max(0.0, deadline - monotonic())
        self._lock.release()
        try:
            me.alarm.acquire(timeout=timeout)
        finally:
            self._lock.acquire()

    def _dispatch(self) -> None:
        for token in self.root.events():
            for waiter in self._waiters.get(token, ()):
                waiter.woken = True
                waiter.wake()

    def _promote(self) -> None:
        """Wake somebody who still waits: that one will lead."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.woken:
                    waiter.wake()
                    return

    def _settle(self) -> None:
        """Send what can be sent, and let waiters know what that brought."""
        flags = self.root.flush()
        if flags & MORE:
            flags = self.root.pump(0)
        if flags & EVENTS:
            self._dispatch()
        if flags & WANT_WRITE and self._leader is not None and self._writer is None:
            # The leader polls for input only: a sleeper must take the output over.
            for waiters in self._waiters.values():
                for waiter in waiters:
                    if waiter is not self._leader and not waiter.woken:
                        waiter.wake()
                        return

    # -- ending

    def end(self, link: Link) -> None:
        """Disconnect a link and fail everything over it, without waiting.

        The stream goes with the root.  A second call does nothing.
        """
        if not self.forked:
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
            if not self._polls:  # else the fd number could be reused under a poll
                self._stream.close()

    def abandon(self) -> None:
        """In a forked child: nothing of this tree is ours but our copies of the fds.

        Another thread of the parent may have been within C code, so C is not
        touched any more, not even to free.
        """
        self.forked = True
        self.root.trash.lock = _NobodysLock()
        if not self.closed:
            self.closed = True
            self._stream.close()


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
