"""Brings one hop up: key exchange, host key check, authentication.

A `ConnectAttempt` and `bring_up` run it. `HopAttempt` tells, at any moment, which hop and phase an
operation is in, so that a time-out or a lost connection can say so. It frees no link: the
`ConnectAttempt` does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import lru_cache

from .._native.constants import KEX_FAILURES, Death, Method
from .._native.link import Link
from .._policy.endpoint import Endpoint
from .._policy.hostkeys.known_hosts import Recorded, order_algorithms
from .._policy.keys.public_key import CERTIFICATE
from .._policy.options import Options
from .._policy.server_memory import ServerMemory
from .._policy.wire import KEEPALIVE, Reader
from ..errors import (
    ConnectionLost,
    HusshError,
    NegotiationError,
    Phase,
    ProtocolError,
    ServerBusy,
    printable,
)
from .auth import AskAgent, authenticate
from .core import Op, WaitFor
from .early_open import EarlyOpen
from .host_key_check import check_host_key
from .offered_algorithms import list_offered_algorithms
from .spare_session import SpareSession
from .story import HopStory, is_aead, list_agreed

__all__ = ["HopAttempt", "HopState", "confirm", "establish", "prepare"]

#: libssh2 does not tell a forged host key signature from other failures of an exchange.
FORGED = " (a forged host key signature looks like this, too)"

#: What servers say instead of a banner where they have too much to do: OpenSSH until 9.7 the
#: first, since 9.8 the second for everything, also for a banned address; the rest are others'.
BUSY = r"maxstartups|not allowed at this time|too many|too busy|try again"
MAY_BE_BAN = "not allowed at this time"
TOO_MANY_CONNECTIONS = 12  # a reason of SSH_MSG_DISCONNECT; RFC 4253 section 11.1

#: Characters of a server's list of algorithms that an error repeats; OpenSSH's have some hundred.
MOST_LISTED = 1000


#: The lists of SSH_MSG_KEXINIT, each with the argument of `Connection` that changes it.
_KINDS = (("kex", "key exchange", "key_exchange="), ("hostkey", "host key", "host_key_algorithms="),
          ("cipher", "cipher", "ciphers="), ("cipher", "cipher", "ciphers="),
          ("mac", "MAC", "macs="), ("mac", "MAC", "macs="),
          ("compression", "compression", "compression="))  # fmt: skip


class HopState(Enum):
    """How far a hop is that is to be connected."""

    WAITING = auto()  # for those before it
    STARTED = auto()
    UP = auto()


@dataclass(eq=False, repr=False)
class HopAttempt:
    """One hop of a `ConnectAttempt`.

    Attributes:
        phase: the phase that it is in, or will begin with.
        known: what is recorded of its host keys; a driver loads it, because that reads files.
        link: exists from when its byte stream does.
        story: collects what happens at this hop; None if nobody wants to know.
        memory: what this process has seen of the server.
        is_target: whether commands will run there, and not only a way lead through it.
        early: what is opened behind the login, once that begins.
    """

    endpoint: Endpoint
    options: Options
    known: Recorded | None = None
    link: Link | None = None
    phase: Phase = Phase.CONNECT
    state: HopState = HopState.WAITING
    story: HopStory | None = None
    memory: ServerMemory = field(default_factory=ServerMemory)
    is_target: bool = False
    early: EarlyOpen | None = None

    @classmethod
    def to(cls, options: Options, index: int) -> HopAttempt:
        return cls(Endpoint.of(options, index), options)

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self.phase, self.state = phase, HopState.STARTED
        if self.story is not None:
            self.story.begin(phase)

    def begin(self, link: Link) -> None:
        """Take a fresh link that nobody has pumped yet."""
        assert self.known is not None  # noqa: S101  (a driver's mistake)
        self.link, self.state = link, HopState.STARTED
        spare = SpareSession.of(link)
        spare.memory = self.memory
        spare.is_allowed = self.is_target and self.options.settings["spare_channel"]
        prepare(link, self.options, self.known)

    def note_arrived(self) -> None:
        """Note that it is up: what happens to it now is no failure to log in."""
        self.phase, self.state = Phase.CHANNEL, HopState.UP
        if self.story is not None:
            self.story.note_up()

    def mark(self, error: HusshError) -> HusshError:
        return self.endpoint.mark(error, self.phase)


def establish(hop: HopAttempt, ask_agent: AskAgent) -> Op[None]:
    """Bring a hop from a fresh link to an authenticated one.

    Args:
        hop: it has begun with its link.

    Raises:
        NegotiationError, HostKeyError, AuthenticationError, ConnectionLost, ProtocolError: with
            hop and phase.
    """
    link, options, known, story = hop.link, hop.options, hop.known, hop.story
    assert link is not None and known is not None  # noqa: S101, PT018  (it has begun)
    try:
        hop.enter(Phase.BANNER)
        yield from _exchange_keys(link, hop)
        if story is not None:
            story.note_algorithms(list_agreed(link))
        hop.enter(Phase.HOSTKEY)
        yield from check_host_key(link, options, known, hop.endpoint.hop, story)
        hop.enter(Phase.AUTH)
        if story is not None:
            yield from story.write_log()
        yield from authenticate(link, options, hop.endpoint.hop, ask_agent, story, hop.early)
        while link.phase is not Phase.CHANNEL:
            link.check()
            yield WaitFor(link)
        if hop.early is not None:
            hop.early.follow_grant(link)
        hop.note_arrived()
    except HusshError as error:
        raise hop.mark(error) from error.__cause__


def prepare(link: Link, options: Options, known: Recorded) -> None:
    """Set what to offer. It must come before the first pump, which may begin the key exchange."""
    wanted = list_offered_algorithms(options)
    types, has_authority = known.key_types, known.has_authority
    if options.host_key_pins is not None:
        types, has_authority = options.host_key_pins.key_types, False
    elif options.settings["host_key_policy"] == "ignore":
        types, has_authority = (), False
    key_exchange, ciphers, macs = wanted.lists
    link.prefer(
        (
            (Method.KEX, key_exchange),
            (Method.HOSTKEY, _list_host_keys(types, wanted.host_keys, has_authority)),
            # The same both ways: libssh2 mixes up two different ciphers.
            (Method.CRYPT_CS, ciphers),
            (Method.CRYPT_SC, ciphers),
            (Method.MAC_CS, macs),
            (Method.MAC_SC, macs),
        )
    )
    if wanted.compression:
        link.compress()
    if options.configured.rekey_bytes:
        link.rekey_after(options.configured.rekey_bytes)


@lru_cache(maxsize=64)  # of most hosts keys of the same few types are recorded
def _list_host_keys(types: tuple[str, ...], offered: tuple[str, ...], has_authority: bool) -> bytes:
    return ",".join(order_algorithms(types, offered, has_authority)).encode("ascii")


def _exchange_keys(link: Link, hop: HopAttempt) -> Op[None]:
    while (phase := link.phase) in (Phase.BANNER, Phase.KEX):
        if phase is Phase.KEX:
            _enter_kex(link, hop)
        if link.dead:
            raise _make_handshake_error(link, hop.options)
        yield WaitFor(link)
    _enter_kex(link, hop)


def _enter_kex(link: Link, hop: HopAttempt) -> None:
    if hop.phase is not Phase.KEX:
        if hop.story is not None:
            hop.story.note_banner(link.banner)
        hop.enter(Phase.KEX)


def _make_handshake_error(link: Link, options: Options) -> HusshError:
    state = link.get_info()
    if state.death is Death.EOF and state.phase is Phase.BANNER:
        return _make_banner_error(link)
    if state.death is Death.PEER and state.code == TOO_MANY_CONNECTIONS:
        return ServerBusy(
            f"the server has too many connections: {state.text or 'no reason'}",
            server_text=printable(state.text),
        )
    if state.death is Death.PROTOCOL and state.code in KEX_FAILURES:
        return _make_negotiation_error(link, options, state.text)
    return link.get_death()


def _make_banner_error(link: Link) -> HusshError:
    """Return the error for an end before the banner; a reset counts as an end.

    If the stream is a proxy command's, the command knows more about an end without any text.
    """
    if _has_lost_carrier(link):
        return link.get_death()
    server_text = printable(link.preamble.decode("utf-8", "replace"))
    text = "the server closed the connection before its SSH banner"
    if not server_text:
        return ServerBusy(f"{text}; is it an SSH server, and not too busy?")
    text += f"; it said: {server_text}"
    if not re.search(BUSY, server_text, re.I):
        return ConnectionLost(text)
    may_be_ban = MAY_BE_BAN in server_text.lower()
    text += ". It gets too many connections at once"
    if may_be_ban or "maxstartups" in server_text.lower():
        text += " (MaxStartups in its sshd_config)"
    if may_be_ban:
        text += ", or bans your address for a while (PerSourcePenalties)"
    return ServerBusy(text, server_text=server_text, may_be_ban=may_be_ban)


def _has_lost_carrier(link: Link) -> bool:
    outer = link.outer
    while outer is not None:
        if outer.link.dead:
            return True
        outer = outer.link.outer
    return False


def confirm(link: Link) -> Op[None]:
    """Wait for the first answer after the login.

    For a moment after the client knows that its login succeeded, sshd still counts it as
    unauthenticated. The process that answers this begins after that moment.

    Raises:
        ConnectionLost, ConnectionClosed, ProtocolError: the connection ended.
    """
    answers = link.get_info().replies
    link.send(KEEPALIVE)
    while link.get_info().replies == answers:
        link.check()
        yield WaitFor(link)


def _make_negotiation_error(link: Link, options: Options, text: str) -> HusshError:
    wanted = list_offered_algorithms(options)
    host_keys = tuple(name for name in wanted.host_keys if not name.endswith(CERTIFICATE))
    ours = (wanted.key_exchange, host_keys, wanted.ciphers, wanted.ciphers,
            wanted.macs, wanted.macs, ("none",))  # fmt: skip
    try:
        reader = Reader(link.peer_kexinit, 17)
        theirs = [reader.name_list() for _ in _KINDS]
    except ProtocolError:
        return ProtocolError(f"key exchange failed: {text}{FORGED}")
    missing = [
        (kind, ",".join(ours[i]), printable(",".join(theirs[i]), MOST_LISTED))
        for i, kind in enumerate(_KINDS)
        if theirs[i]
        and not _find_common(ours[i], theirs[i])
        # What a MAC stands beside is the cipher of the same direction, two places before it.
        and not (kind[0] == "mac" and is_aead(_find_common(ours[i - 2], theirs[i - 2])))
    ]
    if not missing:
        return ProtocolError(f"key exchange failed: {text}{FORGED}")
    (_, name, argument), us, them = missing[0]
    others = {kind: them for kind, _, them in missing[1:]}  # once for both directions
    also = [f". Nor is there a common {kind[1]} algorithm: it offers {text}; see {kind[2]}"
            for kind, text in others.items() if kind[0] != missing[0][0][0]]  # fmt: skip
    return NegotiationError(
        f"no common {name} algorithm: the server offers {them}; "
        f"we offer {us}. {argument} changes what we offer{''.join(also)}",
        ours={kind[0]: us for kind, us, _ in missing},
        theirs={kind[0]: them for kind, _, them in missing},
    )


def _find_common(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """Return the name that is agreed on (RFC 4253 section 7.1), or an empty string."""
    return next((name for name in ours if name in theirs), "")
