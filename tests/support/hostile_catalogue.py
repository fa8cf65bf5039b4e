"""Named acts of hostility, ready for `pytest.mark.parametrize`.

Tests import it beside `hostile`.  Each `Attack` has a name, an act and a verdict:
`fatal` is True if a conforming client must end the connection, False if it must
carry on, None if both are right and only crashing, hanging or believing is wrong.
Acts send; they never wait for the client's answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from . import hostile_wire as wire
from .hostile_channels import Channel, Conn
from .hostile_transport import SMALL_ORDER, Tamper, Transport
from .hostile_wire import ClientGone, Msg, boolean, message, string, u32

T = TypeVar("T")


@dataclass(frozen=True)
class Attack(Generic[T]):
    name: str
    act: Callable[[T], object]
    fatal: bool | None = True

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class KexAttack:
    """A key exchange that must not lead to authentication."""

    name: str
    tamper: Tamper = field(default_factory=Tamper)

    def __str__(self) -> str:
        return self.name


# How far `until` goes before its act, in order.
PHASES = (
    "connect",  # accepted, nothing sent
    "version",  # versions exchanged
    "reply",  # the client waits for the key exchange reply
    "kex",  # keys are new, EXT_INFO is sent
    "service",  # ssh-userauth granted
    "auth",  # the first authentication request waits for its answer
    "login",  # anyone accepted
    "open",  # the first open request waits for its answer
    "channel",  # a session channel is open
    "exec",  # its exec request is granted
)


def until(phase: str, then: Callable[[Conn], object]) -> Callable[[Conn], None]:
    """A script: polite up to the phase, then the act, then hanging up.

    `until("auth", Conn.wait_closed)` stalls; `until("auth", lambda conn: None)` drops.
    """
    last = PHASES.index(phase)

    def interrupt(conn: Transport) -> None:
        if isinstance(conn, Conn):
            then(conn)
        raise ClientGone("the script ends within the key exchange")

    def script(conn: Conn) -> None:
        channels: list[Channel] = []
        steps: dict[str, Callable[[], object]] = {
            "version": conn.version_exchange,
            "reply": partial(conn.key_exchange, Tamper(before_reply=interrupt)),
            "kex": conn.key_exchange,
            "service": conn.expect_service,
            "auth": conn.read_auth_request,
            "login": conn.authenticate,
            "open": conn.next_open,
            "channel": lambda: channels.append(conn.accept_channel()),
            "exec": lambda: channels[0].accept_exec(),
        }
        for name in PHASES[1 : last + 1]:
            # The half steps leave the client waiting, so only the last one may be one.
            if name == phase or name not in ("reply", "auth", "open"):
                steps[name]()
        then(conn)

    return script


def short_body(size: int) -> Callable[[Conn], None]:
    """A packet of this length with a valid tag, and bytes after it so nothing is awaited."""

    def act(conn: Conn) -> None:
        conn.send_raw(conn.seal_body(bytes(size)) + bytes(64))

    return act


def length_field(value: int) -> Callable[[Conn], None]:
    """A good body under a length field that lies, and some more bytes."""

    def act(conn: Conn) -> None:
        conn.send_raw(conn.seal_body(conn.make_body(wire.ignore()), value) + bytes(256))

    return act


def packet(payload: bytes) -> Callable[[Conn], None]:
    return lambda conn: conn.send_packet(payload)


def _pad(count: int) -> Callable[[Conn], None]:
    return lambda conn: conn.send_packet(wire.ignore(b"x" * 20), padding_length=count)


def _only_padding(conn: Conn) -> None:
    body = conn.make_body(wire.ignore(b"x" * 20))
    conn.send_body(bytes([len(body) - 1]) + body[1:])


# Before, after or instead of the version line.  The connection may stay open after.
VERSIONS: tuple[Attack[Conn], ...] = (
    Attack("version 1.5", lambda conn: conn.send_version(b"SSH-1.5-old")),
    Attack("version 1.99", lambda conn: conn.send_version(b"SSH-1.99-both"), None),
    Attack("not ssh", lambda conn: conn.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 2000)),
    Attack("NUL in version", lambda conn: conn.send_version(b"SSH-2.0-a\0b"), None),
    Attack("version of 64 KiB", lambda conn: conn.send_version(b"SSH-2.0-" + b"a" * 65536)),
    Attack("line without end", lambda conn: conn.send_raw(b"x" * 1_000_000)),
    Attack("endless lines", lambda conn: _forever(conn, b"please wait\r\n" * 1000)),
    Attack("NULs", lambda conn: conn.send_raw(bytes(100_000))),
    Attack("empty lines", lambda conn: _forever(conn, b"\r\n" * 10_000)),
)


def _forever(conn: Conn, data: bytes) -> None:
    for _ in range(10_000):
        conn.send_raw(data)
    raise AssertionError("client read 10 000 blocks of banner lines")


# Any time after the first NEWKEYS.
PACKETS: tuple[Attack[Conn], ...] = (
    *(Attack(f"packet length {size}", short_body(size)) for size in range(5)),
    Attack("packet length 2^32-1", length_field(0xFFFFFFFF)),
    Attack("packet length 2^31", length_field(0x80000000)),
    Attack("packet length 2^31-1", length_field(0x7FFFFFFF)),
    Attack("packet length 1 MiB", length_field(1 << 20), None),
    Attack("length off by one", length_field(33)),
    Attack("padding beyond the packet", _pad(255)),
    Attack("padding eats the type", _only_padding),
    Attack("padding 0", _pad(0), None),
    Attack("padding 3", _pad(3), None),
    Attack("empty payload", lambda conn: conn.send_packet(b"")),
    Attack("corrupt tag", lambda conn: conn.send_packet(wire.ignore(), corrupt_mac=True)),
    Attack("message 0", packet(b"\0"), None),
    Attack("message 255", packet(b"\xff" + bytes(40)), None),
    Attack("message 192", packet(b"\xc0"), None),
    Attack("message 127", packet(b"\x7f"), False),
    Attack("message 19", packet(b"\x13" + bytes(40)), False),
    Attack("KEXINIT empty", packet(b"\x14")),
    Attack("KEXINIT cookie only", packet(b"\x14" + bytes(16))),
    Attack("KEXINIT list past the end", packet(b"\x14" + bytes(16) + b"\xff" * 44)),
    Attack("KEXINIT all NUL", packet(b"\x14" + bytes(61))),
    Attack("NEWKEYS outside a key exchange", packet(b"\x15"), None),
    Attack("kex reply outside a key exchange", packet(b"\x1f" + bytes(12)), None),
    Attack("DISCONNECT empty", packet(b"\1")),
    Attack("DISCONNECT text past the end", packet(b"\1" + u32(2) + u32(0xFFFFFFFF) + b"abc")),
    Attack("DISCONNECT escapes", packet(wire.disconnect(2, b"\x1b]0;own\x07\0\r\n\xff"))),
    Attack("DEBUG truncated", packet(b"\4\1" + u32(1000) + b"x"), None),
    Attack("DEBUG escapes", packet(wire.debug(b"\x1b[2J\0\xff", display=True)), False),
    Attack("IGNORE truncated", packet(b"\2\xff\xff"), None),
    Attack("EXT_INFO truncated", packet(b"\7" + u32(1) + u32(14) + b"server"), None),
    Attack("EXT_INFO count lies", packet(wire.ext_info({}, count=0x7FFFFFFF)), None),
    Attack("UNIMPLEMENTED 0", packet(b"\3" + u32(0)), None),
    Attack("SERVICE_ACCEPT again", packet(message(6, string("ssh-userauth"))), None),
    Attack("global request truncated", packet(b"\x50" + u32(99) + b"x"), None),
    Attack("open without fields", packet(b"\x5a"), None),
    Attack(
        "open of an unknown type",
        packet(message(90, string("gift"), u32(7), u32(0), u32(0))),
        False,
    ),
)

# In place of an answer to the client's first authentication request.
AUTH: tuple[Attack[Conn], ...] = (
    Attack("FAILURE empty", packet(b"\x33"), None),
    Attack("FAILURE list past the end", packet(b"\x33" + b"\xff" * 5), None),
    Attack("FAILURE with NULs", packet(message(51, string(b"\0\0,\0"), boolean(False))), None),
    Attack("BANNER empty", packet(b"\x35"), None),
    Attack("BANNER past the end", packet(b"\x35" + u32(0x7FFFFFFF) + b"x"), None),
    Attack("INFO_REQUEST empty", packet(b"\x3c")),
    Attack("INFO_REQUEST 2^32-1 prompts", packet(b"\x3c" + bytes(12) + b"\xff" * 4)),
    Attack("channel data", packet(wire.channel_data(0, b"x"))),
)


def _bare(number: int, *fields: bytes) -> Callable[[Channel], None]:
    return lambda chan: chan.conn.send_packet(message(number, u32(chan.peer), *fields))


def _request(name: str, *fields: bytes) -> Callable[[Channel], None]:
    return lambda chan: chan.send_request(name, *fields)


def _overrun(chan: Channel) -> None:
    for _ in range(chan.window // 32768 + 2):
        chan.send_data(b"x" * 32768, obey=False)


def _after(last: Callable[[Channel], None]) -> Callable[[Channel], None]:
    def act(chan: Channel) -> None:
        last(chan)
        chan.send_data(b"late", obey=False)

    return act


def _wrap(chan: Channel) -> None:
    chan.adjust(0xFFFFFFFF)
    chan.adjust(0xFFFFFFFF)


def _close_twice(chan: Channel) -> None:
    chan.send_close()
    chan.send_close()


def _unknown(chan: Channel) -> None:
    chan.conn.send_packet(wire.channel_data(0x7FFFFFFF, b"lost"))


# On an open channel whose exec was granted; finish the channel afterwards.
CHANNELS: tuple[Attack[Channel], ...] = (
    Attack("window wraps", _wrap, None),
    Attack("data beyond the window", _overrun, None),
    Attack("data beyond the packet size", lambda c: c.send_data(bytes(60000), obey=False), None),
    Attack("data for an unknown channel", _unknown, None),
    Attack("data without length", _bare(94), None),
    Attack("data past the end", _bare(94, u32(1000), b"x"), None),
    Attack("data length 2^32-1", _bare(94, u32(0xFFFFFFFF), b"x"), None),
    Attack("extended data truncated", _bare(95, u32(1)), None),
    Attack("extended data of type 9", _bare(95, u32(9), string(b"x")), None),
    Attack("exit-signal empty", _request("exit-signal"), None),
    Attack("exit-signal past the end", _request("exit-signal", u32(0xFFFFFFFF), b"T"), None),
    Attack("exit-signal name 2^31", _request("exit-signal", u32(0x80000000), b"T"), None),
    Attack("exit-signal name only", _request("exit-signal", string("TERM")), None),
    Attack("exit-status truncated", _request("exit-status", b"\0"), None),
    Attack("exit-status empty", _request("exit-status"), None),
    Attack("request name past the end", _bare(98, u32(0xFFFFFFFF), b"exit"), None),
    Attack("request without fields", _bare(98), None),
    Attack("confirmation again", _bare(91, bytes(12)), None),
    Attack("open failure again", _bare(92, u32(1), string("no"), string("")), None),
    Attack("unasked success", _bare(99), None),
    Attack("unasked failure", _bare(100), None),
    Attack("window adjust truncated", _bare(93), None),
    Attack("data after EOF", _after(Channel.send_eof), None),
    Attack("data after CLOSE", _after(Channel.send_close), None),
    Attack("CLOSE twice", _close_twice, None),
)


def _cut(count: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:count]


def _early_newkeys(conn: Transport) -> None:
    conn.send(Msg.NEWKEYS)


def _chatter(conn: Transport) -> None:
    conn.send_packet(wire.ignore())


def _blob(*fields: bytes) -> Tamper:
    return Tamper(host_key_blob=b"".join(fields))


def _flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


# Pass as `polite(tamper=attack.tamper)`; "strict" ones need a client with strict kex.
KEX: tuple[KexAttack, ...] = (
    KexAttack("KEXINIT empty", Tamper(edit_kexinit=_cut(1))),
    KexAttack("KEXINIT cookie cut", Tamper(edit_kexinit=_cut(10))),
    KexAttack("KEXINIT list cut", Tamper(edit_kexinit=_cut(30))),
    KexAttack("KEXINIT without lists", Tamper(edit_kexinit=_cut(17))),
    KexAttack("KEXINIT all NUL", Tamper(edit_kexinit=lambda data: b"\x14" + bytes(400))),
    KexAttack("KEXINIT long list", Tamper(edit_kexinit=lambda d: d[:17] + b"\xff" * 4 + d[21:])),
    KexAttack(
        "KEXINIT unknown names",
        Tamper(edit_kexinit=lambda data: wire.kexinit([["x"]] * 8 + [[], []])),
    ),
    KexAttack("wrong signature", Tamper(edit_signature=_flip)),
    KexAttack("signature cut", Tamper(edit_signature=_cut(20))),
    KexAttack("signature empty", Tamper(edit_signature=_cut(0))),
    KexAttack(
        "signature of another type",
        Tamper(edit_signature=lambda data: string("rsa-sha2-512") + data[15:]),
    ),
    KexAttack("point of 31 bytes", Tamper(server_public=bytes(range(31)))),
    KexAttack("point of 33 bytes", Tamper(server_public=bytes(range(33)))),
    KexAttack("point empty", Tamper(server_public=b"")),
    KexAttack("point zero", Tamper(server_public=bytes(32))),
    KexAttack("reply empty", Tamper(edit_reply=_cut(1))),
    KexAttack("reply cut in the key", Tamper(edit_reply=_cut(20))),
    KexAttack("reply cut in the signature", Tamper(edit_reply=lambda data: data[:-10])),
    KexAttack("reply lengths 2^32-1", Tamper(edit_reply=lambda data: b"\x1f" + b"\xff" * 40)),
    KexAttack("blob empty", _blob()),
    KexAttack("blob without key", _blob(string("ssh-ed25519"))),
    KexAttack("blob short key", _blob(string("ssh-ed25519"), string(bytes(31)))),
    KexAttack("blob past the end", _blob(u32(0xFFFFFFFF), b"ssh-ed25519")),
    KexAttack("blob other type", _blob(string("ssh-rsa"), string(b"\1\0\1"), string(b"\1"))),
    KexAttack("NEWKEYS too early", Tamper(before_reply=_early_newkeys)),
    KexAttack("strict: IGNORE before the reply", Tamper(before_reply=_chatter)),
    KexAttack("strict: IGNORE before NEWKEYS", Tamper(before_newkeys=_chatter)),
)


def _flip_first(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def _with_point(point: bytes) -> Tamper:
    return Tamper(edit_public=lambda data: data[:-32] + point)


# The same with a server that takes mlkem768x25519-sha256 only.
HYBRID_KEX: tuple[KexAttack, ...] = (
    KexAttack("hybrid: no reply", Tamper(edit_public=_cut(0))),
    KexAttack("hybrid: point only", Tamper(edit_public=lambda data: data[-32:])),
    KexAttack("hybrid: ciphertext only", Tamper(edit_public=_cut(1088))),
    KexAttack("hybrid: one byte less", Tamper(edit_public=_cut(1119))),
    KexAttack("hybrid: one byte more", Tamper(edit_public=lambda data: data + b"x")),
    KexAttack("hybrid: as long as our keys", Tamper(edit_public=lambda data: data + bytes(96))),
    KexAttack("hybrid: another ciphertext", Tamper(edit_public=_flip_first)),
    KexAttack("hybrid: ciphertext of zeros", Tamper(edit_public=lambda d: bytes(1088) + d[1088:])),
    KexAttack("hybrid: ciphertext of x", Tamper(edit_public=lambda d: b"x" * 1088 + d[1088:])),
    KexAttack("hybrid: wrong signature", Tamper(edit_signature=_flip)),
    KexAttack("hybrid: reply cut in the key", Tamper(edit_reply=_cut(20))),
    KexAttack("hybrid: reply cut in the ciphertext", Tamper(edit_reply=_cut(500))),
    KexAttack("hybrid: reply lengths 2^32-1", Tamper(edit_reply=lambda d: b"\x1f" + b"\xff" * 40)),
    *(
        KexAttack(f"hybrid: point of small order {at}", _with_point(point))
        for at, point in enumerate(SMALL_ORDER)
    ),
)
