"""Frees C objects whose Python owners were collected, as soon as the lock of their tree allows it.

The links and channels of a tree share one `DeferredFrees` with its driver. It knows nothing of C,
and never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["DeferredFrees", "TryLock"]


class TryLock(Protocol):
    """The part of a lock that `DeferredFrees` needs."""

    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...


class DeferredFrees:
    """C objects of one tree whose Python owners were collected.

    A finalizer may run anywhere, even inside a call on the same tree and in the thread that holds
    its lock. So it must neither wait for that lock nor free an object without it. `add` frees the
    object at once if the lock is free. Otherwise the object stays here, and the holder of the lock
    calls `empty` after it has released the lock and found `items`.
    """

    __slots__ = ("items", "lock", "flush", "abandoned")

    def __init__(self) -> None:
        self.items: deque[tuple[Any, Any]] = deque()
        self.lock: TryLock | None = None
        #: This is a forked child, which touches nothing of the tree in C.
        self.abandoned: bool = False
        #: Sends what freeing has queued, such as CLOSE; otherwise it might never be sent.
        self.flush: Callable[[], object] = lambda: None

    def add(self, free: Any, owner: Any) -> None:
        self.items.append((free, owner))
        self.empty()

    def empty(self) -> None:
        """Free what is left, unless another thread holds the lock: then that thread will."""
        while self.items:
            if self.lock is not None and not self.lock.try_acquire():
                return
            try:
                while self.items:
                    free, owner = self.items.popleft()
                    free(owner)
                self.flush()
            finally:
                if self.lock is not None:
                    self.lock.release()
