"""Channels to any address: `direct-tcpip` and its Unix twin, and what the server opens towards us.

See RFC 4254 section 7, and OpenSSH's PROTOCOL section 2.4 for Unix sockets. It has operations only;
`_connect.forwarding` has the sockets of this machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from .._native.channel import Channel
from .._native.constants import ChannelState
from .._native.link import Link
from .._native.local_end import accept, keep_reply, take_reply
from .._policy.forwarding import Address, is_same_host
from .._policy.wire import Reader, boolean, string, uint32
from ..errors import ForwardRefused, ProtocolError, TunnelRefused
from .channel import HINTS, REASONS, get_way_hint, open_channel
from .core import Op, WaitFor

__all__ = ["AUTH_AGENT", "CONNECT_FAILED", "PROHIBITED", "SHORTAGE", "TUNNEL_WINDOW", "Offer",
           "Unclaimed", "accept_offer", "ask_to_forward", "cancel_forward", "give_back",
           "open_tunnel", "read_offer", "refuse_offer"]  # fmt: skip

#: Bytes of a tunnel that may wait for a reader here; as many as in ssh(1).
TUNNEL_WINDOW = 2 * 1024 * 1024
#: Reasons of RFC 4254 section 5.1.
PROHIBITED, CONNECT_FAILED, UNKNOWN_TYPE, SHORTAGE = 1, 2, 3, 4
#: The type of channel by which a server uses an agent that was lent to it.
AUTH_AGENT = "auth-agent@openssh.com"
#: SSH_MSG_GLOBAL_REQUEST, SSH_MSG_CHANNEL_OPEN_FAILURE.
_GLOBAL_REQUEST, _OPEN_FAILURE = b"\x50", b"\x5c"


def open_tunnel(
    link: Link, to: Address, server: str, origin: tuple[str, int] = ("127.0.0.1", 0)
) -> Op[Channel]:
    """Open a channel that the server connects to an address, which it resolves itself.

    Args:
        server: its name in errors.
        origin: who wants it; the server may log that.

    Raises:
        TunnelRefused: with the server's reason.
    """
    if to.path is None:
        kind = b"direct-tcpip"
        extra = string(to.host.encode()) + uint32(to.port)
        extra += string(origin[0].encode()) + uint32(origin[1])
    else:
        kind = b"direct-streamlocal@openssh.com"
        extra = string(to.path.encode("utf-8", "surrogateescape")) + string(b"") + uint32(0)
    channel = yield from open_channel(link, kind, extra, TUNNEL_WINDOW)
    info = channel.get_info()
    if info.state == ChannelState.REFUSED:
        code, text = int(info.reason), channel.text
        channel.free()
        raise TunnelRefused(
            f"{server} refused the tunnel to {to}: {REASONS.get(code, 'unknown reason')}"
            + (f" ({text})" if text else "")
            + f"; {_find_hint(link, code, to)}",
            target=str(to),
            reason_code=code,
            reason_text=text,
        )
    return channel


def _find_hint(link: Link, code: int, to: Address) -> str:
    if to.path is None:
        return get_way_hint(link, code)
    if code == PROHIBITED:
        return "its server does not permit this: see AllowStreamLocalForwarding there"
    if code == UNKNOWN_TYPE:
        return "its server forwards no Unix sockets, but maybe TCP"
    return HINTS.get(code, "see its log") if code != CONNECT_FAILED else "is there such a socket?"


# -- what the server opens towards us


def _request(name: bytes, listen: Address, want_reply: bool) -> bytes:
    if listen.path is None:
        what = string(listen.host.encode()) + uint32(listen.port)
        kind = name + b"tcpip-forward"
    else:
        what = string(listen.path.encode("utf-8", "surrogateescape"))
        kind = name + b"streamlocal-forward@openssh.com"
    return _GLOBAL_REQUEST + string(kind) + boolean(want_reply) + what


@dataclass
class Unclaimed:
    """What a link has asked its server to listen on, and nobody waits for the answer any more.

    Attributes:
        listen: a request for any port, until its answer has come; otherwise None.
    """

    listen: Address | None = None


def give_back(link: Link, unclaimed: Unclaimed) -> None:
    """Cancel what the server has granted to an asker that has gone, once its answer is there."""
    listen = unclaimed.listen
    if listen is None or (answer := take_reply(link)) is None:
        return
    unclaimed.listen = None
    granted, port = answer
    if granted:
        cancel_forward(link, Address(listen.host, port))


def ask_to_forward(link: Link, listen: Address, server: str, unclaimed: Unclaimed) -> Op[Address]:
    """Let the server listen there (RFC 4254 section 7.1); returns where it does.

    Args:
        unclaimed: takes the request if this operation is ended before its answer has come; then
            `give_back` is due whenever something happened to the link.

    Raises:
        ForwardRefused: it does not; the protocol has no reason for that.
    """
    give_back(link, unclaimed)
    while not keep_reply(link):
        link.check()
        yield WaitFor(link)  # until another one has had its answer
        give_back(link, unclaimed)
    kind = _request(b"", listen, True)
    try:
        link.send(kind)
        while (answer := take_reply(link)) is None:
            yield WaitFor(link)
    except BaseException:
        if not link.dead:
            if listen.path is not None or listen.port:
                cancel_forward(link, listen)  # whatever the answer will be
            else:
                unclaimed.listen = listen
                give_back(link, unclaimed)
        raise
    granted, port = answer
    if not granted:
        limits = "AllowStreamLocalForwarding" if listen.path else "PermitListen, GatewayPorts"
        raise ForwardRefused(
            f"{server} refused to listen on {listen}: the address may be in use there, or its"
            f" server does not permit it (see AllowTcpForwarding, {limits} there)"
        )
    if listen.path is None and not listen.port:
        return Address(listen.host, port)
    return listen


def cancel_forward(link: Link, listen: Address) -> None:
    """Let the server listen there no longer; it is not asked for an answer."""
    link.send(_request(b"cancel-", listen, False))


class Offer(NamedTuple):
    """A channel that the server opens towards us (RFC 4254 sections 5.1 and 7.2).

    Attributes:
        number, window, packet: of the channel, at the server.
        kind: its type.
        at: the address to which somebody has connected there; None for an unknown type.
        origin: who that was, as the server says.
    """

    number: int
    window: int
    packet: int
    kind: str
    at: Address | None
    origin: str

    def is_for(self, listen: Address) -> bool:
        """Whether it comes from this address, on which the server listens for us."""
        if self.at is None or (self.at.path is None) is not (listen.path is None):
            return False
        if listen.path is not None:
            return self.at.path == listen.path
        return self.at.port == listen.port and is_same_host(listen.host, self.at.host)


def read_offer(message: bytes) -> Offer:
    """Read an SSH_MSG_CHANNEL_OPEN; fields that cannot be read make its type unknown."""
    reader = Reader(message, 1)
    kind = reader.text()
    number = reader.uint32()  # C has found these two
    window = packet = 0
    at, origin = None, ""
    try:
        window, packet = reader.uint32(), reader.uint32()
        if kind == "forwarded-tcpip":
            at = Address(reader.text(), reader.uint32())
            origin = f"{reader.text()} port {reader.uint32()}"
        elif kind == "forwarded-streamlocal@openssh.com":
            at = Address(path=reader.string().decode("utf-8", "surrogateescape"))
    except ProtocolError:
        at = None
    return Offer(number, window, packet, kind, at, origin)


def accept_offer(link: Link, offer: Offer) -> Channel:
    """Return the channel, open."""
    return accept(link, offer.number, offer.window, offer.packet, TUNNEL_WINDOW)


def refuse_offer(link: Link, offer: Offer, reason: int) -> None:
    """Refuse it (RFC 4254 section 5.1), with a reason of that section."""
    link.send(_OPEN_FAILURE + uint32(offer.number) + uint32(reason) + string(b"") + string(b""))
