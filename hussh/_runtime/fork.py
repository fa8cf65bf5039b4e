"""Takes every tree's lock around ``os.fork``, so that the child can open connections of its own.

Each driver enters itself here (`driver`). The forking thread waits until no other thread is within
C code. In the child all trees of the parent are abandoned: nothing there touches them again.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from typing import Protocol

from .lock import TreeLock
from .weak_set import list_members

__all__ = ["FREE_FOR_NOBODY", "Forkable", "enter"]


class Forkable(Protocol):
    """What a fork needs of a tree."""

    def owns_lock(self) -> bool:
        """Whether the calling thread holds the tree's lock."""

    def take_lock(self, *, wait: bool) -> None:
        """Take the tree's lock; without `wait` only if nobody has it."""

    def let_go(self) -> None:
        """Release the lock if the calling thread holds it."""

    def abandon(self) -> None:
        """Close the child's copies of the fds, and touch nothing else."""


class _NobodysLock:
    """A lock that is never free: what falls into `DeferredFrees` stays there."""

    def is_owned(self) -> bool:
        return False

    def try_acquire(self) -> bool:
        return False

    def release(self) -> None:
        return


class _Forks(threading.local):
    """What a thread has to release after a fork, the last lock last."""

    def __init__(self) -> None:
        self.held: list[contextlib.ExitStack] = []


#: The lock of an abandoned tree.
FREE_FOR_NOBODY = _NobodysLock()
_trees: weakref.WeakSet[Forkable] = weakref.WeakSet()
_forks = _Forks()
_forking = TreeLock()


def enter(tree: Forkable) -> None:
    """Look after a tree, for as long as it exists."""
    _trees.add(tree)


def _prepare_fork() -> None:
    """Let no other thread be within C code while this one forks.

    The child gets a copy of every lock as it is, also of those in OpenSSL. A lock that another
    thread holds (the random generator's, for each packet) would stay locked there for ever, and the
    first connection of the child would hang.
    """
    held = contextlib.ExitStack()
    _forks.held.append(held)
    held.callback(_forking.release)
    # One thread after the other: of two that take all trees each may have what the other lacks.
    # For the same reason a thread that forks in the middle of a step waits for nobody.
    wait = not any(tree.owns_lock() for tree in list_members(_trees))
    if wait:
        _forking.acquire()
    for tree in list_members(_trees):
        if not tree.owns_lock():
            held.callback(tree.let_go)
            tree.take_lock(wait=wait)


def _release_parent() -> None:
    _forks.held.pop().close()


def _leave_trees() -> None:
    global _forks, _forking
    _forks, _forking = _Forks(), TreeLock()
    for tree in list_members(_trees):
        tree.abandon()


os.register_at_fork(
    before=_prepare_fork,
    after_in_parent=_release_parent,
    after_in_child=_leave_trees,
)
