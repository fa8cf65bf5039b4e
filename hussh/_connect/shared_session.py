"""One connection's session for several users: opened by the first, closed after the last.

The users are the caller, who connects it explicitly, and the connections that it carries.
`AsyncConnection` and `loop_placement` import it. It opens nothing itself: `async_connect.py` does,
in the loop of the first user.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator, Sequence
from time import monotonic
from typing import NamedTuple, Protocol

import anyio

from .._policy.endpoint import Endpoint
from .._policy.options import Options
from .._protocol.connect import make_timeout_error
from .._protocol.core import DeadlineExceeded
from .._runtime.background_loops import LoopThread
from .._runtime.loop_tools import Loop, this_loop, until
from ..errors import ConnectionClosed, ConnectTimeout, HusshError, Phase, ServerBusy
from .async_connect import AsyncSession, Connecting, connect
from .async_handshake_limits import UNHEARD
from .handshake_limits import HandshakeLimiter

__all__ = ["Failures", "Limit", "Shared", "has_run_out"]


class Limit(NamedTuple):
    """When connecting must have ended (a `time.monotonic()` value, or None), and after how long."""

    deadline: float | None
    seconds: float

    @property
    def is_over(self) -> bool:
        """Whether the time has passed."""
        return self.deadline is not None and monotonic() >= self.deadline

    @classmethod
    def after(cls, seconds: float) -> Limit:
        """Return a limit of so many seconds from now; 0 means no limit."""
        return cls(monotonic() + seconds if seconds else None, seconds)

    def choose_earlier(self, other: Limit) -> Limit:
        if other.deadline is None or (self.deadline is not None and self.deadline < other.deadline):
            return self
        return other

    def count_left(self) -> float:
        """Seconds from now, at least one thousandth; 0 means no limit."""
        return 0 if self.deadline is None else max(round(self.deadline - monotonic(), 3), 0.001)

    def is_longer(self, other: Limit) -> bool:
        return bool(other.seconds) and (not self.seconds or self.seconds > other.seconds)

    def __str__(self) -> str:
        return f" after {self.seconds:g} s"


class Failures:
    """Why sessions that many share could not be opened, so that not each of them tries again.

    One batch uses it, and says when to forget.
    """

    def __init__(self) -> None:
        self._known: dict[Shared, tuple[Exception, Limit]] = {}

    def add(self, shared: Shared, error: Exception, limit: Limit) -> None:
        if not isinstance(error, ConnectionClosed):  # that is what somebody wanted
            self._known[shared] = error, limit

    def check(self, shared: Shared, limit: Limit) -> None:
        """Raise the failure of another attempt, unless that one only had less time."""
        error, given = self._known.get(shared, (None, limit))
        if error is None or (has_run_out(error) and limit.is_longer(given)):
            return
        raise copy.copy(error) if isinstance(error, HusshError) else error from error.__cause__

    def forget(self) -> None:
        self._known.clear()


class _Opening:
    """Opening that is under way; who else needs the session waits until it is over.

    Attributes:
        connecting: tells which hop is being opened, and what for, once that has begun.
    """

    connecting: Connecting | None = None

    def __init__(self) -> None:
        self.loop = this_loop()
        self._over: anyio.Event | None = None  # exists once somebody waits
        self.error: HusshError | None = None
        self.busy: ServerBusy | None = None  # the last refusal, while it is tried again
        self.given_up = False

    async def wait(self) -> None:
        """Wait until it is over."""
        if self._over is None:
            self._over = anyio.Event()
        await self._over.wait()

    def fail(self, error: HusshError) -> None:
        """Give the error to those who wait, if any: its traceback holds frames that hold this."""
        if self._over is not None:
            self.error = error

    def end(self) -> None:
        if self._over is not None:
            self._over.set()

    def note(self, busy: ServerBusy) -> None:
        self.busy = busy

    def note_begun(self, connecting: Connecting) -> None:
        self.connecting = connecting


#: Returns the hops, the target's endpoint and the time that there is.
Configure = Callable[[Limit], Awaitable[tuple[Sequence[Options], Endpoint, Limit]]]


class Carriers(Protocol):
    """Makes one session of the jump hosts that several connections find in a configuration."""

    def get_carrier(
        self, hops: Sequence[Options], bastion: Shared | None, endpoint: Endpoint, of: Shared
    ) -> Shared:
        """Return the session of the last of these hops, in the loop that runs."""
        ...


class Shared:
    """A session that does not exist yet, exists, or has been closed and may exist again.

    Attributes:
        endpoint: the server that it is with, and its index on the way.
        session: the present or last one; None if there never was one.
        kept: whether the caller connected it, and will close it.
        limiter: says when to begin, and lets refused handshakes be tried again; set before
            connecting, if at all.
        configure: asks a configuration for the hops, each time before they are opened.
        carriers: gives the bastion that others use, too, where a configuration has named one.
        home: the loop that batches have chosen for it, of those in background threads.
    """

    limiter: HandshakeLimiter | None = None
    configure: Configure | None = None
    carriers: Carriers | None = None
    home: LoopThread | None = None

    def __init__(
        self, hops: Sequence[Options], bastion: Shared | None, endpoint: Endpoint, seconds: float
    ) -> None:
        self._hops = hops
        self._bastion = self._given_bastion = bastion
        self.endpoint: Endpoint = endpoint
        self._seconds = seconds
        self.session: AsyncSession | None = None
        self.kept: bool = False
        self._carried = False  # by the bastion, of which we are a user
        self._users = 0
        self._attempt: _Opening | None = None

    @property
    def target(self) -> Options:
        """What was asked for its own hop."""
        return self._hops[-1]

    def get_session(self) -> AsyncSession:
        """Return the session; raise ConnectionClosed if there never was one."""
        if self.session is None:
            reason = "Not connected: await the connection, or its connect(), first"
            raise self.endpoint.mark(ConnectionClosed(reason), Phase.CONNECT)
        return self.session

    @property
    def is_open(self) -> bool:
        return self.session is not None and not self.session.closed

    @property
    def loop(self) -> Loop | None:
        """The loop that it is open in, or being opened; None if it is neither."""
        if self.is_open and self.session is not None:
            return self.session.driver.loop
        attempt = self._attempt
        return None if attempt is None else attempt.loop

    @property
    def is_lost(self) -> bool:
        """Whether its link is dead though the caller has not closed it."""
        session = self.session
        if session is None or session.closed or session.driver.forked:
            return False
        with session.driver.locked():
            return session.link.dead

    def walk_way(self) -> Iterator[Shared]:
        """Return this one and those that carry it; others may share a tree with the last."""
        on_the_way: Shared | None = self
        while on_the_way is not None:
            yield on_the_way
            on_the_way = on_the_way._bastion

    async def connect(self, limit: Limit, failures: Failures | None = None) -> None:
        """Open it for the caller, unless it is open; `failures` are those of bastions so far."""
        await self._get(limit, failures)
        self.kept = True

    async def lease(self, limit: Limit, failures: Failures | None) -> AsyncSession:
        """Use it, opening it first if it is not open; each success needs a `give_back`."""
        limit = limit.choose_earlier(Limit.after(self._seconds))
        self._users += 1
        try:
            if self.is_lost and not self.kept:
                await self._close()  # its other users have lost it, too
            if failures is not None and not self.is_open:
                failures.check(self, limit)
            return await self._get(limit, failures)
        except BaseException as error:
            if failures is not None and isinstance(error, Exception):
                failures.add(self, error, limit)
            await self.give_back()
            raise

    async def give_back(self) -> None:
        """Count one user less; the last one closes what no caller has opened."""
        self._users -= 1
        if not self._users and not self.kept:
            await self._close()

    async def close(self) -> None:
        """Close it even if others use it; RuntimeError in another loop, unless its own ended."""
        self._check_closable()
        self.kept = False
        if self._attempt is not None:
            self._attempt.given_up = True
        await self._close()

    def collect(self) -> None:
        """Close it for a finalizer; waits for nothing."""
        if self.session is not None:
            self.session.collect()
        bastion = self._bastion
        if bastion is not None and self._carried:
            self._carried = False
            bastion._users -= 1
            if not bastion._users and not bastion.kept:
                bastion.collect()

    def _check_closable(self) -> None:
        if self._attempt is not None and not self._attempt.loop.ended:
            self._attempt.loop.check()
        if self.is_open and self.session is not None:
            self.session.driver.check_closable()

    async def _close(self) -> None:
        try:
            if self.session is not None:
                await self.session.close()
        finally:
            if self._bastion is not None and self._carried:
                self._carried = False
                await self._bastion.give_back()

    async def _get(self, limit: Limit, failures: Failures | None) -> AsyncSession:
        seen: HusshError | None = None  # why another's time was over
        while True:
            if self.session is not None and not self.session.closed:
                self.session.driver.check_loop()
                return self.session
            attempt = self._attempt
            if attempt is None:
                if seen is not None and limit.is_over:
                    raise copy.copy(seen)
                try:
                    return await self._open(limit, failures)
                except ConnectTimeout as error:
                    if seen is None or error.phase not in UNHEARD:
                        raise
                    raise copy.copy(seen) from error
            attempt.loop.check()
            try:
                with until(limit.deadline):
                    await attempt.wait()
            except DeadlineExceeded:
                timeout_error = make_timeout_error(
                    *self._find_place(attempt),
                    DeadlineExceeded(),
                    f"{limit} (another task connects)",
                )
                busy = attempt.busy or self._find_refusal() or seen
                if busy is not None:
                    raise copy.copy(busy) from timeout_error
                raise timeout_error from None
            # The cancellation or time limit of another attempt does not hold here: try again.
            if attempt.error is not None and not has_run_out(attempt.error):
                raise copy.copy(attempt.error) from attempt.error.__cause__
            if attempt.error is not None:
                seen = attempt.error

    async def _open(self, limit: Limit, failures: Failures | None) -> AsyncSession:
        attempt = self._attempt = _Opening()
        try:
            outer = None
            if self.configure is not None:
                limit = await self._configure(self.configure, limit)
            if self._bastion is not None:
                outer = await self._bastion.lease(limit, failures)
                self._carried = True
            try:
                session = await connect(
                    self._hops,
                    outer,
                    limit.deadline,
                    str(limit),
                    self.limiter,
                    attempt.note,
                    attempt.note_begun,
                )
            except BaseException:
                await self._close()
                raise
            self.session = session
            if attempt.given_up:
                await self._close()
                reason = "the connection was closed while it was being opened"
                raise self.endpoint.mark(ConnectionClosed(reason), Phase.CONNECT)
            return session
        except HusshError as error:
            attempt.fail(error)
            raise
        finally:
            self._attempt = None
            attempt.end()

    async def _configure(self, configure: Configure, limit: Limit) -> Limit:
        self._hops, self.endpoint, limit = await configure(limit)
        self._bastion = self._given_bastion
        if self.carriers is not None and len(self._hops) > 1:
            *before, last = self._hops
            self._bastion = self.carriers.get_carrier(before, self._bastion, self.endpoint, self)
            self._hops = (last,)
        return limit

    def _find_place(self, attempt: _Opening) -> tuple[Endpoint, Phase]:
        """Return where an attempt at this is, or at what carries it."""
        if attempt.connecting is None and self._bastion is not None and self._bastion._attempt:
            return self._bastion._find_place(self._bastion._attempt)
        if attempt.connecting is None:
            return self.endpoint, Phase.CONNECT
        hop = attempt.connecting.current
        return hop.endpoint, hop.phase

    def _find_refusal(self) -> ServerBusy | None:
        """Return why opening takes so long: the text of a server that is tried again just now."""
        shared: Shared | None = self
        while shared is not None:
            if shared._attempt is not None and shared._attempt.busy is not None:
                return shared._attempt.busy
            shared = shared._bastion
        return None


def has_run_out(error: Exception) -> bool:
    """Tell whether it was raised because the time was over."""
    return isinstance(error, ConnectTimeout) or isinstance(error.__cause__, ConnectTimeout)
