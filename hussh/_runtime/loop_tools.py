"""Small tools for the event loops of asyncio and trio: which one runs, and deadlines.

The async driver and `batch` import it. Nothing that `import hussh` loads imports it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from .._protocol.core import DeadlineExceeded
from ..errors import Phase

__all__ = ["Loop", "scope_until", "this_loop", "until"]


class Loop:
    """The event loop that runs when this is made, in the thread that makes it.

    Attributes:
        native: asyncio's loop object, or trio's token.
        is_trio: whether it is trio's.
        cancelled: the exception class that cancels its tasks.
    """

    __slots__ = ("native", "is_trio", "cancelled", "_current", "_thread", "_soon", "_task",
                 "_is_closed", "__weakref__")  # fmt: skip

    def __init__(self) -> None:
        token = anyio.lowlevel.current_token()
        self.native: Any = getattr(token, "native_token", token)
        self.is_trio: bool = not hasattr(self.native, "call_soon_threadsafe")
        self.cancelled: type[BaseException] = anyio.get_cancelled_exc_class()
        self._thread = threading.get_ident()
        self._task: Callable[[], object] = _do_nothing
        self._is_closed: Callable[[], object] = _do_nothing
        # Asked for each operation, so not through anyio.
        self._current: Callable[[], Any]
        # May be called from other threads, signal handlers and finalizers.
        self._soon: Callable[..., Any]
        if self.is_trio:
            self._current = sys.modules["trio"].lowlevel.current_trio_token
            self._soon = self.native.run_sync_soon
        else:
            self._current = sys.modules["asyncio"].get_running_loop
            self._task = sys.modules["asyncio"].current_task
            self._is_closed = self.native.is_closed
            self._soon = self.native.call_soon_threadsafe

    def check(self) -> None:
        """Raise RuntimeError anywhere but in this loop."""
        if self.runs_here:
            return
        raise RuntimeError("this connection belongs to another event loop, the one that opened it")

    @property
    def runs_here(self) -> bool:
        """Tell whether the caller is in this loop, as far as the loop knows."""
        try:
            return self._current() is self.native
        except RuntimeError:  # none runs here
            return False

    @property
    def has_this_task(self) -> bool:
        """Tell whether the caller is in a task of this loop, if it is asyncio's; False in trio's.

        Where trio is a guest in an asyncio loop, both run.
        """
        return self.runs_here and not self.is_trio and self._task() is not None

    @property
    def rests_here(self) -> bool:
        """Tell whether the caller is in the thread of an asyncio loop that does not run now."""
        return self.is_here and not self.is_trio and not self.native.is_running()

    @property
    def may_close_here(self) -> bool:
        """Tell whether the caller may close what belongs to the loop.

        It may in the loop, in its thread while no loop runs there (a coroutine that was never
        finished is being collected), and anywhere once the loop has ended.
        """
        return self.runs_here or (self.rests_here and self._runs_none()) or self.ended

    def _runs_none(self) -> bool:
        try:
            self._current()
        except RuntimeError:
            return True
        return False

    @property
    def is_here(self) -> bool:
        """Tell whether the calling thread is the loop's."""
        return threading.get_ident() == self._thread

    @property
    def ended(self) -> bool:
        """Tell whether the loop will never run again, as far as it knows."""
        return not self.call_soon(_do_nothing)

    def call_soon(self, call: Callable[[], object]) -> bool:
        """Make a call in the loop, from anywhere; return False if the loop has ended."""
        if self._is_closed():  # of a batch's connections each would else raise, to be caught here
            return False
        try:
            self._soon(call)
        except RuntimeError:  # trio's RunFinishedError is a RuntimeError
            return False
        return True


def _do_nothing() -> None:
    return


class _Last(threading.local):
    """What `this_loop` returned last in a thread; the loop may have ended."""

    def __init__(self) -> None:
        self.loop: Callable[[], Loop | None] = _do_nothing


_last = _Last()


def this_loop() -> Loop:
    """Return the event loop of the task that calls this.

    It asks anyio only if the loop is another one than last time, because each connection asks three
    times.
    """
    loop = _last.loop()
    if loop is None or not loop.has_this_task:
        loop = Loop()
        _last.loop = weakref.ref(loop)
    return loop


def scope_until(deadline: float | None) -> anyio.CancelScope:
    """Return a scope that ends at a time of `time.monotonic()`, which is not every loop's clock."""
    if deadline is None:
        return anyio.CancelScope()
    return anyio.CancelScope(deadline=anyio.current_time() + deadline - monotonic())


@contextlib.contextmanager
def until(deadline: float | None, phase: Phase | None = None) -> Iterator[None]:
    """Raise DeadlineExceeded if what is inside waits too long."""
    if deadline is None:
        yield
        return
    with scope_until(deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlineExceeded(phase)
