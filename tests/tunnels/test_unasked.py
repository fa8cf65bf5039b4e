"""A server that opens channels towards us which nobody has asked for."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from hussh import Connection
from hussh._connect import incoming as incoming_channels
from hussh._policy.forwarding import Address
from hussh._protocol.tunnel import Offer
from hussh._runtime.background import Task
from tests.support.hostile import Conn, HostileServer, Msg, Services
from tests.support.hostile_wire import message, string, u32
from tests.support.tunnel_peers import Peer, echo
from tests.support.until import until

PORT = 4711


def offer(number: int, host: str, port: int, kind: str = "forwarded-tcpip") -> bytes:
    """Return the message that opens a channel from an address of the server."""
    origin = string("203.0.113.9") + u32(1234)
    head = string(kind) + u32(number) + u32(1 << 20) + u32(32768)
    return message(Msg.CHANNEL_OPEN, head, string(host), u32(port), origin)


@pytest.mark.parametrize("asked", [False, True])
def test_only_what_was_asked_for(asked: bool) -> None:
    """A channel from an address that is no forward of ours is refused, and reaches nobody."""
    answers: list[bytes] = []
    done, left = threading.Event(), threading.Event()
    agreeing = Services(answered=lambda *_: True)
    offers = [
        message(Msg.CHANNEL_OPEN, string("forwarded-tcpip") + u32(55)),
        offer(50, "127.0.0.1", PORT + 1),
        offer(51, "198.51.100.1", PORT),
        offer(52, "localhost", PORT, "forwarded-unknown"),
        message(Msg.CHANNEL_OPEN, string("forwarded-tcpip") + u32(53) + u32(9) + u32(9) + u32(99)),
        offer(54, "127.0.0.1", PORT),
    ]

    def script(conn: Conn) -> None:
        conn.login()
        if asked:
            conn.serve(agreeing, until=lambda: bool(conn.global_requests))
        for one in offers:
            conn.send(one[0], one[1:])
        conn.serve(agreeing, until=lambda: len(conn.answers) == len(offers))
        answers.extend(conn.answers)
        done.set()
        left.wait(20)

    with Peer(echo) as peer, HostileServer(script) as server:
        with Connection(server.host, server.port, "u", "p", host_key_policy="ignore") as connection:
            if asked:
                forward = connection.forward_remote(("127.0.0.1", PORT), peer.address)
            assert done.wait(20)
            if asked:
                until(lambda: peer.seen)  # a worker connects to it
                forward.close()
        left.set()
        assert len(peer.seen) == asked
    refused = [answer for answer in answers if answer[0] == Msg.CHANNEL_OPEN_FAILURE]
    unasked = [50, 51, 52, 53, 55] if asked else [50, 51, 52, 53, 54, 55]
    assert sorted(answer[4] for answer in refused) == unasked
    assert all(answer[5:9] == u32(1) for answer in refused), "administratively prohibited"


def test_early_connections_are_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """For a forward that a server does not answer it opens only so many, and floods no log."""
    refused: list[int] = []
    monkeypatch.setattr(incoming_channels, "take_offers", lambda *_: None)
    monkeypatch.setattr(
        incoming_channels,
        "refuse_offer",
        lambda _link, given, _reason: refused.append(given.number),
    )
    link: Any = SimpleNamespace(dead=False)
    incoming = incoming_channels.Incoming(link, Task)
    incoming.ask()
    for number in range(1000):
        incoming._answer(Offer(number, 9, 9, "forwarded-tcpip", Address("localhost", PORT), ""))
    assert refused == list(range(incoming_channels.EARLY_KEPT, 1000))
    incoming.note_answer()
    assert sorted(refused) == list(range(1000)), "the server granted nothing"
    told = [record.getMessage().rpartition("asked for")[2] for record in caplog.records]
    assert told == [
        "", " (10 times so far)", " (100 times so far)", " (1000 times so far)"
    ]  # fmt: skip
