"""Limits how many unauthenticated handshakes each server gets at once, and learns from refusals.

`connect_attempt.py` and `async_handshake_limits.py` import it. `MultiConnection` makes one
`HandshakeLimiter` for all of its connections. Nothing here waits, knows an event loop, or opens
anything.

Theory of operation. Code that is about to bring up a hop takes a `Permit` at its server, and may
begin when the permit is granted and its pause is over. Permits of one server are granted in the
order in which they were made, as many at once as the server's limit allows. A permit ends when the
hop is authenticated or has failed. Each hop of a chain has its own permit, which has ended before
the next hop's begins. So nobody holds a permit while waiting for another.

A server that refuses handshakes (`ServerBusy`) gets fewer at once: half of what it had when it
refused, then one more for each round of successes, as TCP does. The number that it refused is
remembered as its ceiling, and is tried again only after many successes. All refusals of one burst
count as one. Besides, no handshake begins for a while, which is longer after each burst that
brought no success since the last. A refused permit asks again and keeps its place in the order.

Permits may be used from any thread, and given back by finalizers, which can run in the middle of
anything. So no method waits for a lock: what is to be done is put into a queue, and the holder of
the lock does it.
"""

from __future__ import annotations

import heapq
import threading
from collections import deque
from collections.abc import Callable
from itertools import count
from time import monotonic
from typing import NamedTuple

from .._policy.options import Options
from ..errors import ServerBusy

__all__ = ["HANDSHAKES", "TRIES", "HandshakeLimiter", "Server", "Statistics", "Permit", "mute",
           "get_server"]  # fmt: skip

#: Fits OpenSSH's default of MaxStartups 10:30:100, and leaves others a little.
HANDSHAKES = 8
#: So often a handshake without a time limit is tried, and so many bursts of refusals in a row
#: are enough for all that wait for that server without one.
TRIES = 8
#: Seconds of the first and of the longest pause after refusals.
PAUSE = (0.1, 10.0)
#: The same where the server may have banned our address for a time (PerSourcePenalties, by
#: default for 15 s or more); it may also be somebody else who keeps it busy for a moment.
BAN_PAUSE = (0.5, 60.0)
#: So many rounds of successes and a limit that was too much once is tried again.
PROBE_ROUNDS = 16


#: Seconds for which a login may go on counting as unauthenticated with the server, see `confirm`.
LAG = 0.05


class Server(NamedTuple):
    """The server of a handshake; the same address over another way is another server.

    Attributes:
        via: the server that carries it, or the proxy command; None if it is reached directly.
    """

    via: Server | tuple[str, ...] | None
    host: str
    port: int


def get_server(options: Options, carrier: Server | None) -> Server:
    """Return the server of a hop, whatever user logs in there."""
    command = options.proxy_command
    via = carrier if command is None else tuple(command)
    return Server(via, options.host.lower(), options.port)


#: Servers that did not answer `confirm` after a login; nobody waits for it there again, as long
#: as this process lives.  A server that was only slow then is treated with some more `LAG`.
mute: set[Server] = set()


class Statistics(NamedTuple):
    """What happened at one server.

    Attributes:
        limit: how many handshakes it gets at once now.
        in_flight, waiting: permits that are granted, and that wait to be.
        peak: most that were in flight at once.
        granted, authenticated, refused: permits so far.
    """

    limit: int
    in_flight: int
    waiting: int
    peak: int
    granted: int
    authenticated: int
    refused: int


class _State:
    """The limits of one server; changed under the limiter's lock only."""

    __slots__ = ("authenticated", "bursts", "ceiling", "epoch", "granted", "in_flight", "limit",
                 "not_before", "pause", "peak", "queue", "refused", "since_growth", "text",
                 "waiting")  # fmt: skip

    def __init__(self, limit: int) -> None:
        self.limit: int = limit
        self.ceiling: int = limit + 1  # so many at once are known, or assumed, to be too many
        self.in_flight: int = 0
        self.waiting: int = 0
        self.peak: int = 0
        self.granted: int = 0
        self.authenticated: int = 0
        self.refused: int = 0
        self.since_growth: int = 0  # successes
        self.epoch: int = 0  # of refusals: permits of an earlier epoch belong to an earlier burst
        self.bursts: int = 0  # of refusals, without a success between
        self.pause: float = 0.0
        self.not_before: float = 0.0
        self.text: str = ""  # what the server said when it refused last
        self.queue: list[tuple[int, Permit]] = []  # a heap; may hold permits that wait no more


class Permit:
    """One hop's place in the order of its server.

    Attributes:
        granted: whether the handshake may begin, once `get_pause` is 0.
        wake: is called, from any thread, when it is granted. The waiter sets it, and then looks
            at `granted` once more.
        confirmed: whether the server has answered something after the login; set by the code
            that saw the answer.
    """

    __slots__ = ("confirmed", "granted", "wake", "_asked", "_epoch", "_holds", "_jitter",
                 "_number", "_limiter", "_state", "_wants")  # fmt: skip

    def __init__(self, limiter: HandshakeLimiter, state: _State, number: int) -> None:
        self.granted: bool = False
        self.confirmed: bool = False
        self.wake: Callable[[], object] | None = None
        self._limiter = limiter
        self._state = state
        self._number = number
        self._asked = False  # and has not ended since
        # What follows is the limiter's; `granted` may be behind it or, after an end, ahead.
        self._wants = False  # it is in the queue
        self._holds = False  # it is in flight
        self._epoch = 0
        self._jitter = 0.0

    def ask(self) -> None:
        """Ask for the permit to be granted; after `note_refusal` it has its old place."""
        self._asked = True
        self._limiter._do(_ask, self)

    def get_pause(self) -> float:
        """Seconds that a granted permit has to wait still; they may grow meanwhile."""
        state = self._state
        if not state.not_before:
            return 0.0
        # They need not all begin in the same moment.
        return max(0.0, state.not_before + self._jitter * state.pause - self._limiter._clock())

    @property
    def alone(self) -> bool:
        """Whether this is the first permit at its server, and nobody else wants one."""
        return self._state.granted + self._state.waiting <= 1

    @property
    def refusing(self) -> bool:
        """Whether the server has refused, and let nobody in since."""
        return self._state.bursts > 0

    @property
    def server_text(self) -> str:
        """The server's text when it refused last; it may be empty."""
        return self._state.text

    @property
    def hopeless(self) -> bool:
        """Whether the server has just refused so much that nobody need wait without a limit."""
        return self._state.bursts >= TRIES and self.get_pause() > 0

    @property
    def refused_before(self) -> bool:
        """Whether the server has refused any permit."""
        return self._state.refused > 0

    def note_success(self) -> None:
        """End the permit, because the hop is authenticated."""
        self._end(_note_success)

    def note_refusal(self, busy: ServerBusy) -> None:
        """Note that the server was too busy; `ask` again, or `give_back`."""
        self._end(lambda permit: _note_refusal(permit, busy))

    def give_back(self) -> None:
        """End the permit, whatever the outcome; a second call does nothing."""
        if self._asked:
            self._end(_give_back)

    def _end(self, act: Callable[[Permit], None]) -> None:
        # At once, with or without the lock: else its owner could take the last grant for the next.
        self.granted = False
        self.wake = None
        self._limiter._do(act, self)
        self._asked = False  # not before: an interrupt may come between


class HandshakeLimiter:
    """The permits at all servers; for any number of threads and event loops.

    Args:
        handshakes: most unauthenticated handshakes in flight per server.
    """

    def __init__(
        self,
        handshakes: int = HANDSHAKES,
        *,
        clock: Callable[[], float] = monotonic,
        jitter: Callable[[], float] | None = None,
    ) -> None:
        if isinstance(handshakes, bool) or not isinstance(handshakes, int):
            raise TypeError("handshakes must be an integer")
        if handshakes < 1:
            raise ValueError("handshakes must be at least 1")
        self._handshakes = handshakes
        self._clock = clock
        if jitter is None:
            from random import random  # here, because it is slow to import

            jitter = random
        self._draw = jitter
        self._numbers = count()
        self._states: dict[Server, _State] = {}
        self._todo: deque[tuple[Callable[[Permit], None], Permit]] = deque()
        self._lock = threading.Lock()

    @property
    def handshakes(self) -> int:
        return self._handshakes

    def make_permit(self, server: Server) -> Permit:
        """Return a permit at the end of this server's order, and ask for it."""
        state = self._states.get(server)
        if state is None:
            # Atomic: the second of two threads gets the state of the first.
            state = self._states.setdefault(server, _State(self._handshakes))
        permit = Permit(self, state, next(self._numbers))
        permit.ask()
        return permit

    def get_statistics(self) -> dict[Server, Statistics]:
        """Return a snapshot for every server so far."""
        return {
            server: Statistics(s.limit, s.in_flight, s.waiting, s.peak, s.granted,
                               s.authenticated, s.refused)
            for server, s in list(self._states.items())
        }  # fmt: skip

    def _do(self, act: Callable[[Permit], None], permit: Permit) -> None:
        self._todo.append((act, permit))
        # Where another has the lock, it looks into the queue once more after letting go.
        while self._todo and self._lock.acquire(blocking=False):
            try:
                while self._todo:
                    act, permit = self._todo.popleft()
                    act(permit)
                    self._grant(permit._state)
            finally:
                self._lock.release()

    def _grant(self, state: _State) -> None:
        while state.queue and state.in_flight < state.limit:
            _, permit = heapq.heappop(state.queue)
            if not permit._wants:
                continue  # cancelled meanwhile
            permit._wants = False
            state.waiting -= 1
            state.in_flight += 1
            state.granted += 1
            if state.in_flight > state.peak:
                state.peak = state.in_flight
            permit._epoch = state.epoch
            permit._jitter = self._draw()
            permit._holds = permit.granted = True
            wake = permit.wake
            if wake is not None:
                wake()


# What is done to a permit, with the limiter's lock held.


def _ask(permit: Permit) -> None:
    if permit._holds or permit._wants:
        return
    permit._wants = True
    permit._state.waiting += 1
    heapq.heappush(permit._state.queue, (permit._number, permit))


def _give_back(permit: Permit) -> None:
    if permit._holds:
        permit._holds = False
        permit._state.in_flight -= 1
    elif permit._wants:
        permit._wants = False
        permit._state.waiting -= 1


def _note_success(permit: Permit) -> None:
    state = permit._state
    if not permit._holds:
        return
    _give_back(permit)
    state.authenticated += 1
    state.bursts = 0
    if not permit.confirmed:
        state.not_before = max(state.not_before, permit._limiter._clock() + LAG)
    most = permit._limiter._handshakes
    if state.limit >= most:
        return
    state.since_growth += 1
    if state.limit >= state.ceiling and state.since_growth >= state.limit:
        state.ceiling = most + 1  # it was tried again, and is not too much any more
    rounds = 1 if state.limit + 1 < state.ceiling else PROBE_ROUNDS
    if state.since_growth >= state.limit * rounds:
        state.limit += 1
        state.since_growth = 0


def _note_refusal(permit: Permit, busy: ServerBusy) -> None:
    state = permit._state
    if not permit._holds:
        return
    at_once = state.in_flight
    _give_back(permit)
    state.refused += 1
    state.text = busy.server_text
    if permit._epoch != state.epoch:
        return  # its burst has been counted
    state.epoch += 1
    # If it refuses a single handshake, others keep it busy, and our number does not matter.
    state.ceiling = at_once if at_once > 1 else permit._limiter._handshakes + 1
    state.limit = max(1, min(state.limit, at_once) // 2)
    state.since_growth = 0
    state.bursts += 1
    # Since OpenSSH 9.8 a ban has the text of any refusal; while our others get in it is no ban.
    shortest, longest = BAN_PAUSE if busy.may_be_ban and at_once == 1 else PAUSE
    state.pause = min(longest, shortest * 2 ** min(state.bursts - 1, 16))
    state.not_before = permit._limiter._clock() + state.pause
