"""A tree of links that share a root, and their waiters: all of a driver but the waiting itself.

The drivers (`thread_driver` for threads, `async_driver` for tasks) import it and add how a waiter
waits. The theory of operation is the same for both:

All sessions that share a root (a socket to the first hop) form a tree with one lock. The thread or
task that runs an operation holds the lock while the operation steps. When the operation waits, a
`Waiter` is registered under the token of what it waits for. Then the owner of the waiter does one
of two things. It leads, if nobody does: it pumps, hands every event to the waiters registered for
it, and waits for the root's fds with the lock released. Otherwise it sleeps until it is woken.

A wake-up is never missed. Events are handed out and waiters registered under the lock, with no gap
between an operation's look and its registration. Others than the leader may pump, too. They call
`_ring` to tell the leader what they found for it, or what they leave for it to do (output that is
stuck). A leader whose own wait ends wakes one other waiter to lead in its place, so leadership
never lapses while somebody waits. Only waiters whose link or channel progressed are woken, whatever
the number of links in the tree.

While nobody waits, the idle thread reads and answers (`idle_thread`). For asyncio the loop does
that.

Finalizers may run anywhere. They close at once if the lock is free; otherwise its holder closes for
them when it releases the lock. Nothing here waits, except for the lock.
"""

from __future__ import annotations

import contextlib
import os
import select
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from .._native.constants import EVENTS, FULL, MORE, WANT_WRITE, Death
from .._native.kex_work import Computations
from .._native.link import Link
from .._native.local_end import LocalEnd, close_endpoints, get_endpoints_fd
from .._protocol.core import Op
from ..errors import ForkedConnectionError, HusshError, Phase
from . import fork
from .background import Background, Task
from .idle_thread import IdleWatch
from .lock import TreeLock
from .stream import Stream
from .workers import Call

__all__ = ["BUDGET", "Driver", "Waiter"]

#: Bytes of the root that one pump may read before other threads get the lock.
BUDGET = 1 << 20


class Waiter(Protocol):
    """One waiting operation.

    Attributes:
        token: of the link or channel that it waits for; 0 if it does not wait.
        woken: whether that link or channel has progressed.
    """

    token: int
    woken: bool

    def wake(self) -> None:
        """Let its owner go on, to look or to lead; may be called more than once."""


W = TypeVar("W", bound=Waiter)


class Driver(Generic[W]):
    """A root link, the links over it, and the waiters for them."""

    #: Whether the idle thread reads while nobody waits.
    needs_idle_thread: ClassVar[bool] = True
    #: Counts what waiters were or would have been woken for; see `core` on looks and waits.
    arrivals = 0

    def __init__(self, stream: Stream) -> None:
        self._lock = TreeLock()
        self._idle: IdleWatch | None = None  # from the end of this method to that of the root
        self._stream = stream
        self._waiters: dict[int, list[W]] = {}
        self._leader: W | None = None
        self._polls = 0  # waits for the fds: the leader's, and with threads those on top of it
        self._polled_events = 0
        self._background = Background(partial(_enter_if_alive, weakref.ref(self)))
        self._endpoints: tuple[int, ...] = ()  # what stands for the local ends of tunnels
        self.forked = False
        #: By token of a link that ended: how many channels its server asked for unasked, and
        #: the type of the last.
        self.unasked: dict[int, tuple[int, str]] = {}
        self.closed = False
        self._is_released = False
        self.root = Link.over_fds(*stream.fds())
        self.root.deferred_frees.lock = self._lock
        # A method would make a cycle of the driver and its root.
        self.root.computations.elsewhere = partial(_compute, weakref.ref(self))
        stream.adopt()
        if self.needs_idle_thread:
            self._idle = IdleWatch(self)
        fork.enter(self)

    # -- what a driver adds

    def _ring(self) -> None:
        """Let the leader look at the fds again; may be called from any thread."""
        raise NotImplementedError

    def _close_stream(self) -> None:
        """Close the stream, and what the driver has besides; nobody waits for their fds."""
        raise NotImplementedError

    def _forget(self) -> None:
        """Close, in a forked child, what the driver has besides the stream."""

    # -- the lock

    @contextmanager
    def locked(self) -> Iterator[Link]:
        """Hold the tree's lock, for short calls that do not wait; may be nested (finalizers)."""
        nested = self._lock.is_owned()
        try:
            self._lock.acquire()
            yield self.root
        finally:
            if not nested:
                try:
                    self.let_go()
                except BaseException:  # interrupted, maybe before it began
                    self.let_go()
                    raise

    @contextmanager
    def fresh(self) -> Iterator[Link]:
        """Hold the lock as `locked` does; take all input in before, and send all output after."""
        with self.locked() as root:
            try:
                self._take_input()
                yield root
                if not root.freed:
                    self.root.pump(0)
                    self._settle()
                    self._dispatch()
                    if root.dead:
                        self._leave_idle_thread()
            except KeyboardInterrupt:
                self._wake_all()
                if not root.freed:
                    self._settle()
                raise

    def mine(self) -> AbstractContextManager[Link]:
        """Hold the lock as `locked` does, for calls of the user; event loops refuse strangers."""
        return self.locked()

    def my_fresh(self) -> AbstractContextManager[Link]:
        """Hold the lock as `fresh` does, for calls of the user."""
        return self.fresh()

    def owns_lock(self) -> bool:
        """Whether the calling thread holds the lock."""
        return self._lock.is_owned()

    def take_lock(self, *, wait: bool) -> None:
        """Take the lock; without `wait` only if nobody has it."""
        if wait:
            self._lock.acquire()
        else:
            self._lock.try_acquire()

    def let_go(self, flags: int | None = None) -> None:
        """Release the lock: the idle thread reads from now on, unless somebody waits.

        Args:
            flags: what a pump has returned since the last change; None if there was none.
        """
        try:
            idle = self._idle
            if idle is not None and idle.armed is bool(self._polls or self._waiters):
                self._hand_over(idle, flags)
        finally:
            self._lock.release()
        if self.root.deferred_frees.items:  # what finalizers could not free while we had the lock
            self.root.deferred_frees.empty()

    def check_process(self) -> None:
        """Raise ForkedConnectionError in a child of the process that opened the connection."""
        if self.forked:
            raise ForkedConnectionError(
                "this connection belongs to the parent process; open a new one after fork"
            )

    # -- what the stream knows

    @property
    def slow(self) -> bool:
        """Whether `explain` may take half a second."""
        return self._stream.slow and not self.closed

    def program_text(self) -> str:
        """Return what the stream's program wrote besides; it may be empty."""
        return "" if self.closed or self.forked else self._stream.program_text()

    def explain(self, error: HusshError) -> HusshError:
        """Return the same error, or a better one if the stream knows why the root died."""
        if self.closed or self.forked or self._lock.is_owned():
            return error
        with self.locked() as root:
            if root.freed:
                return error
            state = root.get_info()
        if state.death not in (Death.EOF, Death.OS):
            return error  # the server told why
        return self._stream.explain(
            error, before_banner=state.phase is Phase.BANNER, heard=state.received > 0
        )

    # -- while nobody waits

    def _hand_over(self, idle: IdleWatch, flags: int | None) -> None:
        """Let the idle thread read from now on, or tell it to stop."""
        if not self._lock.is_owned():
            return  # an interrupt came after the lock was let go
        if self._polls or self._waiters:
            idle.disarm()
            return
        if self.root.dead:  # or freed
            self._leave_idle_thread()
            return
        if flags is None:
            flags = self.root.flush()
        # An fd for input does not tell what the pump has left to do, but output is always possible.
        events = 0 if flags & FULL else select.POLLIN
        events |= select.POLLOUT if flags & (WANT_WRITE | MORE) else 0
        idle.arm(self._list_wanted(events))

    def _list_wanted(self, events: int) -> dict[int, int]:
        """Return the stream's fds, each with the events to poll for."""
        read_fd, write_fd = self._stream.fds()
        side = self._list_side_fds()
        wanted = dict.fromkeys(side, int(select.POLLIN)) if side else {}
        if read_fd == write_fd:
            wanted[read_fd] = events
        else:
            wanted[read_fd] = events & select.POLLIN
            wanted[write_fd] = events & select.POLLOUT
        return wanted

    def answer(self) -> None:
        """Take in what came while nobody waited, and answer it; the idle thread calls this."""
        if self._stream.side_fds():
            self._stream.read_side()  # it logs, and so must not hold the lock
        self._lock.acquire()  # not `locked`: no interrupt comes in this thread, and a tunnel's
        try:  # packets pay for each step here
            idle = self._idle
            if idle is None:
                return
            idle.armed = False  # for one event only
            if self._polls or self._waiters:
                idle.disarm()
                return
            if self.root.pump(BUDGET) & EVENTS:
                self._dispatch()
        finally:
            self.let_go()

    def _leave_idle_thread(self) -> None:
        idle, self._idle = self._idle, None
        if idle is not None:
            idle.end()

    # -- tunnels (with the lock held)

    def watch(self, fd: int) -> LocalEnd:
        """Watch a local socket from now on; return its endpoint, and raise as that."""
        endpoint = LocalEnd(self.root, fd)
        if not self._endpoints:
            self._endpoints = (get_endpoints_fd(self.root),)
            if self._idle is not None and self._idle.armed:
                self._idle.disarm()  # it gets all fds anew
            if self._polls:
                self._ring()
        return endpoint

    def _list_side_fds(self) -> tuple[int, ...]:
        """Return what to poll for input besides the stream's own fds."""
        return self._stream.side_fds() + self._endpoints

    def start(self, op: Op[None], never_ran: Callable[[], object] | None = None) -> Task:
        """Run an operation in the background, from when the one that calls this has a rest.

        Args:
            never_ran: called if it is ended before that, since its own clean-up does not run then.
        """
        return self._background.start(op, never_ran)

    def cancel(self, task: Task) -> None:
        """End one that runs there."""
        self._background.cancel(task)

    def _release(self) -> None:
        """Close all fds of a tree that has ended; again, if an interrupt came into the middle."""
        if self._endpoints:
            close_endpoints(self.root)
            self._endpoints = ()
        self._close_stream()
        self._is_released = True

    def finish_computation(self, work: Any) -> None:
        """Let a key exchange go on with an exponentiation that another thread has made."""
        with self.fresh():
            Computations.finish(work)
            if self._polls:
                self._ring()  # the leader reads again if it had stopped because of too much input

    # -- handing out events (with the lock held)

    def _dispatch(self, flags: int = 0) -> int:
        """Hand out what happened; returns the bits of a pump, which were `flags` before."""
        for token in self.root.take_events():
            self.wake(token)
        background = self._background
        while background.ready:
            background.step()
            flags = flags & MORE | self.root.flush()
            for token in self.root.take_events():
                self.wake(token)
            stuck = flags & WANT_WRITE and not self._polled_events & select.POLLOUT
            if self._polls and (stuck or flags & MORE):
                self._ring()
        return flags

    def wake(self, token: int) -> None:
        """Wake the waiters for a link or channel; needs the lock."""
        self.arrivals += 1
        self._background.wake(token)
        for waiter in self._waiters.get(token, ()):
            waiter.woken = True
            waiter.wake()
            if waiter is self._leader and self._polls:
                self._ring()

    def _add_waiter(self, waiter: W, token: int) -> None:
        """Register a waiter for a link or channel.

        The idle thread stops reading here, before the pump sends what will be answered: each
        answer that came first would wake it for nothing.
        """
        idle = self._idle
        if idle is not None and idle.armed:
            idle.disarm()
        waiter.token = token
        waiter.woken = False
        waiting = self._waiters.get(token)
        if waiting is None:
            self._waiters[token] = [waiter]
        else:
            waiting.append(waiter)

    def _forget_waiter(self, waiter: W) -> None:
        """Deregister a waiter; if it led, another one shall lead."""
        token = waiter.token
        if not token:
            return
        waiting = self._waiters.get(token)
        if waiting is not None:
            if waiter in waiting:
                waiting.remove(waiter)
            if not waiting:
                self._waiters.pop(token, None)
        waiter.token = 0  # last: an interrupt may come before, and this is repeated then
        if self._leader is None and self._waiters:
            self._promote()

    def _promote(self) -> None:
        """Wake one of the remaining waiters, which will lead."""
        for waiters in self._waiters.values():
            for waiter in waiters:
                if not waiter.woken:
                    waiter.wake()
                    return

    def _take_input(self) -> None:
        """Take in what arrived while nobody waited, so that no operation starts with old news."""
        if self._leader is None and not self.root.freed and self.root.pump(0) & EVENTS:
            self._dispatch()

    def _wake_all(self) -> None:
        """Let every waiter look for itself.

        An interrupt can come where events are taken out and not handed on yet, or where a waiter
        deregisters. Whatever got lost there, nobody needs it after this.
        """
        self.arrivals += 1
        self._background.wake_all()
        for waiters in self._waiters.values():
            for waiter in waiters:
                waiter.woken = True
                waiter.wake()
        self._waiters.clear()
        if self._polls:
            self._ring()

    def _settle(self) -> int:
        """Send what can be sent, and hand out the events of that; return the bits of a pump."""
        flags = self.root.flush()
        if flags & MORE:
            flags = self.root.pump(0)
        if flags & EVENTS or self._background.ready:
            flags = self._dispatch(flags)
        stuck = flags & WANT_WRITE and not self._polled_events & select.POLLOUT
        if self._polls and (stuck or flags & MORE):
            self._ring()
        return flags

    # -- ending

    def end(self, link: Link) -> None:
        """Disconnect a link and fail everything over it, without waiting.

        The stream goes with the root. A second call does nothing.
        """
        if self._lock.is_owned():
            self.collect(link)  # a finalizer or signal handler, in the middle of something
        elif not self.forked:
            with self.locked():
                self._end(link)

    def collect(self, link: Link) -> None:
        """Call `end` for a finalizer; if the lock is taken, its holder does it."""
        if not self.forked:
            self.root.deferred_frees.add(self._end, link)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # nobody would get a finalizer's error
            if not getattr(self, "closed", True):  # nobody has ended it
                self.collect(self.root)
            elif not getattr(self, "_is_released", True) and not self.forked:
                self._release()  # an interrupt kept somebody from it

    def _end(self, link: Link) -> None:
        if self.closed:
            if not self._is_released and not self._polls:
                self._release()
            return
        if not link.freed and not self.root.freed:
            self._note_unasked(link)
            link.disconnect()
            self.root.flush()
            link.kill()
            if link.outer is not None:
                link.outer.free()
            self.root.pump(0)
            self._dispatch()
        if link is self.root:
            self.closed = True
            try:
                self._background.close()
                self._leave_idle_thread()
                self._stream.shutdown()
            finally:
                if self._polls:  # they close the fds, whose numbers could be reused under a poll
                    self._ring()
                else:
                    self._release()

    def _note_unasked(self, link: Link) -> None:
        state = link.get_info()
        if state.unasked:
            self.unasked[link.token] = state.unasked, state.unasked_kind

    def abandon(self) -> None:
        """Close our copies of the fds, in a forked child, and do nothing else.

        Another thread of the parent may have been within C code, so C is not touched any more, not
        even to free.
        """
        self.forked = True
        self._idle = None  # its fds are the parent's
        self.root.deferred_frees.lock = fork.FREE_FOR_NOBODY
        self.root.deferred_frees.abandon()
        self.closed = True
        self._background.close()
        for fd in self._endpoints:
            os.close(fd)
        self._stream.abandon()
        self._forget()


def _enter_if_alive(
    reference: weakref.ref[Driver[Any]],
) -> AbstractContextManager[object] | None:
    """Return the context in which a worker steps the background of a tree; see `Background`."""
    driver = reference()
    if driver is None or driver.closed or driver._lock.is_owned():
        return None
    return driver.fresh()


def _compute(reference: weakref.ref[Driver[Any]], given: list[Any]) -> bool:
    """Have a worker make an exponentiation, as `Computations.elsewhere` describes it."""
    driver = reference()
    if driver is None:  # a finalizer pumps
        return False

    def make() -> None:
        work = Computations.take_power(given)
        if work is not None:
            driver.finish_computation(work)

    Call(make).start()
    return True
