"""One session: its link, the tree it is in, and the hop of the bastion that carries it.

`connect.py` and `async_connect.py` add how an operation runs on it. A `ConnectAttempt` makes them.
Nothing here waits, except where `Hop.make_error` says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from .._native.link import Link
from .._policy.algorithms import HopAlgorithms
from .._policy.endpoint import Endpoint
from .._protocol.story import make_hop_algorithms
from .._protocol.tunnel import AUTH_AGENT
from .._results.ssh_result import SSHResult
from .._runtime.driver import Driver
from .._runtime.keepalive import Beats, Keepalive, MakeBeats
from ..errors import CommandTimeout, ConnectionClosed, HusshError, Phase
from .handshake_limits import Server

__all__ = ["AnyDriver", "Hop"]

_log = logging.getLogger("hussh.tunnels")

AnyDriver = TypeVar("AnyDriver", bound=Driver[Any])


class Hop(Generic[AnyDriver]):
    """One hop, from when its byte stream exists.

    Attributes:
        outer: the hop whose channel carries this one, or None.
        owned: whether `outer` was made for this one and ends with it.
        server: the server that its login counts for, if logins are limited.
    """

    server: Server | None = None
    #: Who gets the channels that the server opens; see `forwarding`.
    incoming: Any = None

    def __init__(
        self,
        driver: AnyDriver,
        link: Link,
        endpoint: Endpoint,
        outer: Hop[AnyDriver] | None,
        *,
        owned: bool,
    ) -> None:
        self.driver = driver
        self.link = link
        self.endpoint = endpoint
        self.outer = outer
        self.owned = owned
        self.closed: bool = False
        self.is_tended = False

    # -- what a driver adds

    def tend(self, interval: float, make: MakeBeats = Keepalive) -> None:
        """Call `probe` every `interval` seconds, until it returns False or this is closed."""
        raise NotImplementedError

    def untend(self) -> None:
        """Stop calling `probe`, because this is closed."""
        raise NotImplementedError

    # -- for both

    @property
    def hop(self) -> str:
        return self.endpoint.hop

    def check_open(self) -> None:
        if self.closed:
            raise ConnectionClosed("the connection is closed")
        outer = self.outer
        while outer is not None:
            if outer.closed:
                raise ConnectionClosed(f"the connection to the bastion {outer.hop} was closed")
            outer = outer.outer

    def list_algorithms(self) -> tuple[HopAlgorithms, ...]:
        """Return what each hop of the way agreed on with its server, in the order of travel."""
        self.driver.check_process()
        found: list[HopAlgorithms] = []
        with self.driver.locked():
            at: Hop[AnyDriver] | None = self
            while at is not None:
                found.append(make_hop_algorithms(at.endpoint.hop, at.link))
                at = at.outer
        return tuple(reversed(found))

    def call_at_once(self, call: Callable[[], object]) -> None:
        """Make a call that only queues, such as one that closes; never waits, may be nested."""
        with self.driver.mine() as root:
            call()
            if not root.freed:
                root.flush()

    def make_error(self, error: HusshError, phase: Phase | None) -> HusshError:
        """Return what to raise for an error of an operation: with its hop and its cause.

        It waits half a second for a proxy command that is about to end (`Driver.slow`).
        """
        if self.outer is None:
            error = self._explain(error)
        self.endpoint.mark(error, phase)
        error.__cause__ = self._find_cause(error)
        return error

    def make_command_timeout(self, limit: str, phase: Phase) -> CommandTimeout:
        """Return the error for an operation that took too long; `limit` is the limit as text."""
        error = CommandTimeout(f"timed out after {limit}", result=SSHResult(), phase=phase)
        self.endpoint.mark(error)
        return error

    def _explain(self, error: HusshError) -> HusshError:
        """Return the same error as the stream that carries us explains it; keep partial output."""
        better = self.driver.explain(error)
        if better is not error:
            better.__dict__.update(
                {k: v for k, v in error.__dict__.items() if k not in better.__dict__}
            )
        return better

    def _find_cause(self, error: HusshError) -> BaseException | None:
        """Return the error of a carrying connection whose loss is the cause of this one's."""
        lost = None
        outer = self.outer
        if outer is None or self.driver.forked or not isinstance(error, ConnectionError):
            return error.__cause__
        with self.driver.locked():
            while outer is not None:
                if outer.link.dead and not outer.link.freed:
                    lost = outer
                outer = outer.outer
            if lost is None:
                return error.__cause__
            death = lost.link.get_death()
        if lost.outer is None:
            death = lost._explain(death)
        return lost.endpoint.mark(death, Phase.CHANNEL)

    def probe(self, beats: Beats) -> bool:
        """Make one beat, such as a keepalive; return False if there is nothing to do any more."""
        if self.closed or self.driver.forked:
            return False
        with self.driver.fresh():
            alive = not self.link.freed and beats.probe(self.link)
        return alive

    def end(self) -> None:
        """End this session and the bastions made for it; waits for no peer."""
        if self.closed:
            return
        self.closed = True
        self.driver.end(self.link)
        self._tell_unasked()
        if self.is_tended:
            self.untend()
        if self.outer is not None and self.owned:
            self.outer.end()

    def _tell_unasked(self) -> None:
        unasked = self.driver.unasked.pop(self.link.token, None)
        if unasked is not None:
            count, kind = unasked
            what = "the ssh-agent" if kind == AUTH_AGENT else f"a channel ({kind!r})"
            text = "[%s] the server asked for %s, which nobody lent it: refused (%d requests)"
            _log.warning(text, self.hop, what, count)

    def collect(self) -> None:
        """Call `end` for a finalizer; waits for no lock."""
        if self.closed:
            return
        self.closed = True
        self.driver.collect(self.link)
        if self.outer is not None and self.owned:
            self.outer.collect()
