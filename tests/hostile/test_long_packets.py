"""Packets of up to 256 KiB, the most that OpenSSH sends and takes (RFC 4253 section 6.1: 35000)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hostile.client_process import ClientProcess
from tests.support import hostile_wire as wire
from tests.support.hostile import Conn, HostileServer, Tamper, polite
from tests.support.hostile_catalogue import until
from tests.support.hostile_wire import Msg, message, string

LONGEST = 256 * 1024
#: The buffer for packets that are decrypted as a whole (libssh2_priv.h).
BUFFER = 35_000
CIPHERS: dict[str, dict[str, Any]] = {
    "chacha20-poly1305": {"ciphers": ["chacha20-poly1305@openssh.com"]},
    "aes256-gcm": {"ciphers": ["aes256-gcm@openssh.com"]},
    "aes256-ctr": {"ciphers": ["aes256-ctr"], "macs": ["hmac-sha2-256"]},
    "aes256-ctr, etm": {"ciphers": ["aes256-ctr"], "macs": ["hmac-sha2-256-etm@openssh.com"]},
}
each_cipher = pytest.mark.parametrize("cipher", CIPHERS)


@each_cipher
def test_received(client: ClientProcess, cipher: str) -> None:
    """Messages around every limit arrive whole, and what follows them, too."""

    def chatter(conn: Conn) -> None:
        for size in (*range(BUFFER - 60, BUFFER + 10), 2 * BUFFER, LONGEST - 1, LONGEST):
            conn.send_packet(wire.ignore(b"x" * (size - 5)))

    script = polite(banner="x" * (LONGEST - 9), after_auth=chatter)
    with HostileServer(script, **CIPHERS[cipher]) as server:
        outcome = client.connect_to(server, "echo right", **CIPHERS[cipher])
    assert outcome.results == [("right\n", "", 0)], outcome


@each_cipher
def test_received_in_a_key_exchange(client: ClientProcess, cipher: str) -> None:
    """A long message just before new keys, and one just after, are read with the right ones."""
    long = message(Msg.GLOBAL_REQUEST, string("x" * 200_000), b"\0")
    tamper = Tamper(
        after_newkeys=lambda conn: conn.send_packet(long),
    )

    def rekey(conn: Conn) -> None:
        conn.send_packet(long)
        conn.rekey(tamper)
        conn.send_packet(long)

    with HostileServer(polite(after_auth=rekey), **CIPHERS[cipher]) as server:
        outcome = client.connect_to(server, "echo right", **CIPHERS[cipher])
    assert outcome.results == [("right\n", "", 0)], outcome


@each_cipher
def test_sent(client: ClientProcess, cipher: str) -> None:
    """The longest command arrives whole, through every cipher."""
    text = "x" * (LONGEST - 132 - len("echo "))
    with HostileServer(polite(), **CIPHERS[cipher]) as server:
        outcome = client.connect_to(server, "echo " + text, "echo right", **CIPHERS[cipher])
    assert outcome.results == [(text + "\n", "", 0), ("right\n", "", 0)], outcome


@each_cipher
def test_a_packet_that_is_too_long(client: ClientProcess, cipher: str) -> None:
    """What is longer ends the connection at once, though none of it has come."""

    def act(conn: Conn) -> None:
        conn.send_raw(conn.seal_body(conn.make_body(wire.ignore()), LONGEST + 1040) + bytes(64))
        conn.wait_closed()

    with HostileServer(until("exec", act), **CIPHERS[cipher]) as server:
        outcome = client.connect_to(server, "never", **CIPHERS[cipher])
    assert outcome.refused, outcome
    assert not outcome.results


@each_cipher
@pytest.mark.parametrize("damage", ["tag", "end", "padding"])
def test_a_long_packet_that_is_damaged(client: ClientProcess, cipher: str, damage: str) -> None:
    """A wrong tag, an early end and a padding without measure end the connection."""

    def act(conn: Conn) -> None:
        body = conn.make_body(wire.ignore(b"x" * 200_000))
        if damage == "tag":
            conn.send_body(body, corrupt_mac=True)
            conn.wait_closed()
        elif damage == "end":
            conn.send_raw(conn.seal_body(body)[:150_000])
        else:
            conn.send_raw(conn.seal_body(b"\xff" + bytes(47)))
            conn.wait_closed()

    with HostileServer(until("exec", act), **CIPHERS[cipher]) as server:
        outcome = client.connect_to(server, "never", **CIPHERS[cipher])
    assert outcome.refused, outcome
    assert not outcome.results


@each_cipher
def test_memory(client: ClientProcess, cipher: str) -> None:
    """Nothing remains of long packets, whether they came whole or in part, nor of commands."""

    def act(conn: Conn) -> None:
        for _ in range(4):
            conn.send_packet(wire.ignore(b"x" * 200_000))
        conn.send_raw(conn.seal_body(conn.make_body(wire.ignore(b"x" * 200_000)))[:100_000])

    with HostileServer(until("exec", act), **CIPHERS[cipher]) as server:
        command = "x" * 200_000
        client.connect_to(server, command, times=5, **CIPHERS[cipher])
        outcome = client.connect_to(server, command, times=20, **CIPHERS[cipher])
    assert outcome.refused, outcome
    assert outcome.kept < 12_000
    assert outcome.peak < 4 * 1024


def test_a_long_key_exchange(client: ClientProcess) -> None:
    """Before the login a server may not make us keep much more than a key exchange needs."""
    tamper = Tamper(before_reply=lambda conn: conn.flood(message(33, bytes(200_000))))
    with HostileServer(polite(tamper=tamper), strict=False) as server:
        outcome = client.connect_to(server, "echo never")
    assert outcome.refused, outcome
    assert outcome.peak < 2 * 1024
