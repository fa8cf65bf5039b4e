"""Bytes and messages that a hostile server may send, as Hypothesis strategies, and who sends them.

For ``tests/streams/test_fuzz.py``. ``Inside`` speaks to a memory link as a server that knows the
keys: whatever it sends is encrypted well, so that the client's parsers see it.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from . import hostile_wire as wire
from .hostile import Anything, ClientGone, Conn, Options
from .hostile_wire import Msg
from .streams import Tree

GREETING = b"SSH-2.0-Fuzz_1.0\r\n"
U32 = st.one_of(
    st.integers(0, 40),
    st.sampled_from((0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 1 << 16, 32768, 35000)),
    st.integers(0, 0xFFFFFFFF),
)
#: The client's channels have numbers from 0 on.
CHANNEL = st.one_of(st.integers(0, 3), U32)
SHORT_BYTES = st.binary(max_size=80)
WORDS = st.sampled_from(
    (b"", b"exit-status", b"exit-signal", b"keepalive@openssh.com", b"session", b"TERM",
     b"direct-tcpip", b"hostkeys-00@openssh.com", b"server-sig-algs", b"ssh-ed25519",
     b"publickey", b"password,publickey", b"ssh-userauth", b"none")
)  # fmt: skip
#: A string, and one whose length lies.
STRING = st.one_of(
    st.builds(wire.string, st.one_of(WORDS, SHORT_BYTES)),
    st.builds(lambda length, data: wire.u32(length) + data, U32, SHORT_BYTES),
)
FLAG = st.sampled_from((b"\0", b"\1", b"\xff"))
FIELD = st.one_of(STRING, st.builds(wire.u32, U32), FLAG, SHORT_BYTES)

#: Every message that an SSH server may send, then any number at all.
NUMBERS = st.one_of(st.sampled_from([int(number) for number in Msg]), st.integers(0, 255))
ON_CHANNELS = st.sampled_from([int(n) for n in Msg if n >= Msg.CHANNEL_OPEN_CONFIRMATION])


def _message(number: int, fields: list[bytes]) -> bytes:
    return bytes((number,)) + b"".join(fields)


FIELDS = st.lists(FIELD, max_size=6)
ANY_MESSAGE = st.one_of(
    st.builds(_message, NUMBERS, FIELDS),
    st.builds(
        lambda number, channel, fields: _message(number, [wire.u32(channel), *fields]),
        ON_CHANNELS,
        CHANNEL,
        FIELDS,
    ),
    st.binary(min_size=1, max_size=300),
)
#: What a real session is made of, so that random messages meet every state of a channel.
LIKELY_MESSAGE = st.one_of(
    st.builds(
        lambda channel, window, most: wire.message(
            Msg.CHANNEL_OPEN_CONFIRMATION, wire.u32(channel), wire.u32(channel),
            wire.u32(window), wire.u32(most),
        ),
        st.integers(0, 2), U32, U32,
    ),
    st.builds(
        lambda channel, reason, text: wire.message(
            Msg.CHANNEL_OPEN_FAILURE, wire.u32(channel), wire.u32(reason), text, wire.string(b"")
        ),
        st.integers(0, 2), U32, STRING,
    ),
    st.builds(wire.channel_data, st.integers(0, 2), SHORT_BYTES),
    st.builds(wire.extended_data, st.integers(0, 2), SHORT_BYTES, st.integers(0, 3)),
    st.builds(wire.window_adjust, st.integers(0, 2), U32),
    st.builds(
        lambda channel, name, fields, reply: wire.channel_request(
            channel, name, *fields, want_reply=reply
        ),
        st.integers(0, 2), st.sampled_from(("exit-status", "exit-signal", "x")), FIELDS,
        st.booleans(),
    ),
    st.builds(
        lambda number, channel: wire.message(number, wire.u32(channel)),
        st.sampled_from((Msg.CHANNEL_EOF, Msg.CHANNEL_CLOSE, Msg.CHANNEL_SUCCESS,
                         Msg.CHANNEL_FAILURE)),
        st.integers(0, 2),
    ),
    st.builds(
        lambda name, reply: wire.global_request(name, want_reply=reply),
        st.sampled_from(("keepalive@openssh.com", "hostkeys-00@openssh.com", "")),
        st.booleans(),
    ),
)  # fmt: skip
MESSAGES = st.lists(st.one_of(LIKELY_MESSAGE, ANY_MESSAGE), max_size=12)


def _packet(length: int | None, padding: int, payload: bytes) -> bytes:
    body = bytes((padding,)) + payload + bytes(padding)
    return wire.u32(len(body) if length is None else length) + body


#: Unencrypted packets, most of them with a length that is right.
PLAIN_PACKET = st.builds(
    _packet, st.one_of(st.none(), st.none(), U32), st.integers(0, 255), ANY_MESSAGE
)
PLAIN_STREAM = st.builds(
    lambda lines, packets: b"".join((*lines, GREETING, *packets)),
    st.lists(st.builds(lambda text: text + b"\r\n", SHORT_BYTES), max_size=3),
    st.lists(PLAIN_PACKET, max_size=8),
)


class Inside(Conn):
    """A server in the same thread: the test's tree gets what it sends, and is settled for it."""

    def __init__(self, tree: Tree, **options: Any) -> None:
        self._tree = tree
        self._heard = bytearray()
        self._held: bytearray | None = None
        self._socket = socket.socket(socket.AF_UNIX)  # never connected: only its family counts
        super().__init__(self._socket, Options(lifetime=1e9, **options))

    def send_raw(self, data: bytes) -> None:
        if self._held is not None:
            self._held += data
            return
        if data:
            self._tree.wire.feed(data)
        self._tree.settle()

    def recv_raw(self, count: int) -> bytes:
        self._tree.settle()
        self._heard += self._tree.root.drain()
        if len(self._heard) < count:
            raise ClientGone("the client has nothing more to say")
        data = bytes(self._heard[:count])
        del self._heard[:count]
        return data

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """What is sent in the block reaches the client in one piece, when the block ends."""
        self._held = bytearray()
        try:
            yield
        finally:
            held, self._held = self._held, None
            self.send_raw(bytes(held))

    def greet(self) -> None:
        """Version and first key exchange."""
        self.version_exchange()
        self.key_exchange(None)

    def log_in(self) -> None:
        """Let the client in, whatever it shows."""
        self.expect_service()
        self.authenticate(Anything())

    def __enter__(self) -> Inside:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
