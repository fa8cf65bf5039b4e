"""The words of the SSH protocol for the hostile server: numbers, builders, a reader.

Only the other `hostile*` modules and tests import it.  It deliberately shares no
code with hussh: a common helper would make both ends wrong in the same way.
Nothing here limits what may be built, because malformed messages are the purpose.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping


class Msg(enum.IntEnum):
    """Message numbers of RFC 4250 section 4.1.2, RFC 5656 and RFC 8308."""

    DISCONNECT = 1
    IGNORE = 2
    UNIMPLEMENTED = 3
    DEBUG = 4
    SERVICE_REQUEST = 5
    SERVICE_ACCEPT = 6
    EXT_INFO = 7
    KEXINIT = 20
    NEWKEYS = 21
    KEX_ECDH_INIT = 30
    KEX_ECDH_REPLY = 31
    USERAUTH_REQUEST = 50
    USERAUTH_FAILURE = 51
    USERAUTH_SUCCESS = 52
    USERAUTH_BANNER = 53
    USERAUTH_PK_OK = 60  # also PASSWD_CHANGEREQ and INFO_REQUEST
    USERAUTH_INFO_RESPONSE = 61
    GLOBAL_REQUEST = 80
    REQUEST_SUCCESS = 81
    REQUEST_FAILURE = 82
    CHANNEL_OPEN = 90
    CHANNEL_OPEN_CONFIRMATION = 91
    CHANNEL_OPEN_FAILURE = 92
    CHANNEL_WINDOW_ADJUST = 93
    CHANNEL_DATA = 94
    CHANNEL_EXTENDED_DATA = 95
    CHANNEL_EOF = 96
    CHANNEL_CLOSE = 97
    CHANNEL_REQUEST = 98
    CHANNEL_SUCCESS = 99
    CHANNEL_FAILURE = 100


class OpenReason(enum.IntEnum):
    """Reasons of CHANNEL_OPEN_FAILURE, RFC 4254 section 5.1."""

    ADMINISTRATIVELY_PROHIBITED = 1
    CONNECT_FAILED = 2
    UNKNOWN_CHANNEL_TYPE = 3
    RESOURCE_SHORTAGE = 4


class PeerError(AssertionError):
    """The client broke the protocol; the test that provoked it should fail."""


class ClientGone(ConnectionError):
    """The client hung up, or the test ended: the usual end of a script."""


def u32(value: int) -> bytes:
    return (value & 0xFFFFFFFF).to_bytes(4, "big")


def string(value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return u32(len(raw)) + raw


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def mpint(value: int) -> bytes:
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


def names(values: Iterable[str]) -> bytes:
    return string(",".join(values))


def message(number: int, *fields: bytes) -> bytes:
    return bytes([number]) + b"".join(fields)


def kexinit(lists: Iterable[Iterable[str]], *, follows: bool = False, cookie: bytes = b"") -> bytes:
    """KEXINIT from its ten name-lists (fewer or more, if the test wants a broken one)."""
    body = b"".join(names(one) for one in lists)
    return message(Msg.KEXINIT, cookie or bytes(16), body, boolean(follows), u32(0))


def ext_info(extensions: Mapping[str, bytes | str], *, count: int | None = None) -> bytes:
    """EXT_INFO (RFC 8308 section 2.3); `count` may lie about the number of extensions."""
    body = b"".join(string(name) + string(value) for name, value in extensions.items())
    return message(Msg.EXT_INFO, u32(len(extensions) if count is None else count), body)


def disconnect(reason: int = 11, text: bytes | str = "bye", language: bytes | str = "") -> bytes:
    return message(Msg.DISCONNECT, u32(reason), string(text), string(language))


def debug(text: bytes | str, *, display: bool = False) -> bytes:
    return message(Msg.DEBUG, boolean(display), string(text), string(b""))


def ignore(data: bytes = b"") -> bytes:
    return message(Msg.IGNORE, string(data))


def global_request(name: str, *fields: bytes, want_reply: bool = False) -> bytes:
    return message(Msg.GLOBAL_REQUEST, string(name), boolean(want_reply), *fields)


def channel_data(recipient: int, data: bytes) -> bytes:
    return message(Msg.CHANNEL_DATA, u32(recipient), string(data))


def extended_data(recipient: int, data: bytes, kind: int = 1) -> bytes:
    return message(Msg.CHANNEL_EXTENDED_DATA, u32(recipient), u32(kind), string(data))


def window_adjust(recipient: int, count: int) -> bytes:
    return message(Msg.CHANNEL_WINDOW_ADJUST, u32(recipient), u32(count))


def channel_request(recipient: int, name: str, *fields: bytes, want_reply: bool = False) -> bytes:
    return message(Msg.CHANNEL_REQUEST, u32(recipient), string(name), boolean(want_reply), *fields)


class Fields:
    """Reads what the client sent; a field that runs past the end is a `PeerError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        if self._at + count > len(self._data):
            raise PeerError(f"client message of {len(self._data)} bytes ends within a field")
        self._at += count
        return self._data[self._at - count : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def boolean(self) -> bool:
        return self.byte() != 0

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        return self.take(self.u32())

    def text(self) -> str:
        return self.string().decode("utf-8", "surrogateescape")

    def names(self) -> list[str]:
        text = self.string().decode("ascii")
        return text.split(",") if text else []

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]
