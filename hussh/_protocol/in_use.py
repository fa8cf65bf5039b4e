"""Descriptors that one thread uses while another one gives them up.

The near ends of transfers use it.  A call that its driver has abandoned may still be
in the middle of a read or a write, in a thread of its own, when the clean-up of its
operation comes to close the file.  Then that thread closes it when the call comes back:
sooner, the number could belong to another file that would get the rest.  Nothing
here waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

__all__ = ["InUse"]


class InUse:
    """A context manager around each use; `end` says what to do after the last one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._last: Callable[[], None] | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._users += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._users -= 1
            last = None
            if not self._users:
                last, self._last = self._last, None
        if last is not None:
            last()

    def end(self, last: Callable[[], None]) -> None:
        """Make a call now, or after the present uses; raises what it raises now."""
        with self._lock:
            if self._users:
                self._last = last
                return
        last()
