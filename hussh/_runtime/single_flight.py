"""Lets one thread at a time make a call whose result serves the others.

`blocking_call` and `connect_attempt` import it: many logins need the same key, and decrypting it
takes a tenth of a second. A permit to call is a lock, and no thread waits for it beyond its time
limit.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["one_at_a_time"]

T = TypeVar("T")


class _KeyedLocks:
    """A lock for each object that was asked for and still exists."""

    def __init__(self) -> None:
        self._guard = threading.RLock()  # reentrant, as all here: a signal handler may come between
        self._locks: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()

    def lock(self, of: Any) -> Any:
        with self._guard:
            lock = self._locks.get(of)
            if lock is None:
                lock = self._locks[of] = threading.RLock()
            return lock


_locks = _KeyedLocks()


def one_at_a_time(of: object | None, call: Callable[[], T], seconds_left: float | None) -> T:
    """Make the call while nobody else makes one for the same object; for None, at once.

    After `seconds_left` it is made all the same: its time limit is over then, and the caller will
    see that.
    """
    if of is None:
        return call()
    lock = _locks.lock(of)
    has_lock = lock.acquire(timeout=-1 if seconds_left is None else max(0.0, seconds_left))
    try:
        return call()
    finally:
        if has_lock:
            lock.release()


def _forget() -> None:
    """Forget, in a forked child, what threads of the parent hold."""
    global _locks
    _locks = _KeyedLocks()


os.register_at_fork(after_in_child=_forget)
