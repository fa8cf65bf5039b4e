"""A server that compresses: what it sends is never more in memory than a packet may hold."""

from __future__ import annotations

import zlib

import pytest

from tests.hostile.client_process import ClientProcess
from tests.support import hostile_wire as wire
from tests.support.hostile import Conn, HostileServer, polite
from tests.support.hostile_wire import Msg, string

#: Bytes that 34,000 bytes of zlib's become at most, nearly.
BOMB = 32 << 20


def test_commands(client: ClientProcess) -> None:
    """Commands run at a server whose only compression begins with the first keys."""
    with HostileServer(polite(), compression=["zlib"]) as server:
        outcome = client.connect_to(server, "echo one", "echo two", compression=True)
        conn = server.wait()
    assert outcome.results == [("one\n", "", 0), ("two\n", "", 0)], outcome
    assert conn.negotiated["compression"] == "zlib"


@pytest.mark.parametrize("phase", ["before the login", "in a session"])
def test_bombs(client: ClientProcess, phase: str) -> None:
    """A packet that would unpack to 32 MiB ends the connection, and takes no memory."""

    def script(conn: Conn) -> None:
        conn.handshake()
        if phase == "in a session":
            conn.expect_service()
            conn.authenticate()
            conn.accept_channel().accept_exec()
        conn.send_packet(wire.message(Msg.IGNORE, string(bytes(BOMB))))
        conn.wait_closed()

    with HostileServer(script, compression=["zlib"]) as server:
        outcome = client.connect_to(server, "echo never", compression=True)
    assert outcome.refused, outcome
    assert outcome.peak < 8 << 10


@pytest.mark.parametrize("damage", ["no zlib", "cut", "empty"])
def test_damaged_streams(client: ClientProcess, damage: str) -> None:
    """What is no continuation of the compressed stream is an error of ours, whatever it is."""

    def script(conn: Conn) -> None:
        conn.handshake()
        good = zlib.compress(wire.ignore())
        payload = {"no zlib": bytes(range(200)), "cut": good[:3], "empty": b""}[damage]
        conn.send_body(conn.make_body(payload))
        if damage != "no zlib":  # that leaves the stream in doubt; this does not
            conn.send_body(conn.make_body(b"\xff" * 100))
        conn.wait_closed()

    with HostileServer(script, compression=["zlib"]) as server:
        outcome = client.connect_to(server, "echo never", compression=True)
    assert outcome.refused, outcome
