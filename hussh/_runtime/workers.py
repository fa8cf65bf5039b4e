"""Threads for calls that may block: daemons, reused and bounded, for which no exit waits.

Theory of operation. A call that may block (a file on a mount that does not answer, a named pipe, a
resolver, a user's callback) cannot be interrupted. So a worker thread makes it, and the code that
needs the result waits for that thread with a time limit. When the time is over, the waiter abandons
the `Call`. The thread then goes on alone, nobody gets its result, and a file that it opened is
closed when it comes back. Worker threads are daemons, so neither an abandoned call nor an event
loop that was stopped in the middle of one keeps a process alive.

An idle worker ends after `LINGER` seconds. Calls that should be quick share `QUICK` workers, and
others of them wait in a queue. Calls that wait for somebody else (`is_slow`), and abandoned ones,
do not count there, because otherwise a few of them would hold up all files of the process. `MOST`
bounds all of them together.

`thread_driver.py` and `async_workers.py` import it. It holds no lock anywhere, because a signal
handler or a finalizer may come between any two steps and start its own call. Instead it uses lists
that grow and shrink in single steps.
"""

from __future__ import annotations

import _thread
import contextlib
import contextvars
import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from sys import is_finalizing
from time import monotonic
from types import BuiltinFunctionType
from typing import Any

from .poll_timeout import poll_timeout
from .thread_start import start_thread

__all__ = ["Call", "call_within", "finish", "run_in_worker"]

#: Seconds that an idle worker waits for another call.
LINGER = 1.0
#: Workers for calls that should be quick: more at once only get in each other's way.
QUICK = 40
#: Workers altogether.
MOST = 1000
#: Seconds that an abandoned call is given to end, where its owner goes on with its files.
LAST_MOMENT = 0.5


class Call:
    """One call on its way through a worker; exactly one side disposes of its result.

    Attributes:
        over: whether it has ended, with a result or an error.
        is_slow: see `__init__`.
    """

    __slots__ = ("over", "is_slow", "_to_make", "_tell", "_context", "_results", "_error",
                 "_is_abandoned", "_worker")  # fmt: skip

    def __init__(
        self,
        make: Callable[[], Any],
        tell: Callable[[], object] = lambda: None,
        *,
        is_slow: bool = False,
    ) -> None:
        """Prepare the call; nothing happens before `start`.

        Args:
            make: the call that may block.
            tell: is called when this is over, in the worker's thread; it must not block.
            is_slow: whether it may wait for somebody else, such as a user or a resolver.
        """
        self.over = False
        self.is_slow = is_slow
        # The last item of each list is popped in one step, and the thread that gets it owns it.
        self._to_make = [make]
        self._results: list[Any] = []
        self._tell = tell
        self._context = contextvars.copy_context()
        self._error: BaseException | None = None
        self._is_abandoned = False
        self._worker: _Worker | None = None

    @property
    def has_begun(self) -> bool:
        """Whether the call itself may be under way, or over."""
        return not self._to_make

    def start(self) -> None:
        """Have a worker make the call, soon; may be repeated.

        The call is made here if no thread can be started (over a limit of the system), if none runs
        any more (at the interpreter's end), or if threads are not real ones (`has_threads`).
        """
        if is_finalizing() or not has_threads() or not _pool.take(self):
            self.run(None)

    def run(self, worker: _Worker | None) -> None:
        """Make the call, unless that has been done; the worker's part."""
        try:
            make = self._to_make.pop()
        except IndexError:
            return
        self._worker = worker
        try:
            if not self._is_abandoned:
                self._results.append(self._context.run(_call_without_loop, make))
        except BaseException as error:
            self._error = error
        del make  # what it holds shall not live as long as this does
        self.over = True
        if self._is_abandoned:
            self._discard()
        self._tell()

    def get_outcome(self) -> Any:
        """Return the result of a call that is over, or raise what it raised."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # whose traceback will hold this frame
        return self._results.pop()

    def abandon(self) -> None:
        """Declare that nobody wants the result any more; may be repeated."""
        self._is_abandoned = True
        worker = self._worker
        if worker is not None and not self.over:
            _pool.excused.add(worker)
            if self.over:  # meanwhile
                _pool.excused.discard(worker)
            _pool.feed()
        self._discard()

    def _discard(self) -> None:
        """Close a file that was opened, or a coroutine that was made; both threads may try."""
        with contextlib.suppress(IndexError, AttributeError):
            self._results.pop().close()


def _call_without_loop(make: Callable[[], Any]) -> Any:
    """Make a call in a copy of its caller's context, without the event loop in that."""
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)
    return make()


class _Worker(threading.Thread):
    """A thread that makes one call after another; `is_idle` while it waits for the next one."""

    def __init__(self, pool: _Pool) -> None:
        super().__init__(name="hussh-worker", daemon=True)
        self.is_idle = False
        self.alarm = threading.Lock()
        self.alarm.acquire()
        self._pool = pool

    def run(self) -> None:
        pool = self._pool
        try:
            while True:
                call = pool.take_next(self)
                if call is not None:
                    call.run(self)
                    pool.excused.discard(self)
                    del call  # it may hold files and frames
                elif not self._wait():
                    return
        finally:
            pool.alive.discard(self)
            pool.feed()  # what was queued in the last moment

    def _wait(self) -> bool:
        """Be idle until there may be a call; return False if that took too long."""
        pool = self._pool
        self.is_idle = True
        pool.idle.append(self)
        # Nobody else fetches what was queued before this thread counted as idle.
        woken = pool.has_work() or self.alarm.acquire(timeout=LINGER)
        self.is_idle = False
        try:
            pool.idle.remove(self)
        except ValueError:
            return True  # somebody has chosen us
        return woken or pool.has_work()


class _Pool:
    """All workers of a process, and the calls that wait for one.

    A call stays in its queue until a worker takes it. So a wake-up that an interrupt swallows costs
    time and no call.
    """

    def __init__(self) -> None:
        self.alive: set[_Worker] = set()
        self.idle: deque[_Worker] = deque()
        self.excused: set[_Worker] = set()  # busy with calls that do not count as quick ones
        self._quick: deque[Call] = deque()
        self._slow: deque[Call] = deque()

    def take(self, call: Call) -> bool:
        """Queue a call; return False if there is no worker, and no way to get one."""
        queue = self._slow if call.is_slow else self._quick
        queue.append(call)
        if self.feed():
            return True
        with contextlib.suppress(ValueError):  # taken after all
            queue.remove(call)
        return False

    def has_work(self) -> bool:
        """Tell whether a call waits that an idle worker may take."""
        return bool(self._slow or (self._quick and self._has_room(0)))

    def _has_room(self, least: int) -> bool:
        busy = len(self.alive) - len(self.idle) - len(self.excused)
        return busy < QUICK + least

    def take_next(self, worker: _Worker) -> Call | None:
        """Return the next call for a worker that is not idle."""
        with contextlib.suppress(IndexError):
            call = self._slow.popleft()
            self.excused.add(worker)
            return call
        with contextlib.suppress(IndexError):
            if self._has_room(1):  # the worker is counted itself
                return self._quick.popleft()
        return None

    def feed(self) -> bool:
        """Get a worker for a call that waits, if one is needed; return False if there is none."""
        if not self.has_work():
            return True
        try:
            worker = self.idle.pop()
        except IndexError:
            return self._add_worker()
        with contextlib.suppress(RuntimeError):  # woken already
            worker.alarm.release()
        return True

    def _add_worker(self) -> bool:
        if len(self.alive) < MOST:
            worker = _Worker(self)
            self.alive.add(worker)
            try:
                start_thread(worker)
            except RuntimeError:  # no more threads
                self.alive.discard(worker)
            except BaseException:  # of a signal handler: it may run or not
                if not worker.is_alive():
                    self.alive.discard(worker)
                raise
        return bool(self.alive)


_pool = _Pool()


def has_threads() -> bool:
    """Tell whether threads are the system's, and not those of eventlet or gevent.

    A green thread that blocks stops all of them, so nobody gains by one.
    """
    return isinstance(_thread.start_new_thread, BuiltinFunctionType)


def call_within(make: Callable[[], Any], deadline: float | None, *, moment: float = 0.0) -> Any:
    """Make a call that may block, for a thread that waits; Ctrl-C ends the wait.

    Args:
        make: the call.
        deadline: a `time.monotonic()` value, or None.
        moment: seconds that an abandoned call gets to end.

    Raises:
        TimeoutError: the deadline has passed; the call has been abandoned.
    """
    alarm = threading.Lock()
    alarm.acquire()
    call = Call(make, alarm.release, is_slow=True)  # not more than there are threads that wait
    try:
        call.start()
        while not call.over:
            if deadline is not None and monotonic() >= deadline:
                raise TimeoutError
            alarm.acquire(timeout=poll_timeout(deadline))
        return call.get_outcome()
    except BaseException:
        if not call.over and moment:
            alarm.acquire(timeout=moment)
        raise
    finally:
        call.abandon()


def run_in_worker(make: Callable[[], Any]) -> Any:
    """Make a call that Ctrl-C must not interrupt between what it opens and who owns that.

    Handlers of signals run in the main thread only, so another thread makes the call.
    """
    if threading.current_thread() is not threading.main_thread():
        return make()
    return call_within(make, None)


def finish(make: Callable[[], Any]) -> None:
    """Make a call that ends something, to its end, although Ctrl-C comes; a second one counts.

    The interrupt is raised afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        make()
        return
    alarm = threading.Lock()
    alarm.acquire()
    call = Call(make, alarm.release, is_slow=True)
    interrupt: BaseException | None = None
    while not call.over:
        try:
            call.start()
            while not call.over:
                alarm.acquire(timeout=poll_timeout(None))
        except BaseException as error:
            if interrupt is not None:
                raise
            interrupt = error
    try:
        if interrupt is not None:
            raise interrupt
    finally:
        del interrupt
    call.get_outcome()


def _reset_after_fork() -> None:
    global _pool
    _pool = _Pool()  # the parent's threads are not here


os.register_at_fork(after_in_child=_reset_after_fork)
