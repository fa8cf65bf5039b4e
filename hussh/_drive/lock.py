"""The lock of a tree, safe against exceptions from signal handlers.

A KeyboardInterrupt can arrive between any two steps of Python, also right
before or after a lock changes hands.  So nobody counts on having it: `acquire`
ends with the lock held or raises with it held, `release` lets go only what this
thread holds, and both may be repeated.
"""

from __future__ import annotations

import threading

__all__ = ["TreeLock"]


class TreeLock:
    """One holder at a time; taking it twice is taking it once."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def owned(self) -> bool:
        """Whether the calling thread holds it."""
        return bool(self._lock._is_owned())  # type: ignore[attr-defined]

    def acquire(self) -> None:
        interrupt: BaseException | None = None
        while not self.owned():
            try:
                self._lock.acquire()
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt

    def release(self) -> None:
        if self.owned():
            self._lock.release()

    def try_acquire(self) -> bool:
        """Take it if nobody has it, this thread included."""
        return not self.owned() and self._lock.acquire(False)
