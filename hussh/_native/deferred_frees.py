"""C objects whose Python owners were collected: who frees them, and when.

Of a tree; the links and channels in it and the drivers share one.  It knows
nothing of C, and never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["DeferredFrees", "TryLock"]


class TryLock(Protocol):
    """As much of a lock as `DeferredFrees` needs."""

    def try_acquire(self) -> bool: ...
    def release(self) -> None: ...


class DeferredFrees:
    """C objects whose Python owners were collected, of one tree.

    A finalizer may run anywhere, even inside a call on the same tree and in the
    thread that holds its lock, so it must neither wait for that lock nor free
    without it: `add` frees at once where the lock is free, and otherwise leaves
    the object to the holder, who calls `empty` after letting go if there are `items`.
    """

    __slots__ = ("items", "lock", "flush")

    def __init__(self) -> None:
        self.items: deque[tuple[Any, Any]] = deque()
        self.lock: TryLock | None = None
        #: Sends what freeing has queued, such as CLOSE: maybe nobody else ever would.
        self.flush: Callable[[], object] = lambda: None

    def add(self, free: Any, owner: Any) -> None:
        self.items.append((free, owner))
        self.empty()

    def empty(self) -> None:
        """Free what is left, unless somebody else holds the lock (who will)."""
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
