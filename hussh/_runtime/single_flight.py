"""Calls that one thread at a time should make, because the first one's result serves the others.

The drivers import it: many logins need the same key, and decrypting it takes a
tenth of a second.  A turn is a lock; nobody waits for it longer than it has time.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["one_at_a_time"]

T = TypeVar("T")


class _Turns:
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


_turns = _Turns()


def one_at_a_time(of: object | None, call: Callable[[], T], seconds_left: float | None) -> T:
    """Make the call while nobody else makes one for the same object; None: at once.

    After `seconds_left` it is made all the same: its caller is late by then, and will see that.
    """
    if of is None:
        return call()
    lock = _turns.lock(of)
    mine = lock.acquire(timeout=-1 if seconds_left is None else max(0.0, seconds_left))
    try:
        return call()
    finally:
        if mine:
            lock.release()


def _forget() -> None:
    """In a forked child, whatever threads of the parent hold."""
    global _turns
    _turns = _Turns()


os.register_at_fork(after_in_child=_forget)
