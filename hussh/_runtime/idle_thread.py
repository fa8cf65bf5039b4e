"""The idle thread: it answers what servers send to connections that no operation uses just now.

A server may ask whether its client lives (ClientAliveInterval of sshd), or begin a key exchange
after some time, and it hangs up if nobody answers. While an operation waits, its driver reads.
asyncio's loop also reads between operations. For the trees of threads and of trio this thread
reads, and it sends the keepalives of these connections. `driver` uses it.

Theory of operation. When a thread releases the lock of such a tree, it arms the tree's fds here
unless somebody waits for the tree. It disarms them as soon as somebody waits (`Driver.let_go`).
The fds are armed for one event. After that event the idle thread takes the tree's lock, pumps, and
releases the lock, which arms the fds again. With epoll, arming and disarming are one system call
each and wake no thread. So the thread sleeps while nothing comes, whatever the number of
connections.

There is one thread for the process, from the first idle tree on. It is a daemon, holds its trees
weakly, and ends after the last of them was closed or collected. Its fds are closed with the last
reference to it, because another thread may be about to use them.

This module never waits for the lock of a tree while it holds its own, and calls no code of others
meanwhile. Nothing here raises for a lack of fds, memory or threads: the tree then stays unanswered,
as if this module did not exist, and the module tries again later.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import threading
import weakref
from collections.abc import Mapping
from time import monotonic
from typing import Any, Protocol

from ..errors import ConnectError
from .keepalive import Keepalive, MakeBeats, Rounds, Tended
from .lock import unless_exiting
from .polling import get_eventlet_poll, make_poll
from .thread_start import NoThread, start_thread
from .wakeup_fd import WakeupFd

__all__ = ["LAST_MOMENT", "Answering", "IdleWatch", "note_session_end", "is_ending", "join", "tend"]

#: Seconds that is waited for the thread's end at most.
LAST_MOMENT = 0.5
#: Seconds between two looks at all fds, under eventlet.
LOOK_INTERVAL = 0.5


class Answering(Protocol):
    """The part of a tree that the thread uses."""

    def answer(self) -> None:
        """Take in what has come, and arm the fds again."""


class _Epoll:
    """Fds that are reported once and then have to be set again; for use from any thread."""

    def __init__(self, wakeup: WakeupFd) -> None:
        self._epoll = select.epoll()
        self._epoll.register(wakeup.fd, select.EPOLLIN)
        self._fds: dict[int, int] = {}  # what each is set to, and 0 once it was reported

    def set(self, fd: int, events: int) -> None:
        """Report the fd once for these events of `select.poll`, which for epoll are the same.

        Without events, at most its end is reported. An fd that is set to them already costs no
        system call.
        """
        known = self._fds.get(fd)
        if known == events:
            return
        mask = events | select.EPOLLONESHOT
        try:
            self._fds[fd] = events  # before the call: `wait` may note the report at once
            if known is not None:
                try:
                    self._epoll.modify(fd, mask)
                    return
                except FileNotFoundError:  # another file has this number now
                    pass
            try:
                self._epoll.register(fd, mask)
            except FileExistsError:  # an interrupt came before it was noted
                self._epoll.modify(fd, mask)
        except BaseException:
            self._fds.pop(fd, None)
            raise

    def anew(self, fd: int) -> None:
        """Note that nothing is known of the fd: its number may have been another file's."""
        self._fds.pop(fd, None)

    def remove(self, fd: int) -> None:
        """Forget the fd, which is still open."""
        self._fds.pop(fd, None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def wait(self, seconds: float | None) -> list[int]:
        """Return the fds that are ready, after so many seconds at most."""
        ready = [fd for fd, _ in self._epoll.poll(seconds)]
        for fd in ready:
            # A thread that has set it again meanwhile pays one more call for this later.
            if fd in self._fds:
                self._fds[fd] = 0
        return ready

    def close(self) -> None:
        self._epoll.close()


class _Poll:
    """The same without epoll; each change wakes the thread.

    eventlet permits only one green thread to wait for an fd. There the thread does not wait for
    the fds of trees, but looks at all of them at once every `LOOK_INTERVAL`.
    """

    def __init__(self, wakeup: WakeupFd) -> None:
        self._wakeup = wakeup
        self._wanted: dict[int, int] = {}

    def set(self, fd: int, events: int) -> None:
        self._wanted[fd] = events
        self._wakeup.wake()

    def anew(self, fd: int) -> None:
        """Do nothing, because nothing is remembered here that another file could have left."""

    def remove(self, fd: int) -> None:
        self._wanted.pop(fd, None)
        self._wakeup.wake()

    def wait(self, seconds: float | None) -> list[int]:
        poll = make_poll()
        look = get_eventlet_poll()
        for fd, events in list(self._wanted.items()):
            if events:
                (look or poll).register(fd, events)
                if look is not None:
                    seconds = LOOK_INTERVAL if seconds is None else min(seconds, LOOK_INTERVAL)
        poll.register(self._wakeup.fd, select.POLLIN)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        if look is not None:
            ready += look.poll(0)
        found = [fd for fd, _ in ready if self._wanted.get(fd, 1)]  # others were disarmed meanwhile
        self._wanted.update((fd, 0) for fd in found if fd in self._wanted)
        return found

    def close(self) -> None:
        self._wanted.clear()


class _IdleThread:
    """The thread, and the fds that it watches.

    Attributes:
        trees: those that it answers for, by each of their fds.
        rounds: the keepalives that it sends; needs `_lock`.
        runner: the thread object; None if it has not been started, or ends.
        wakeups: how often the thread went on after a wait.
    """

    def __init__(self) -> None:
        self.wakeup = WakeupFd()
        self.poller = _Epoll(self.wakeup) if hasattr(select, "epoll") else _Poll(self.wakeup)
        self.drivers: dict[int, weakref.ref[Answering]] = {}
        self.rounds = Rounds()
        self.runner: threading.Thread | None = None
        self.wakeups = 0

    def start(self) -> None:
        """Start the thread if it does not run.

        Raises:
            RuntimeError: there can be no thread.
        """
        if self.runner is None or not self.runner.is_alive():
            # One that an interrupt made us forget sees that it is not the runner, and ends.
            runner = threading.Thread(target=self._run, name="hussh-idle", daemon=True)
            self.runner = runner
            try:
                start_thread(runner)
            except RuntimeError:
                self.runner = None
                raise

    def wake(self) -> None:
        """Let the thread see whether it is still needed, and how long it may wait."""
        global _current
        self.wakeup.wake()
        if self.runner is None and not self.drivers and _current is self:
            _current = None  # it could not be started

    def _run(self) -> None:
        global _current
        while True:
            with _lock:
                if self.runner is not threading.current_thread():
                    return
                tends = self.rounds.live()
                if _exiting or not (tends or self.drivers):
                    if _current is self:
                        _current = None
                    self.runner = None
                    return
                probe = self.rounds.take() if tends else None
                due = self.rounds.find_due() if tends else None
            if probe is None:
                self._wait(None if due is None else max(0.0, due - monotonic()))
            else:
                probe()

    def _wait(self, seconds: float | None) -> None:
        ready = self.poller.wait(seconds)
        self.wakeups += 1
        for fd in ready:
            if fd == self.wakeup.fd:
                self.wakeup.clear()
                continue
            reference = self.drivers.get(fd)
            driver = None if reference is None else reference()
            try:
                if driver is not None:
                    driver.answer()
            except Exception:  # such as MemoryError; the next operation on the tree will raise it
                self.poller.set(fd, 0)
            finally:
                del driver  # nothing here keeps it alive during the next wait

    def abandon(self) -> None:
        """Close the copies of the fds, in a forked child."""
        self.poller.close()
        self.wakeup.close()


# Reentrant, because finalizers and signal handlers may come in the middle of what it guards.
_lock = threading.RLock()
_current: _IdleThread | None = None
_exiting = False


def _get_thread() -> _IdleThread:
    """Return the thread's object, to be started after `_lock` was released; needs `_lock`."""
    global _current
    if _exiting:
        raise RuntimeError("the interpreter ends")
    if _current is None:
        _current = _IdleThread()
    return _current


class IdleWatch:
    """One tree's part in the idle thread; its methods need the tree's lock.

    Attributes:
        armed: whether the thread will call the tree's `answer` when something comes.
    """

    def __init__(self, driver: Answering) -> None:
        self._driver = weakref.ref(driver)
        self._thread: _IdleThread | None = None
        self._fds: tuple[int, ...] = ()
        self.armed = False

    def arm(self, wanted: Mapping[int, int]) -> None:
        """Let the thread call `answer` once one of these fds is ready for its events."""
        try:
            thread = self._enter(tuple(wanted))
            for fd, events in wanted.items():
                thread.poller.set(fd, events)
            thread.start()
        except (OSError, RuntimeError, MemoryError, AttributeError):
            self.end()  # no fds, threads or memory, or a `select` without both calls
        else:
            self.armed = True

    def _enter(self, fds: tuple[int, ...]) -> _IdleThread:
        thread = self._thread
        if thread is not None and fds == self._fds:
            return thread
        for fd in set(self._fds) - set(fds):
            self._leave(fd)
        with _lock:
            thread = self._thread = _get_thread()
            for fd in fds:
                thread.drivers[fd] = self._driver
                thread.poller.anew(fd)
        self._fds = fds
        return thread

    def _leave(self, fd: int) -> None:
        thread = self._thread
        # The number of a closed file may be another tree's by now.
        if thread is not None and thread.drivers.get(fd) is self._driver:
            thread.poller.remove(fd)
            thread.drivers.pop(fd, None)

    def disarm(self) -> None:
        """Tell the thread not to read, because somebody else does."""
        self.armed = False
        if self._thread is not None:
            with contextlib.suppress(OSError):
                for fd in self._fds:
                    self._thread.poller.set(fd, 0)

    def end(self) -> None:
        """Forget the fds, which are still open; `arm` may follow."""
        self.armed = False
        for fd in self._fds:
            self._leave(fd)
        self._fds = ()
        thread, self._thread = self._thread, None
        if thread is not None and not thread.drivers:
            thread.wake()


def tend(session: Tended, interval: float, make: MakeBeats = Keepalive) -> None:
    """Make beats for the session every `interval` seconds until it is closed.

    Raises:
        ConnectError: there is no thread, or there are no descriptors, for that.
    """
    if _exiting:
        return
    try:
        with _lock:
            thread = _get_thread()
            thread.rounds.add(session, interval, make)
        thread.start()
    except (NoThread, OSError) as error:
        note_session_end()
        raise ConnectError(f"cannot send keepalives: {error}") from error
    thread.wake()


def note_session_end() -> None:
    """Note that a session with keepalives was closed, so that the thread may end."""
    thread = _current
    if thread is not None:
        thread.wake()


def is_ending() -> bool:
    """Tell whether the thread is about to end and to close its fds, because no tree is left."""
    thread = _current
    runner = None if thread is None else thread.runner
    if thread is None or runner is None or thread.drivers or runner is threading.current_thread():
        return False
    with unless_exiting(_lock):
        return not thread.rounds.live()


def join() -> None:
    """Wait for the thread if it is about to end; never long."""
    thread = _current
    runner = None if thread is None else thread.runner
    if runner is not None and is_ending():
        runner.join(LAST_MOMENT)


def _reset_after_fork() -> None:
    """Forget the parent's thread and its trees, in the child."""
    global _lock, _current
    _lock = threading.RLock()
    thread, _current = _current, None
    if thread is not None:
        thread.abandon()


def _end_at_exit() -> None:
    """Let no thread be within C code while that is torn down."""
    global _exiting
    _exiting = True
    thread: Any = _current
    runner = None if thread is None else thread.runner
    if runner is not None:
        thread.wake()
        runner.join(LAST_MOMENT)


os.register_at_fork(after_in_child=_reset_after_fork)
atexit.register(_end_at_exit)
