"""Bringing up every hop of a way, one inside the other, as one operation.

A driver makes the stages, gets the byte stream of the first one (or has a
bastion's link), prepares that link, and runs `bring_up`.  It reads afterwards
how far the stages have come: what has a link must be closed by whoever made it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .._native.link import Link
from .._policy.hostkeys.known_hosts import Recorded
from .._policy.options import Options
from .._policy.route import format_hop
from ..errors import ConnectTimeout, HusshError, JumpRefused, ServerBusy
from .auth import AskAgent
from .channel import HINTS, address, open_direct, was_never_there
from .core import DeadlineExceeded, Op
from .handshake import Place, establish, prepare

__all__ = ["Stage", "bring_up", "plan", "timed_out"]

PHASES = {
    "queue": "waiting for its turn at",
    "dns": "resolving the name of",
    "connect": "connecting to",
    "proxy": "waiting for the proxy command of",
    "channel": "waiting for a bastion to connect to",
    "banner": "waiting for the SSH banner of",
    "kex": "exchanging keys with",
    "hostkey": "checking the host key of",
    "auth": "authenticating at",
}


@dataclass
class Stage:
    """One hop on its way up.

    Attributes:
        known: what is recorded of its host keys; loaded by the driver, since that reads files.
        link: from when its byte stream exists.
    """

    options: Options
    place: Place
    known: Recorded | None = None
    link: Link | None = None

    def begin(self, link: Link) -> None:
        """Take a fresh link that nobody has pumped yet."""
        assert self.known is not None  # noqa: S101  (a driver's mistake)
        self.link = link
        prepare(link, self.options, self.known)


def plan(hops: Iterable[Options], first: int) -> list[Stage]:
    """The stages of these hops, the target last; `first` is the place of the first of them."""
    return [
        Stage(options, Place(format_hop(options.username, options.host, options.port), index))
        for index, options in enumerate(hops, first)
    ]


def bring_up(
    stages: Sequence[Stage], carrier: tuple[Link, Place] | None, ask_agent: AskAgent
) -> Op[None]:
    """Every stage up to an authenticated link, in the order of travel.

    Args:
        carrier: the link that carries the first stage, and its place; None: that stage has
            its link already.

    Raises:
        JumpRefused and whatever `establish` raises; all know their hop, which for a refused
        way is the bastion that refused it.  Stages keep the links they got.
    """
    for stage in stages:
        place = stage.place
        if stage.link is None:
            assert carrier is not None  # noqa: S101  (a driver's mistake)
            outer, outer_place = carrier
            place.enter("channel")
            host, port = stage.options.host, stage.options.port
            try:
                channel = yield from open_direct(outer, host, port, outer_place.hop)
                # No wait between the two: whoever pumps may begin the key exchange.
                stage.begin(Link.over_channel(channel))
            except HusshError as error:
                raise error.at(outer_place.hop, outer_place.index, "channel") from error.__cause__
            if place.story is not None:
                way = f"{outer_place.hop} opened the way to {address(host, port)}"
                place.story.carried(outer_place.hop, way)
        assert stage.link is not None  # noqa: S101  (it has begun)
        try:
            yield from establish(stage.link, stage.options, place, ask_agent, stage.known)
        except ServerBusy as error:
            if carrier is None or not _led_nowhere(stage.link, error):
                raise
            raise _refused(stage, carrier[1]) from None
        carrier = stage.link, place


def _led_nowhere(link: Link, error: ServerBusy) -> bool:
    """Whether the bastion closed the way because it could not connect to the server."""
    outer = link.outer
    if error.server_text or outer is None or outer.link.dead or link.get_info().received:
        return False
    return was_never_there(outer)


def _refused(stage: Stage, bastion: Place) -> HusshError:
    target = address(stage.options.host, stage.options.port)
    error = JumpRefused(
        f"{bastion.hop} granted the way to {target} and closed it before a byte came: {HINTS[2]}",
        target=target,
        reason_code=2,
    )
    return error.at(bastion.hop, bastion.index, "channel")


def timed_out(place: Place, timeout_error: DeadlineExceeded, time_limit: str) -> ConnectTimeout:
    """The error for a deadline that passed at this place; `time_limit` is how it words that."""
    place.phase = timeout_error.phase or place.phase
    doing = PHASES.get(place.phase, f"in phase {place.phase} with")
    program_text = (
        f"; the proxy command's stderr: {timeout_error.program_text}"
        if timeout_error.program_text
        else ""
    )
    waiting = f", waiting for {timeout_error.waiting}" if timeout_error.waiting else ""
    error = ConnectTimeout(
        f"Connection timed out{time_limit} while {doing} {place.hop}{waiting}{program_text}"
    )
    error.add(timeout_error.banner)
    place.mark(error)
    return error
