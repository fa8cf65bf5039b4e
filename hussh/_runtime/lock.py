"""The lock of a tree, safe against exceptions from signal handlers; and locks at the exit.

A KeyboardInterrupt can arrive between any two steps of Python, also right before or after a lock
changes hands, and on the way into `acquire` or `release`. So after an exception there no code
relies on what they did: both may be repeated, and `release` releases only what this thread holds.

When the interpreter ends, it stops every other thread where that stands, and daemon threads take
their locks along. Finalizers that run after that must not wait for such a lock.

`driver` has a lock for each tree. `fork` and `background_loops` take theirs by way of this module,
too.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from sys import is_finalizing
from typing import Any

__all__ = ["TreeLock", "unless_exiting"]

_NO_LOCK = contextlib.nullcontext()


def unless_exiting(lock: AbstractContextManager[Any]) -> AbstractContextManager[Any]:
    """Return the lock; at the interpreter's end, when no other thread runs, return a free one.

    It is for locks that finalizers take: `with unless_exiting(self._lock): ...`.
    """
    return _NO_LOCK if is_finalizing() else lock


class TreeLock:
    """A lock with one holder, who may take it twice and releases it once."""

    __slots__ = ("_lock", "is_owned")

    def __init__(self) -> None:
        self._lock = threading.RLock()
        #: Whether the calling thread holds it.
        self.is_owned: Callable[[], bool] = self._lock._is_owned  # type: ignore[attr-defined]

    def acquire(self) -> None:
        """Wait for the lock and take it.

        Raises:
            RuntimeError: the interpreter ends, and a thread that was stopped has the lock.
        """
        if is_finalizing() and not self.is_owned() and not self._lock.acquire(False):
            raise RuntimeError("the interpreter ends")
        try:
            if not self.is_owned():
                self._lock.acquire()
        except BaseException:
            self._insist()
            raise

    def _insist(self) -> None:
        """Take the lock although an exception has come, or comes."""
        while True:
            try:
                if self.is_owned():
                    return
                self._lock.acquire()
            except BaseException:  # noqa: S112  (the first one is raised)
                continue

    def release(self) -> None:
        try:  # nothing that takes time, and can be interrupted, before the call
            self._lock.release()
        except RuntimeError:
            return  # another thread has it

    def try_acquire(self) -> bool:
        """Take the lock if nobody has it, this thread included."""
        return not self.is_owned() and self._lock.acquire(False)
