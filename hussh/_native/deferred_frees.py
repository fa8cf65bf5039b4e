"""Frees C objects whose Python owners were collected, as soon as the lock of their tree allows it.

`link.py` makes one `DeferredFrees` for each tree; the links and channels of the tree share it with
its driver. It never waits.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from .owned import disown

__all__ = ["DeferredFrees", "TryLock"]


class TryLock(Protocol):
    """The part of a lock that `DeferredFrees` needs."""

    @property
    def is_owned(self) -> Callable[[], bool]: ...
    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...


class DeferredFrees:
    """C objects of one tree whose Python owners were collected.

    A finalizer may run anywhere, even inside a call on the same tree and in the thread that holds
    its lock. So it must neither wait for that lock nor free an object without it. `add` frees the
    object at once if the lock is free. Otherwise the object stays here, and the holder of the lock
    calls `empty` after it has released the lock and found `items`. An object leaves `items` only
    when it was freed, because an interrupt (Ctrl-C) may come before; so freeing can be repeated.
    """

    __slots__ = ("items", "kept", "lock", "flush", "abandoned")

    def __init__(self) -> None:
        self.items: deque[tuple[Any, Any]] = deque()
        #: What C has made for this tree; see `owned`.
        self.kept: list[Any] = []
        self.lock: TryLock | None = None
        #: This is a forked child, which touches nothing of the tree in C.
        self.abandoned: bool = False
        #: Sends what freeing has queued, such as CLOSE; otherwise it might never be sent.
        self.flush: Callable[[], object] = lambda: None

    def abandon(self) -> None:
        """Free nothing from now on: the tree is another process's."""
        self.abandoned = True
        disown(self.kept)

    def add(self, free: Any, owner: Any) -> None:
        """Have `free` called with the owner; again, where an interrupt has come into a call."""
        self.items.append((free, owner))
        self.empty()

    def empty(self) -> None:
        """Free what is left, unless another thread holds the lock: then that thread will."""
        lock = self.lock
        while self.items:
            if lock is None:
                self._empty()
                return
            if lock.is_owned():
                return
            try:  # before the lock is taken: an interrupt may come right after that
                if not lock.try_acquire():
                    return
                self._empty()
            finally:
                lock.release()  # which does nothing if another thread has it

    def _empty(self) -> None:
        while self.items:
            item = self.items[0]
            free, owner = item
            is_done = True
            try:
                free(owner)
            except BaseException as error:
                is_done = isinstance(error, Exception)
                raise
            finally:
                if is_done:  # else nobody else knows of the owner
                    with contextlib.suppress(ValueError):  # a finalizer has done it meanwhile
                        self.items.remove(item)
        self.flush()
