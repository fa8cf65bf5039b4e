"""What a session does at intervals: keepalives, and new keys where ``rekey_interval=`` is given.

A keepalive is a global request that every server must answer, if only with "failure" (RFC 4254
section 4). Whatever arrives counts as a sign of life, so a busy link is never probed in vain. An
idle link is read here, because nobody else reads it. Each hop is probed for itself, so the error
names the hop that died.

New keys are asked for at each interval, whether or not there was traffic, so that no key is older
than that. The server may ask for some in between.

The connections of threads and of trio share one thread (`idle_thread`). asyncio's loop has a timer
for each tree (`asyncio_driver`).
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from .._native.link import Link
from .._policy.wire import KEEPALIVE

__all__ = ["MISSES", "Beats", "Keepalive", "MakeBeats", "NewKeys", "Rounds", "Tended"]

#: So many intervals without a sign of life end a connection.
MISSES = 3


class Beats(Protocol):
    """What is done for one link at intervals.

    Attributes:
        interval: seconds.
        over: whether there is nothing to do any more.
    """

    interval: float
    over: bool

    def probe(self, link: Link) -> bool:
        """Make one beat, after all that arrived was taken in; return False if the link is dead."""


MakeBeats = Callable[[float], Beats]


class Tended(Protocol):
    """A session that is probed."""

    closed: bool

    def probe(self, beats: Beats) -> bool:
        """Take in what arrived and make the next beat; return False if the session is gone."""


class NewKeys:
    """Asks for new keys (RFC 4253 section 9)."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.over = False

    def probe(self, link: Link) -> bool:
        """Begin a key exchange, unless one is under way."""
        if link.dead:
            return False
        link.rekey()
        return True


class Keepalive:
    """The state of one link: what has come, and how many answers are missing."""

    def __init__(self, interval: float, misses: int = MISSES) -> None:
        self.interval = interval
        self.misses = misses
        self._received = -1
        self._missed = 0
        self.over = False  # there is nothing to probe any more

    def probe(self, link: Link) -> bool:
        """Make one beat, after all that arrived was taken in; return False if the link is dead."""
        state = link.get_info()
        if state.death:
            return False
        self._missed = 0 if state.received != self._received else self._missed + 1
        self._received = state.received
        if self._missed >= self.misses:
            seconds = f"{self.interval * self.misses:g} s"
            link.fail(errno.ETIMEDOUT, f"no answer to {self.misses} keepalives in {seconds}")
            return False
        link.send(KEEPALIVE)
        return True


class Rounds:
    """Which sessions are probed when; the caller waits, and holds no lock of a tree."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, weakref.ref[Tended], Beats]] = []
        self._count = itertools.count()  # so that the heap need not compare the rest

    def add(self, session: Tended, interval: float, make: MakeBeats = Keepalive) -> None:
        self._push(weakref.ref(session), make(interval))

    def _push(self, session: weakref.ref[Tended], beats: Beats) -> None:
        entry = (monotonic() + beats.interval, next(self._count), session, beats)
        heapq.heappush(self._due, entry)

    def live(self) -> bool:
        """Whether there is a session to probe."""
        while self._due:
            _, _, reference, beats = self._due[0]
            session = reference()
            if session is not None and not session.closed and not beats.over:
                return True
            heapq.heappop(self._due)
        return False

    def find_due(self) -> float | None:
        """Return when the next probe is due (`time.monotonic()`), or None."""
        return self._due[0][0] if self._due else None

    def take(self) -> Callable[[], None] | None:
        """Return the probe that is due, to be called without the caller's lock, or None.

        The probe raises nothing, because the thread that calls it does so for other sessions, too.
        """
        if not self.live() or self._due[0][0] > monotonic():
            return None
        _, _, reference, beats = heapq.heappop(self._due)
        self._push(reference, beats)

        def probe() -> None:
            alive = False  # also if it fails: operations on the session raise the reason
            with contextlib.suppress(Exception):
                session = reference()
                alive = session is not None and session.probe(beats)
            beats.over = not alive

        return probe

    def beat(self) -> None:
        """Make all probes that are due now."""
        for _ in range(len(self._due)):
            probe = self.take()
            if probe is None:
                return
            probe()
