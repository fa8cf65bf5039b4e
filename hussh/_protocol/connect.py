"""Brings up every hop, one inside the other, as one operation.

A `ConnectAttempt` makes the hops' attempts, gets the byte stream of the first one (or has a
bastion's link), prepares that link, and runs `bring_up`. Afterwards the `ConnectAttempt` reads how
far the hops have come. It must close every link that exists then; nothing here does.
"""

from __future__ import annotations

from collections.abc import Sequence

from .._native.channel import Channel
from .._native.link import Link
from .._policy.endpoint import Endpoint
from .._policy.options import Options
from ..errors import ConnectTimeout, HusshError, JumpRefused, Phase, ServerBusy
from .auth import AskAgent
from .channel import HINTS, ask_direct, format_address, open_direct, was_never_there
from .core import DeadlineExceeded, Op
from .early_open import EarlyOpen
from .handshake import HopAttempt, establish

__all__ = ["bring_up", "make_timeout_error"]

PHASES = {
    Phase.CONFIG: "asking the ssh configuration about",
    Phase.QUEUE: "waiting for its turn at",
    Phase.DNS: "resolving the name of",
    Phase.CONNECT: "connecting to",
    Phase.PROXY: "waiting for the proxy command of",
    Phase.CHANNEL: "waiting for a bastion to connect to",
    Phase.BANNER: "waiting for the SSH banner of",
    Phase.KEX: "exchanging keys with",
    Phase.HOSTKEY: "checking the host key of",
    Phase.AUTH: "authenticating at",
}


def bring_up(
    hops: Sequence[HopAttempt], carrier: tuple[Link, Endpoint] | None, ask_agent: AskAgent
) -> Op[None]:
    """Bring every hop up to an authenticated link, in the order of travel.

    Args:
        carrier: the link that carries the first hop, and its endpoint; None if that hop has its
            link already.

    Raises:
        JumpRefused: a bastion refused to connect to the next hop; it names the bastion.
        HusshError: what `establish` raises, with its hop. Hops keep the links that they got.
    """
    asked: Channel | None = None
    for hop, after in zip(hops, [*hops[1:], None], strict=True):
        if hop.link is None:
            assert carrier is not None  # noqa: S101  (a driver's mistake)
            outer, bastion = carrier
            hop.enter(Phase.CHANNEL)
            host, port = hop.options.host, hop.options.port
            try:
                channel = yield from open_direct(outer, host, port, bastion.hop, asked)
                # No wait between the two, because any pump may begin the key exchange.
                hop.begin(Link.over_channel(channel))
            except HusshError as error:
                raise bastion.mark(error, Phase.CHANNEL) from error.__cause__
            if hop.story is not None:
                way = f"{bastion.hop} opened the way to {format_address(host, port)}"
                hop.story.note_carrier(bastion.hop, way)
        assert hop.link is not None  # noqa: S101  (it has begun)
        early = hop.early = _choose_early_open(hop, after)
        try:
            yield from establish(hop, ask_agent)
            asked = early.take()
        except ServerBusy as error:
            if carrier is None or not _has_led_nowhere(hop.link, error):
                raise
            raise _make_refusal(hop.options, carrier[1]) from None
        finally:
            early.drop()
        carrier = hop.link, hop.endpoint


def _choose_early_open(hop: HopAttempt, after: HopAttempt | None) -> EarlyOpen:
    """Return what to open behind the login of a hop: the way to the next one, or a session."""
    if after is None:
        return EarlyOpen(hop.options, hop.memory, opens_session=hop.is_target)
    to = after.options
    return EarlyOpen(hop.options, hop.memory, lambda link: ask_direct(link, to.host, to.port))


def _has_led_nowhere(link: Link, error: ServerBusy) -> bool:
    """Tell whether the bastion closed the channel because it could not connect to the server."""
    outer = link.outer
    if error.server_text or outer is None or outer.link.dead or link.get_info().received:
        return False
    return was_never_there(outer)


def _make_refusal(options: Options, bastion: Endpoint) -> HusshError:
    target = format_address(options.host, options.port)
    error = JumpRefused(
        f"{bastion.hop} granted the way to {target} and closed it before a byte came: {HINTS[2]}",
        target=target,
        reason_code=2,
    )
    return bastion.mark(error, Phase.CHANNEL)


def make_timeout_error(
    endpoint: Endpoint, phase: Phase, timeout_error: DeadlineExceeded, time_limit: str
) -> ConnectTimeout:
    """Return the error for a deadline that passed there; `time_limit` is the limit as text."""
    phase = timeout_error.phase or phase
    doing = PHASES.get(phase, f"in phase {phase} with")
    program_text = (
        f"; the proxy command's stderr: {timeout_error.program_text}"
        if timeout_error.program_text
        else ""
    )
    waiting = f", waiting for {timeout_error.waiting}" if timeout_error.waiting else ""
    error = ConnectTimeout(
        f"Connection timed out{time_limit} while {doing} {endpoint.hop}{waiting}{program_text}"
    )
    error.add(timeout_error.banner)
    endpoint.mark(error, phase)
    return error
