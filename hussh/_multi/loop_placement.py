"""Chooses which event loop drives which connection, for work on many hosts.

`_multi.host_group` imports it. A tree belongs to one loop. Connections that share a bastion go to
one loop. The others are spread, so that all loops have about the same to do. A tree that is open
already stays where it is: in the loop of the caller, or in one that another `LoopPlacement` has
started, which then lasts until the last of them ends. It decides and starts loops; it runs nothing
in them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from time import monotonic

from .._connect.shared_session import Shared
from .._runtime.async_driver import AsyncDriver
from .._runtime.background_loops import Loops, LoopThread, choose_count, watch
from ..errors import ConnectError, ConnectionClosed

__all__ = ["LoopPlacement"]

#: Held while trees get their loops, so that two batches never choose for one bastion at once.
_placing = threading.RLock()


#: Notified of each end of a `LoopPlacement`, for those that wait for its trees.
_others_end = threading.Condition()
#: Seconds that others get to end, a proxy command of theirs included.
OTHERS_END = 5.0


class _Ending(Exception):
    """A loop that others started, and that we would share, is just ending: try again."""

    def wait(self) -> None:
        """Wait until something has ended, or a moment has passed."""
        with _others_end:
            _others_end.wait(0.05)


class LoopPlacement:
    """The loops of one `MultiConnection`: started when first needed, and after `close` again.

    Args:
        count: number of loops; None means as many as suit the work and the machine.
        most: how many hosts may be busy at once.
    """

    def __init__(self, count: int | None, most: int) -> None:
        self._count = count
        self._most = most
        # Reentrant: a signal handler may close what is being opened.
        self._lock = threading.RLock()
        self._loops: Loops | None = None
        self._homes: dict[Shared, LoopThread | None] = {}
        self._users: list[Shared] = []
        self._closing = False
        self.closed: bool = False
        watch(self)

    @property
    def is_open(self) -> bool:
        return self._loops is not None

    @property
    def count(self) -> int:
        """Number of loops now."""
        return 0 if self._loops is None else len(self._loops.threads)

    def open(self, users: Sequence[Shared], *, here: bool, again: bool) -> bool:
        """Start the loops, unless they run.

        Args:
            users: all connections.
            here: whether the caller can drive trees that belong to its own loop.
            again: whether to do so after `close`.

        Returns:
            Whether there are loops now.

        Raises:
            ForkedConnectionError: they are in another process.
            ConnectError: a connection is open already, in a loop that is not ours.
            ConnectionClosed: another thread is closing.
        """
        deadline = monotonic() + OTHERS_END
        while True:
            try:
                return self._open(users, here=here, again=again)
            except _Ending as ending:
                if monotonic() >= deadline:
                    reason = "the bastion is being closed by another thread"
                    raise ConnectionClosed(reason) from None
                ending.wait()

    def _open(self, users: Sequence[Shared], *, here: bool, again: bool) -> bool:
        with self._lock:
            if self._closing and again:
                raise ConnectionClosed("the MultiConnection is being closed by another thread")
            if self._loops is not None:
                self._loops.check_process()
                return True
            if self.closed and not again:
                return False
            trees: dict[Shared, list[Shared]] = {}  # by what carries them, or else themselves
            for user in users:
                *_, root = user.walk_way()
                trees.setdefault(root, []).append(user)
            with _placing:
                there = {
                    root: thread
                    for root, tree in trees.items()
                    for thread in _find_homes(root, tree)
                }
                if None in there.values() and not here:
                    raise ConnectError(
                        "a connection, or its bastion, is open in another event loop: use "
                        "'async with MultiConnection(…)' in that loop, or close it first"
                    )
                # Only what is complete is taken over: an interrupt may come anywhere.
                loops, spread = self._spread(trees, there)
            if not loops.complete:
                loops.close()
                raise _Ending
            if self._loops is not None:  # a signal handler has done the same
                loops.close()
                return True
            homes = {**there, **spread}
            self._homes = {user: homes[root] for root, tree in trees.items() for user in tree}
            self._users = list(users)
            self.closed = False
            self._loops = loops
            return True

    def _spread(
        self, trees: dict[Shared, list[Shared]], there: dict[Shared, LoopThread | None]
    ) -> tuple[Loops, dict[Shared, LoopThread]]:
        own = [root for root in trees if root not in there]
        hosts = sum([len(trees[root]) for root in own])
        count = choose_count(hosts, len(own)) if self._count is None else self._count
        count = min(count, len(own), self._most)
        guests = [thread for thread in set(there.values()) if thread is not None]
        loops = Loops(count, guests)
        loads = [0] * count
        spread = {}
        # The largest first, each to the loop that has the least.
        for root in sorted(own, key=lambda root: -len(trees[root])):
            number = loads.index(min(loads))
            loads[number] += len(trees[root])
            spread[root] = root.home = loops.threads[number]
        return loops, spread

    def get_loop(self, user: Shared) -> LoopThread | None:
        """Return the loop of a connection; None means the caller's own."""
        return self._homes.get(user)

    def shut(self) -> Loops | None:
        """Begin nothing new; return what is to be closed after the connections.

        The caller closes it and then calls `note_loops_ended`. Until then `get_loop` tells which
        loop a connection is in.
        """
        with self._lock:
            self.closed = True
            loops, self._loops = self._loops, None
            if loops is None or loops.forked:
                return None
            self._closing = True
            return loops

    def list_strangers(self) -> list[Shared]:
        """Return those connections, open or being opened, that belong to a loop of the caller."""
        return [
            user for user in self._users if self.get_loop(user) is None and user.loop is not None
        ]

    def list_shared(self) -> list[tuple[LoopThread, Shared]]:
        """Return those connections, open or being opened, whose loop outlasts us, with the loop."""
        placed = [(self.get_loop(user), user) for user in self._users if user.loop is not None]
        return [
            (thread, user) for thread, user in placed if thread is not None and thread.is_shared
        ]

    def note_loops_ended(self) -> list[AsyncDriver]:
        """Note that the loops have ended, and that no connection of theirs is left open.

        Returns those of their trees that still take a moment to end. It works after an interrupted
        closing, too.
        """
        users, self._users = self._users, []
        for user in users:
            self._let_go(user)
        self._closing = False
        with _others_end:
            _others_end.notify_all()
        trees = {id(user.session.driver): user.session.driver for user in users if user.session}
        return [tree for tree in trees.values() if tree.is_ending]

    def abandon(self) -> None:
        """Forget all, in a forked child, where another thread may have held the lock."""
        self._lock = threading.RLock()
        for user in self._users:
            user.kept = False

    def collect(self) -> Loops | None:
        """Release all connections without waiting; for finalizers and the interpreter's exit."""
        loops = self._loops
        if loops is None:
            return None
        self._loops, self.closed = None, True
        users, self._users = self._users, []
        if loops.forked:
            return None
        for user in users:
            self._let_go(user)
        loops.stop()
        return loops

    def _let_go(self, user: Shared) -> None:
        if (
            user.is_open and self.get_loop(user) is not None
        ):  # others belong to a loop that still runs
            user.kept = False
            user.collect()


def _find_homes(root: Shared, tree: list[Shared]) -> Iterator[LoopThread | None]:
    """Return the loop of a tree: where any part of it is open, or where others would open it.

    None means that it is no background thread. An empty result means that it has no loop yet.
    """
    for user in tree:
        for shared in user.walk_way():
            if shared.loop is not None:
                yield LoopThread.of(shared.loop.native)
                return
    if root.home is not None and not root.home.stopping:
        yield root.home


def _forget() -> None:
    """Forget, in a forked child, what threads of the parent hold."""
    global _placing, _others_end
    _placing, _others_end = threading.RLock(), threading.Condition()


os.register_at_fork(after_in_child=_forget)
