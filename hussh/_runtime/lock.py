"""The lock of a tree, safe against exceptions from signal handlers.

A KeyboardInterrupt can arrive between any two steps of Python, also right
before or after a lock changes hands, and on the way into `acquire` or `release`.
So where they raise, nobody counts on what they did: both may be repeated, and
`release` lets go only what this thread holds.
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
        try:
            if not self._lock._is_owned():  # type: ignore[attr-defined]
                self._lock.acquire()
        except BaseException:
            self._insist()
            raise

    def _insist(self) -> None:
        """Take it although an exception has come, or comes."""
        while True:
            try:
                if self._lock._is_owned():  # type: ignore[attr-defined]
                    return
                self._lock.acquire()
            except BaseException:  # noqa: S112  (the first one is raised)
                continue

    def release(self) -> None:
        try:  # nothing that takes time, and can be interrupted, before the call
            self._lock.release()
        except RuntimeError:
            return  # it is not ours

    def try_acquire(self) -> bool:
        """Take it if nobody has it, this thread included."""
        return not self.owned() and self._lock.acquire(False)
