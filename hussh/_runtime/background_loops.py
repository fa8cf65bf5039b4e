"""Runs event loops in background threads, for work on many hosts.

It owns the threads. `loop_placement` starts them, `batch` and `shared_session` ask about them. It
knows nothing of what runs in a loop.

Each loop is asyncio's, in a daemon thread. The threads that make its blocking calls (`workers`) are
daemons, too. So the interpreter's exit waits for none of them, and `atexit` ends them. After `fork`
the child has none of these threads: `Loops` says so, and closes the child's copies of the
selectors.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import selectors
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, Protocol

import anyio

from ..errors import ConnectError, ForkedConnectionError
from . import asyncio_driver  # noqa: F401  (when first needed, descriptors may be gone)
from .async_workers import run_to_the_end
from .asyncio_tasks import AsyncioTasks
from .lock import unless_exiting
from .loop_tools import this_loop
from .poll_timeout import poll_timeout
from .thread_start import NoThread, start_thread
from .weak_set import list_members

__all__ = [
    "LoopUser",
    "LoopThread",
    "Loops",
    "count_cores",
    "choose_count",
    "is_loop_thread",
    "watch",
]

#: Hosts for which one more loop pays.  200 on two cores took 2.1 s and 0.27 s of CPU in one loop,
#: 2.4 s and 0.34 s in two: Python's share of a host's work is the larger one.
HOSTS_PER_LOOP = 256
#: Python's own work for a host needs the GIL, so more loops than this only disturb each other.
MOST_LOOPS = 8
#: Seconds that the interpreter's exit waits for the loops to end.
EXIT_PATIENCE = 2.0


def count_cores() -> int:
    """Return how many cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def choose_count(hosts: int, trees: int) -> int:
    """Return how many loops suit so many hosts in so many trees on this machine; at least 1."""
    return max(1, min(count_cores(), MOST_LOOPS, trees, hosts // HOSTS_PER_LOOP))


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose copy in a forked child neither closes nor complains."""

    abandoned = False
    owner: LoopThread | None = None

    def __del__(self) -> None:
        if not self.abandoned:
            super().__del__()


class _Thread(threading.Thread):
    """A thread of these loops, to be told from other threads by its class."""


def is_loop_thread() -> bool:
    """Tell whether this is one of our loops' threads, which must not wait even in a finalizer."""
    return isinstance(threading.current_thread(), _Thread)


class LoopThread:
    """One event loop in its own thread, which runs until it is stopped.

    The thread itself makes the loop, because a signal handler that raises can lose what the main
    thread is about to make.
    """

    def __init__(self, name: str) -> None:
        self._lock = threading.RLock()  # a finalizer may come while this thread has it
        self._stopping = False
        self._given: deque[Callable[[], Coroutine[Any, Any, object]]] = deque()
        self._changed = asyncio.Event()
        self._selector: selectors.BaseSelector | None = None
        self._loop: _Loop | None = None
        self._launched = threading.Event()
        self._error: OSError | None = None
        self._thread = _Thread(target=self._run, name=name, daemon=True)
        self._holders: set[object] = set()

    @staticmethod
    def of(native: object) -> LoopThread | None:
        """Return the thread of an asyncio loop, if it is one of these."""
        return native.owner if isinstance(native, _Loop) else None

    def hold(self, holder: object) -> bool:
        """Count one user more, such as a second batch on a bastion that is open here.

        Returns:
            False if it is too late, because the loop stops.
        """
        with self._lock:
            if self._stopping:
                return False
            self._holders.add(holder)
            return True

    def leave(self, holder: object) -> bool:
        """Count one user less; return whether none is left, so that the loop stops.

        May be repeated.
        """
        with unless_exiting(self._lock):
            self._holders.discard(holder)
            if self._holders:
                return False
        self.stop()
        return True

    @property
    def is_shared(self) -> bool:
        return len(self._holders) > 1

    @property
    def stopping(self) -> bool:
        return self._stopping

    def launch(self) -> None:
        """Start the thread.

        Raises:
            ConnectError: there is no thread, or there are no descriptors, for a loop.
        """
        try:
            start_thread(self._thread)
        except NoThread as error:
            raise ConnectError(f"cannot start an event loop: {error}") from error
        except KeyError as error:
            # CPython up to 3.12: a signal handler raised when the thread had begun already.
            raise error.__context__ or error from None
        while not self._launched.wait(poll_timeout(None)):
            pass
        if self._error is not None:
            why = f"cannot start an event loop: {self._error.strerror}"
            raise ConnectError(why) from self._error

    def start(self, main: Callable[[], Coroutine[Any, Any, object]]) -> bool:
        """Run a coroutine function in a task of this loop, soon; return False if it is stopped."""
        with self._lock:
            if self._stopping:
                return False
            self._given.append(main)
            self.call_soon(self._changed.set)
            return True

    def call_soon(self, call: Callable[[], object]) -> None:
        """Make a call in the loop, from any thread; never, if the loop does not run."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(call)

    def call_later(self, call: Callable[[], object]) -> None:
        """Make a call after what is due in this turn; for tasks of the loop."""
        if self._loop is not None:
            self._loop.call_soon(call)

    @staticmethod
    def make_group() -> AsyncioTasks:
        """Return a new group of tasks; for tasks of the loop."""
        return AsyncioTasks()

    def stop(self) -> None:
        """Cancel every task and end; wait for nothing."""
        with unless_exiting(self._lock):
            self._stopping = True
            self.call_soon(self._changed.set)

    def join(self, seconds: float | None = None) -> None:
        if self._thread.ident is not None:  # else it never ran, or is about to and ends at once
            self._thread.join(seconds)

    def abandon(self) -> None:
        """Forget the thread, which a forked child does not have."""
        if self._loop is not None and self._selector is not None:
            self._loop.abandoned = True
            self._selector.close()

    def _run(self) -> None:
        try:
            selector = selectors.DefaultSelector()
            try:
                loop = _Loop(selector)
            except BaseException:
                selector.close()
                raise
            self._selector, self._loop = selector, loop
            loop.owner = self
        except OSError as error:
            self._error = error
            return
        finally:
            self._launched.set()
        loop.set_debug(False)  # its slow steps are of no interest to the user
        try:
            loop.run_until_complete(self._serve())
        finally:
            with self._lock:
                self._stopping = True
            loop.close()

    async def _serve(self) -> None:
        async with anyio.create_task_group() as group:
            while not self._stopping:
                while self._given:  # by this task, because only a task can start others
                    group.start_soon(self._given.popleft())
                await self._changed.wait()
                self._changed.clear()
            while self._given:  # it was accepted, and somebody waits for its end
                group.start_soon(self._given.popleft())
            group.cancel_scope.cancel()


class Loops:
    """Several event loops, started together; `guests` are loops of others, used as well.

    Attributes:
        complete: whether all guests could still be had.
    """

    def __init__(self, count: int, guests: Sequence[LoopThread] = ()) -> None:
        self._process = os.getpid()
        self._token = object()
        self._held = list(
            guests
        )  # before they are held: leaving a loop that is not held does no harm
        self.threads: list[LoopThread] = []
        _open.add(self)
        try:
            self.complete: bool = all(guest.hold(self._token) for guest in guests)
            for number in range(1, count + 1):
                thread = LoopThread(f"hussh-loop-{number}")
                self.threads.append(thread)
                self._held.append(thread)
                thread.hold(self._token)
                thread.launch()
        except BaseException:  # no more threads
            self.close()
            raise

    def check_process(self) -> None:
        """Raise ForkedConnectionError in a child of the process that started them."""
        if self.forked:
            raise ForkedConnectionError(
                "this MultiConnection belongs to the parent process; make a new one after fork"
            )

    @property
    def forked(self) -> bool:
        return self._process != os.getpid()

    def stop(self) -> None:
        """Stop those loops that nobody else uses; wait for nothing."""
        if not self.forked:
            for thread in self._held:
                thread.leave(self._token)

    def close(self, seconds: float | None = None) -> None:
        """Stop them as `stop` does, and wait until they have ended; `seconds` at most, together."""
        if self.forked:
            return
        deadline = None if seconds is None else monotonic() + seconds
        ending = [thread for thread in self._held if thread.leave(self._token)]
        for thread in ending:
            thread.join(None if deadline is None else max(0.0, deadline - monotonic()))

    async def wait_closed(self) -> None:
        """Wait as `close` does, for a task, even when it is cancelled."""
        await run_to_the_end(this_loop(), self.close)

    def abandon(self) -> None:
        for thread in self.threads:
            thread.abandon()

    def __del__(self) -> None:
        self.stop()


class LoopUser(Protocol):
    """An object that uses loops: it must end before the interpreter does, and learns of a fork."""

    def collect(self) -> Loops | None:
        """Release everything without waiting; return what to wait for, if anything."""

    def abandon(self) -> None:
        """Forget what belongs to other threads, in a forked child, which has none of them."""


_open: weakref.WeakSet[Loops] = weakref.WeakSet()
_users: weakref.WeakSet[LoopUser] = weakref.WeakSet()


def watch(user: LoopUser) -> None:
    """Tell the object of the interpreter's exit and of forks, as long as it exists."""
    _users.add(user)


def _end_at_exit() -> None:
    ending = [user.collect() for user in list_members(_users)]
    deadline = monotonic() + EXIT_PATIENCE
    for loops in ending:
        if loops is not None:
            loops.close(max(0.0, deadline - monotonic()))


def _reset_after_fork() -> None:
    for loops in list_members(_open):
        loops.abandon()
    for user in list_members(_users):
        user.abandon()


atexit.register(_end_at_exit)
os.register_at_fork(after_in_child=_reset_after_fork)
