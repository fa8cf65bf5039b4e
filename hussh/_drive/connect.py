"""Connecting, for the sync driver: the way from a route to an authenticated session.

A `Session` is one hop that is up: its link, the tree it lives in, and the
session of the bastion that carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TypeVar

from .._native.link import Link
from .._policy.options import Options
from .._policy.route import format_hop
from .._protocol.channel import open_direct
from .._protocol.core import DeadlineExceeded, Op
from .._protocol.session import Place, establish, load_known_hosts, prepare
from ..errors import CommandTimeout, ConnectionClosed, ConnectTimeout, HusshError
from .ask_agent import ask_agent
from .dial import dial
from .keepalive import Keepalive, ended, tend
from .proxy import start_proxy
from .sync import Stream, Tree

__all__ = ["Session", "connect"]

T = TypeVar("T")

PHASES = {
    "dns": "resolving the name of",
    "connect": "connecting to",
    "proxy": "waiting for the proxy command of",
    "channel": "waiting for a bastion to connect to",
    "banner": "waiting for the SSH banner of",
    "kex": "exchanging keys with",
    "hostkey": "checking the host key of",
    "auth": "authenticating at",
}


class Session:
    """One hop, from when its byte stream exists.

    Attributes:
        outer: the session whose channel carries this one, or None.
        owned: whether `outer` was made for this one and ends with it.
    """

    def __init__(
        self, tree: Tree, link: Link, place: Place, outer: Session | None, *, owned: bool
    ) -> None:
        self.tree = tree
        self.link = link
        self.place = place
        self.outer = outer
        self.owned = owned
        self.closed = False
        self.keepalive = False

    @property
    def hop(self) -> str:
        return self.place.hop

    def run(self, op: Op[T], deadline: float | None, phase: str) -> T:
        """Run an operation; its errors say on which hop, and in which phase if they do not know."""
        try:
            self.check_open()
            return self.tree.run(op, deadline)
        except HusshError as error:
            if self.outer is None:
                error = self._explained(error)
            raise error.at(self.hop, self.place.index, phase) from self._cause(error)
        finally:
            op.close()

    def call(self, op: Op[T], seconds: float | None, phase: str) -> T:
        """`run` within a time limit; raises CommandTimeout when that is over."""
        try:
            return self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            late = CommandTimeout(f"timed out after {round((seconds or 0) * 1000)} ms", phase=phase)
            raise late.at(self.hop, self.place.index) from None

    def _explained(self, error: HusshError) -> HusshError:
        """The same, in the words of the stream that carries us; keeps partial output."""
        better = self.tree.explain(error)
        if better is not error:
            better.__dict__.update(
                {k: v for k, v in error.__dict__.items() if k not in better.__dict__}
            )
        return better

    def check_open(self) -> None:
        if self.closed:
            raise ConnectionClosed("the connection is closed")
        outer = self.outer
        while outer is not None:
            if outer.closed:
                raise ConnectionClosed(f"the connection to the bastion {outer.hop} was closed")
            outer = outer.outer

    def _cause(self, error: HusshError) -> BaseException | None:
        """Where a connection is lost because one that carries it is: that one's own error."""
        lost = None
        outer = self.outer
        if outer is None or self.tree.forked or not isinstance(error, ConnectionError):
            return error.__cause__
        with self.tree.locked():
            while outer is not None:
                if outer.link.dead and not outer.link.freed:
                    lost = outer
                outer = outer.outer
            if lost is None:
                return error.__cause__
            death = lost.link.death()
        if lost.outer is None:
            death = lost._explained(death)
        return death.at(lost.hop, lost.place.index, lost.place.phase)

    def probe(self, keepalive: Keepalive) -> bool:
        """One beat of the keepalive thread."""
        if self.closed or self.tree.forked:
            return False
        with self.tree.fresh():
            alive = not self.link.freed and keepalive.probe(self.link)
        return alive

    def close(self) -> None:
        """End this session and the bastions made for it; never raises.

        Waits for nothing but a proxy command that is slow to end, a second at most.
        """
        if self.closed:
            return
        self.closed = True
        self.tree.end(self.link)
        if self.keepalive:
            ended()
        if self.outer is not None and self.owned:
            self.outer.close()

    def collect(self) -> None:
        """`close` for finalizers: waits for no lock."""
        if self.closed:
            return
        self.closed = True
        self.tree.collect(self.link)
        if self.outer is not None and self.owned:
            self.outer.collect()


def connect(
    hops: Sequence[Options], bastion: Session | None, timeout: float | None, time_limit: str
) -> Session:
    """Connect hop by hop; the last one's session is the result.

    Args:
        hops: what each hop needs, in the order of travel, the target last.
        bastion: a session that carries the first of them, or None to dial it.
        timeout: seconds for everything together; None: no limit.
        time_limit: how an error words that limit.

    Raises:
        ConnectTimeout, and whatever `dial`, `open_direct` and `establish` raise.
    """
    deadline = None if timeout is None else monotonic() + timeout
    session = bastion
    first = 0 if bastion is None else bastion.place.index + 1
    place = Place("", first)
    try:
        for index, options in enumerate(hops, first):
            place = Place(format_hop(options.username, options.host, options.port), index)
            session = _next(session, session is not bastion, options, place, deadline)
        assert session is not None  # noqa: S101  (hops is never empty)
        return session
    except BaseException as error:
        while session is not None and session is not bastion:
            session.close()
            session = session.outer
        if isinstance(error, DeadlineExceeded):
            place.phase = error.phase or place.phase
            doing = PHASES.get(place.phase, f"in phase {place.phase} with")
            said = f"; the proxy command's stderr: {error.said}" if error.said else ""
            late = ConnectTimeout(
                f"Connection timed out{time_limit} while {doing} {place.hop}{said}"
            )
            raise place.mark(late) from None
        if isinstance(error, HusshError):
            place.mark(error)
        raise


def _next(
    outer: Session | None, owned: bool, options: Options, place: Place, deadline: float | None
) -> Session:
    known = load_known_hosts(options)  # before there is a link: others pump those over a bastion
    if outer is None:
        if options.proxy_command is None:
            stream: Stream = dial(options.host, options.port, deadline)
        else:
            place.phase = "proxy"
            stream = start_proxy(options.proxy_command)
        try:
            tree = Tree(stream)
            prepare(tree.root, options, known)
        except BaseException:
            stream.close()
            raise
        session = Session(tree, tree.root, place, None, owned=False)
    else:
        place.phase = "channel"
        way = open_direct(outer.link, options.host, options.port, outer.hop)
        channel = outer.run(way, deadline, "channel")  # a refusal is the bastion's
        with outer.tree.locked():
            link = Link.over_channel(channel)
            prepare(link, options, known)
        session = Session(outer.tree, link, place, outer, owned=owned)
    try:
        session.tree.run(establish(session.link, options, place, ask_agent, known), deadline)
    except HusshError as error:
        better = session._explained(error) if outer is None else error
        session.owned = False
        session.close()
        raise better from session._cause(error)
    except BaseException as error:
        if isinstance(error, DeadlineExceeded) and outer is None:
            error.said = session.tree.said()
        session.owned = False  # the caller ends what lies below
        session.close()
        raise
    if options.keepalive_interval:
        session.keepalive = True
        tend(session, options.keepalive_interval)
    return session
