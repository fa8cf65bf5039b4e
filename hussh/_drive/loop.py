"""Small tools for event loops, asyncio's and trio's alike: which one runs, and deadlines.

Of the Python side the modules of the async driver import it; nothing that
`import hussh` loads does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import anyio
import anyio.lowlevel

from .._protocol.core import DeadlineExceeded

__all__ = ["Loop", "scope_until", "until"]


class Loop:
    """The event loop that runs when this is made, in the thread that makes it."""

    __slots__ = ("_native", "_thread", "_soon")

    def __init__(self) -> None:
        self._native = _running()
        self._thread = threading.get_ident()
        # Both may be called from other threads, signal handlers and finalizers.
        self._soon: Callable[..., Any] = (
            getattr(self._native, "call_soon_threadsafe", None) or self._native.run_sync_soon
        )

    def check(self) -> None:
        """Raises RuntimeError anywhere but in a task of this loop."""
        if not self.is_here or _running() is not self._native:
            raise RuntimeError(
                "this connection belongs to another event loop, the one that opened it"
            )

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the loop's."""
        return threading.get_ident() == self._thread

    def soon(self, call: Callable[[], object]) -> None:
        """Make a call in the loop, from anywhere; never, if the loop has ended."""
        with contextlib.suppress(RuntimeError):  # trio's RunFinishedError is one, too
            self._soon(call)


def _running() -> Any:
    token = anyio.lowlevel.current_token()
    return getattr(token, "native_token", token)


def scope_until(deadline: float | None) -> anyio.CancelScope:
    """A scope that ends at a time of `time.monotonic()`, which is not every loop's clock."""
    if deadline is None:
        return anyio.CancelScope()
    return anyio.CancelScope(deadline=anyio.current_time() + deadline - monotonic())


@contextlib.contextmanager
def until(deadline: float | None, phase: str | None = None) -> Iterator[None]:
    """Raises DeadlineExceeded where what is inside waits too long."""
    if deadline is None:
        yield
        return
    with scope_until(deadline) as scope:
        yield
    if scope.cancelled_caught:
        raise DeadlineExceeded(phase)
