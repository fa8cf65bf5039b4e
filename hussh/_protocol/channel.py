"""Opens channels: `session` for commands, `direct-tcpip` for the connection to the next hop.

Operations that need a channel call it: commands, SFTP, scp, and connecting through a bastion. It
knows nothing of what a channel is for.
"""

from __future__ import annotations

from collections.abc import Callable
from time import sleep
from typing import TypeVar

from .._native.channel import Channel
from .._native.constants import ChannelState
from .._native.link import Carrier, Link
from .._policy.wire import string, uint32
from .._results.ssh_result import SSHResult
from ..errors import ChannelRefused, ConnectionLost, HusshError, JumpRefused
from .core import Op, RunBlocking, WaitFor
from .open_answer import wait_until_answered
from .session_slots import SessionSlots
from .spare_session import SpareSession

__all__ = ["HINTS", "format_address", "ask_direct", "note_length", "note_result", "open_channel",
           "open_direct", "open_session", "take_ready_session", "send_signal", "retry_until_heard",
           "was_never_there", "was_unheard", "get_way_hint"]  # fmt: skip

T = TypeVar("T")

SESSION_WINDOW = 2 * 1024 * 1024
#: A link over a channel keeps its window open for all of its own channels.
JUMP_WINDOW = 8 * 1024 * 1024

#: Every server takes a command of this length, in bytes. RFC 4253 section 6.1 demands 32,000, but
#: dropbear ends the connection beyond 9,000.
REQUEST_SAFE = 9_000

#: So many times another session is opened for one that the server closed at once.
#: dropbear 2022.83 does so when it has just reaped the command of another session; it
#: has done nothing for the closed one.
STILLBORN_MAX = 3
#: How often to ask again for the place of a session that we closed, since the last of those was
#: given back: the first times after a round trip each, then also after pauses, which grow by so
#: many seconds, 1.95 in all.
RETRIES_MAX = 30
RETRIES_AT_ONCE = 5
PAUSE = 0.006
PROHIBITED = 1
#: RFC 4254 section 5.1, with what a user can do about it on a bastion.
REASONS = {
    1: "administratively prohibited",
    2: "connect failed",
    3: "unknown channel type",
    4: "resource shortage",
}
HINTS = {
    1: "its server does not permit this forwarding: see what it calls TCP forwarding or tunnels",
    2: "it cannot reach that address: check the name, the route and the port from there",
    3: "it is no server that can forward connections",
    4: "it is out of channels or sockets: use fewer at once",
}
#: The same advice in the terms of one server, by the beginning of its banner.
PROHIBITED_HINTS = {
    "SSH-2.0-OpenSSH": "its sshd does not permit this forwarding: see AllowTcpForwarding and"
    " PermitOpen there",
    "SSH-2.0-dropbear": "its dropbear does not permit this forwarding: see its options -j and -b,"
    " and no-port-forwarding of the key",
}
#: Servers that grant a channel before they have connected, and close it if they cannot.
#: Some of them say EOF before.
GRANT_FIRST = ("SSH-2.0-Twisted", "SSH-2.0-paramiko")


def open_channel(link: Link, kind: bytes, extra: bytes, window: int) -> Op[Channel]:
    link.check()
    return (yield from wait_until_answered(link, Channel.open(link, kind, extra, window)))


def _wait_for_a_slot(link: Link, slots: SessionSlots) -> Op[None]:
    ticket = slots.queue_up(link)
    try:
        while slots.is_full:
            link.check()
            yield WaitFor(ticket)
    finally:
        slots.leave_queue(link, ticket)


def open_session(
    link: Link, *, ends_by_itself: bool = False, window: int = SESSION_WINDOW
) -> Op[Channel]:
    """Open a channel for one command, shell or subsystem (RFC 4254 section 6.1).

    Servers limit how many they give at once (MaxSessions of sshd). The limit is learnt from
    refusals. While sessions that end by themselves are under way (`ends_by_itself`: those of
    `execute`), a refused one waits until one of these has ended, and tries again. It does not wait
    for sessions that a user holds open, because that user may be the one who would have to close
    them.

    Args:
        window: bytes that the server may send ahead; a spare session has its own.

    Raises:
        ChannelRefused: with the server's reason; the connection stays usable.
    """
    slots, spare = SessionSlots.of(link), SpareSession.of(link)
    taken = yield from _take_spare(link, slots, spare, ends_by_itself)
    if taken is not None:
        return taken
    settled = 0  # so many had ended, and have left their places, before we ask
    stillborn = retries = lingering = 0
    while True:
        while slots.is_full:
            yield from _wait_for_a_slot(link, slots)
        slots.used += ends_by_itself
        ended = slots.ended
        try:
            channel = yield from open_channel(link, b"session", b"", window)
        except BaseException:
            if ends_by_itself:
                slots.release(link)
            raise
        channel.on_freed = slots.release if ends_by_itself else None
        info = channel.get_info()
        if info.closed and stillborn < STILLBORN_MAX:
            stillborn += 1
            channel.free()
            continue
        if info.state != ChannelState.REFUSED:
            slots.watch(channel, is_counted=ends_by_itself)
            spare.memory.gives_sessions = True
            return channel
        code, text = int(info.reason), channel.text
        channel.on_freed = None
        channel.free()
        if ends_by_itself:
            slots.release(link, refused=True)
        if code != PROHIBITED:
            if ended != settled:
                # sshd clears the place of an ended session one turn after it read our CLOSE.
                settled = ended
                continue
            # It keeps the place of a session that we closed until the command has died and both
            # sides have closed it. Other servers may close it before.
            retries = 0 if link.lingering < lingering else retries
            lingering = link.lingering
            most = RETRIES_MAX if lingering or not link.is_openssh else RETRIES_AT_ONCE
            is_asked_again = slots.may_linger and retries < most
            there = slots.used + slots.ended - ended
            if there and not (lingering and is_asked_again):
                slots.limit = there
                continue
            if is_asked_again:
                retries += 1
                pause = max(0, retries - RETRIES_AT_ONCE) * PAUSE
                if pause:
                    nap = lambda _: sleep(pause)  # noqa: B023, E731  (made now)
                    yield RunBlocking(nap, detachable=True, in_caller=True)
                continue
            slots.may_linger = False
        raise ChannelRefused(
            f"the server refused a session: {REASONS.get(code, 'unknown reason')}"
            + (f" ({text})" if text else "")
            + ("; see MaxSessions there" if code != PROHIBITED and link.is_openssh else ""),
            reason_code=code,
            reason_text=text,
        )


def take_ready_session(
    link: Link, slots: SessionSlots, spare: SpareSession, *, ends_by_itself: bool
) -> Channel | None:
    """Return a session that needs no wait, as `open_session` does; None if there is none."""
    channel = spare.take_open(link)
    if channel is not None:
        slots.used += ends_by_itself
        slots.watch(channel, is_counted=ends_by_itself)
    return channel


def _take_spare(
    link: Link, slots: SessionSlots, spare: SpareSession, ends_by_itself: bool
) -> Op[Channel | None]:
    if not spare.is_there:
        return None
    slots.used += ends_by_itself
    channel = None
    try:
        channel = yield from spare.take(link)
    finally:
        if channel is None and ends_by_itself:
            slots.release(link, refused=True)
    if channel is not None:
        slots.watch(channel, is_counted=ends_by_itself)
    return channel


def send_signal(channel: Channel, name: str) -> None:
    """Ask the server to send a signal, such as ``TERM``, to the command of a session.

    OpenSSH loses a signal that comes before the command has begun, and says so, other than RFC 4254
    section 6.9 foresees. Then it is asked again.
    """
    channel.signal(name.encode(), repeat=channel.link.is_openssh)


def was_unheard(channel: Channel) -> bool:
    """Tell whether a session was closed before the server had read what was asked of it.

    A server answers the requests of a channel in their order (RFC 4254 section 5.4). If it closes
    the channel without an answer, it has done nothing for it. Some servers never answer, but run
    what they are asked for; then there is output or a status, if it is still in the channel.
    """
    info = channel.get_info()
    was_answered = info.replies or info.exit_known or info.rx or info.rx_err
    return bool(info.closed and not was_answered)


def retry_until_heard(attempt: Callable[[bool], Op[T | None]]) -> Op[T]:
    """Ask on one channel after the other, until the server has read what was asked.

    `attempt` asks on its own channel. Its argument tells whether it may return None, for
    `was_unheard`; it is called again then. Otherwise it must come to an end.
    """
    left = STILLBORN_MAX
    while True:
        result = yield from attempt(left > 0)
        if result is not None:
            return result
        left -= 1


def note_result(error: HusshError, link: Link, so_far: Callable[[], SSHResult]) -> None:
    """Give the error of a lost connection what had come by then, unless it has that."""
    if link.dead and error.result is None:
        error.result = so_far()


def note_length(error: HusshError, channel: Channel, size: int) -> None:
    """Add to the error of a lost connection that a request of `size` bytes may be its cause.

    Servers that take no such packet end the connection, mostly without a reason.
    """
    if size > REQUEST_SAFE and isinstance(error, ConnectionLost) and not channel.get_info().replies:
        error.text += (
            f"; the server may not take a request of {size:,} bytes: dropbear takes"
            f" {REQUEST_SAFE:,}, most take 32,000, OpenSSH 262,000; long input belongs into stdin"
            " (input=)"
        )
        error.args = (error.text,)


def ask_direct(link: Link, host: str, port: int) -> Channel:
    """Ask for a channel that the server connects to host:port; for `open_direct`."""
    extra = string(host.encode()) + uint32(port) + string(b"127.0.0.1") + uint32(0)
    return Channel.open(link, b"direct-tcpip", extra, JUMP_WINDOW)


def open_direct(
    link: Link, host: str, port: int, bastion: str, asked: Channel | None = None
) -> Op[Channel]:
    """Open a channel that the server connects to host:port (RFC 4254 section 7.2).

    The name is sent as it is and the server resolves it.

    Args:
        asked: what `ask_direct` returned, if it was called before.

    Raises:
        JumpRefused: it names the bastion, its reason and what the user can do.
    """
    link.check()
    channel = yield from wait_until_answered(link, asked or ask_direct(link, host, port))
    info = channel.get_info()
    if info.state == ChannelState.UNHEARD:
        channel.free()
        channel = yield from wait_until_answered(link, ask_direct(link, host, port))
        info = channel.get_info()
    if info.state == ChannelState.REFUSED:
        code, text = int(info.reason), channel.text
        channel.free()
        target = format_address(host, port)
        raise JumpRefused(
            f"{bastion} refused the way to {target}: {REASONS.get(code, 'unknown reason')}"
            + (f" ({text})" if text else "")
            + f"; {get_way_hint(link, code)}",
            target=target,
            reason_code=code,
            reason_text=text,
        )
    return channel


def was_never_there(channel: Carrier) -> bool:
    """Tell whether a granted channel that ended before a byte came most likely led nowhere.

    Some servers grant it first, and close it if they cannot connect. Servers that connect first
    send an EOF when the other end has hung up. The CLOSE behind an EOF may come in a later
    packet: whether it is here yet must not decide.
    """
    banner = channel.link.banner or ""
    info = channel.get_info()
    ended = info.closed or info.eof
    return bool(info.abrupt) or bool(ended and banner.startswith(GRANT_FIRST))


def format_address(host: str, port: int) -> str:
    """Return ``host:port``, fit for an error."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def get_way_hint(link: Link, code: int) -> str:
    """Return what the user can do about a refusal, in the terms of that server if known."""
    if code == PROHIBITED:
        banner = link.banner or ""
        for beginning, hint in PROHIBITED_HINTS.items():
            if banner.startswith(beginning):
                return hint
    return HINTS.get(code, "see its log")
