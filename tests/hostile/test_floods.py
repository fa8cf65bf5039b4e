"""A peer that sends without end costs neither memory nor the connection's correctness."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.hostile.client_process import ClientProcess
from tests.support import hostile_wire as wire
from tests.support.hostile import Channel, Conn, HostileServer, Tamper, Transport, host_key, polite
from tests.support.hostile_catalogue import VERSIONS
from tests.support.hostile_wire import Msg, message, string, u32

#: KiB that a client may grow by, whatever the flood; each flood here is much larger,
#: or of so many messages that keeping a hundred bytes of each would show.
LIMIT = 6 * 1024
#: HUSSH_LONG=1 makes the floods ten times as long.
FACTOR = 10 if os.environ.get("HUSSH_LONG") else 1

BIG = bytes(30_000)
IGNORED: dict[str, tuple[bytes, int]] = {
    "IGNORE": (wire.ignore(BIG), 800),
    "DEBUG": (wire.debug(BIG), 800),
    "small IGNORE": (wire.ignore(), 10_000),
    "UNIMPLEMENTED": (message(3, u32(1)), 5000),
    "EXT_INFO": (wire.ext_info({"server-sig-algs": "x" * 30_000}), 800),
    "SERVICE_ACCEPT": (message(6, string("ssh-userauth"), BIG), 800),
    "key exchange replies outside of any": (message(31, BIG), 800),
    "unknown transport messages": (message(19, BIG), 800),
    "unknown messages": (message(127, BIG), 800),
    "BANNER after the login": (message(53, string(BIG), string("")), 800),
    "SUCCESS after the login": (message(52), 5000),
    "global requests": (wire.global_request("hostkeys-00@openssh.com", BIG), 800),
    "questions": (wire.global_request("keepalive@openssh.com", want_reply=True), 5000),
    "answers": (message(81, BIG), 800),
    "opens": (message(90, string("gift"), u32(7), u32(0), u32(0), BIG), 800),
    "data for unknown channels": (wire.channel_data(0x1234, BIG), 800),
    "close of unknown channels": (message(97, u32(0x1234)), 5000),
}


@pytest.mark.parametrize("name", IGNORED)
def test_messages_to_ignore(client: ClientProcess, name: str) -> None:
    """Messages that mean nothing are gone once read, and the next command is right."""
    payload, count = IGNORED[name]

    def flood(conn: Conn) -> None:
        conn.flood(payload, count * FACTOR)

    with HostileServer(polite(after_auth=flood)) as server:
        outcome = client.connect_to(server, "echo right", timeout=60_000)
    assert outcome.results == [("right\n", "", 0)], outcome
    assert outcome.peak < LIMIT


def _requests(channel: Channel) -> None:
    for _ in range(5000 * FACTOR):
        channel.send_request("made-up@example.com", want_reply=True)


def _nothing(channel: Channel) -> None:
    for _ in range(5000 * FACTOR):
        channel.send_data(b"", obey=False)
        channel.conn.send_packet(wire.channel_data(channel.peer, b""))


def _other_streams(channel: Channel) -> None:
    for at in range(800 * FACTOR):
        if channel.window < len(BIG):
            channel.conn.pump()
        channel.window -= len(BIG)
        channel.conn.send_packet(wire.extended_data(channel.peer, BIG, kind=2 + at))


def _room(channel: Channel) -> None:
    for _ in range(5000 * FACTOR):
        channel.adjust(1)


def _statuses(channel: Channel) -> None:
    for _ in range(2500 * FACTOR):
        channel.exit_signal("KILL", text=b"x" * 1000)
        channel.exit_status(3)


@pytest.mark.parametrize("act", [_requests, _nothing, _other_streams, _room, _statuses])
def test_messages_on_a_channel(client: ClientProcess, act: Callable[[Channel], None]) -> None:
    """What brings no output costs no memory, and the command's end is still seen."""

    def attacking(channel: Channel, command: str) -> None:
        act(channel)
        channel.finish(8)

    with HostileServer(polite(execute=attacking)) as server:
        outcome = client.connect_to(server, "true", timeout=60_000)
    assert outcome.results == [("", "", 8)], outcome
    assert outcome.peak < LIMIT


@pytest.mark.parametrize("attack", [one for one in VERSIONS if "line" in one.name], ids=str)
def test_greetings(client: ClientProcess, attack: object) -> None:
    """An endless greeting is cut off before it costs anything."""

    def script(conn: Conn) -> None:
        attack.act(conn)  # type: ignore[attr-defined]

    with HostileServer(script) as server:
        outcome = client.connect_to(server)
    assert outcome.refused, outcome
    assert outcome.peak < LIMIT


def test_banners_before_the_login(client: ClientProcess) -> None:
    """Authentication banners are dropped beyond a few KiB, as often as they come."""

    def script(conn: Conn) -> None:
        conn.handshake()
        conn.expect_service()
        conn.read_auth_request()
        for _ in range(800 * FACTOR):
            conn.auth_banner(BIG)
        conn.auth_success()
        conn.serve()

    with HostileServer(script) as server:
        outcome = client.connect_to(server, "echo right", timeout=60_000)
    assert outcome.results == [("right\n", "", 0)] or outcome.refused, outcome
    assert outcome.peak < LIMIT


def test_large_banners_before_the_login(client: ClientProcess) -> None:
    """Banners of the largest size that a packet can have are taken one after the other."""

    def script(conn: Conn) -> None:
        conn.handshake()
        conn.expect_service()
        conn.read_auth_request()
        for _ in range(40 * FACTOR):
            conn.auth_banner(bytes(250_000))
        conn.auth_success()
        conn.serve()

    with HostileServer(script) as server:
        outcome = client.connect_to(server, "echo right", timeout=60_000)
    assert outcome.results == [("right\n", "", 0)], outcome
    assert outcome.peak < LIMIT


@pytest.mark.parametrize("number", [20, 30, 33, 49])
@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
def test_messages_within_a_key_exchange(client: ClientProcess, number: int, *, first: bool) -> None:
    """A key exchange takes a few messages, not any number of them."""

    def flood(conn: Transport) -> None:
        conn.flood(message(number, BIG))

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange(Tamper(before_reply=flood) if first else None)
        conn.expect_service()
        conn.authenticate()
        conn.rekey(Tamper(before_reply=flood))

    with HostileServer(script, strict=not first) as server:
        outcome = client.connect_to(server, "echo never")
        server.wait()
    assert outcome.refused, outcome
    assert outcome.results == []
    assert outcome.peak < LIMIT


def test_questions_within_a_key_exchange(client: ClientProcess) -> None:
    """Answers that have to wait for the new keys are not kept in any number."""

    def flood(conn: Transport) -> None:
        question = conn.make_body(message(90, string("gift"), u32(7), u32(0), u32(0)))
        while True:
            conn.send_raw(b"".join(conn.seal_body(question) for _ in range(1000)))

    def script(conn: Conn) -> None:
        conn.login()
        conn.rekey(Tamper(before_reply=flood))

    with HostileServer(script) as server:
        outcome = client.connect_to(server, "echo never")
        server.wait()
    assert outcome.refused, outcome
    assert "too many answers" in outcome.text
    assert outcome.peak < LIMIT


def test_endless_output(client: ClientProcess) -> None:
    """A command that never stops writing is cut off at max_output."""

    def attacking(channel: Channel, command: str) -> None:
        channel.conn.flood(wire.channel_data(channel.peer, BIG))

    with HostileServer(polite(execute=attacking)) as server:
        outcome = client.connect_to(server, "never", max_output=100_000)
    assert outcome.kinds[0] == "OutputLimitExceeded", outcome
    assert outcome.peak < LIMIT + 2048  # at most one window more


def test_key_exchanges(client: ClientProcess) -> None:
    """New keys as often as the server likes, but without anything left of the old ones."""

    def rekeying(conn: Conn) -> None:
        for _ in range(30 * FACTOR):
            conn.rekey()

    def grow() -> int:
        with HostileServer(polite(after_auth=rekeying), host_keys=[key]) as server:
            outcome = client.connect_to(server, "echo right", timeout=60_000)
        assert outcome.results == [("right\n", "", 0)], outcome
        return outcome.kept

    key = host_key()
    grow()
    assert grow() < 30_000


def test_failed_connections(client: ClientProcess) -> None:
    """Of connections that fail in the key exchange nothing is left."""
    tamper = Tamper(edit_signature=lambda good: good[:-1] + bytes([good[-1] ^ 1]))

    def grow(times: int) -> int:
        with HostileServer(polite(tamper=tamper)) as server:
            outcome = client.connect_to(server, times=times)
        assert outcome.refused, outcome
        return outcome.kept

    grow(3)
    # A leak shows every time, what an allocator or a library keeps shows once.
    assert min(grow(20) for _ in range(3)) < 10_000


def test_a_server_that_asks_and_does_not_read(client: ClientProcess) -> None:
    """Replies that nobody takes stop the client from reading; they do not pile up."""

    def flood(conn: Conn) -> None:
        question = wire.global_request("x", want_reply=True)
        while True:
            conn.send_raw(b"".join(conn.seal_body(conn.make_body(question)) for _ in range(100)))

    with HostileServer(polite(after_auth=flood), timeout=2.0, tolerate=(OSError,)) as server:
        outcome = client.connect_to(server, "never", timeout=2000 * FACTOR)
    assert outcome.typed, outcome
    assert outcome.peak < LIMIT + 4096  # as much as may wait to be sent


def test_requests_of_the_transport_are_still_answered(client: ClientProcess) -> None:
    """After a flood of questions every one of them has got its answer."""
    asked = 3000

    def flood(conn: Conn) -> None:
        conn.flood(wire.global_request("x", want_reply=True), asked)

    with HostileServer(polite(after_auth=flood)) as server:
        outcome = client.connect_to(server, "echo right", timeout=60_000)
        conn = server.wait()
    assert outcome.results == [("right\n", "", 0)]
    assert conn.answers == [message(Msg.REQUEST_FAILURE)] * asked


@pytest.mark.parametrize("text", [b"hello\n", b"", "\u202e\x1b[2J\n".encode() * 4000])
def test_banners_without_end(client: ClientProcess, text: bytes) -> None:
    """Ten thousand login banners end in an error; none of them is kept."""
    hung_up: list[bool] = []

    def script(conn: Conn) -> None:
        conn.handshake()
        conn.expect_service()
        conn.read_auth_request()
        try:
            for _ in range(10_000):
                conn.auth_banner(text)
            conn.serve()
        except ConnectionError:
            hung_up.append(True)

    with HostileServer(script) as server:
        outcome = client.connect_to(server, "echo never", timeout=60_000)
        server.wait(timeout=60)
    assert outcome.refused, outcome
    assert "more than 1000 login banners" in outcome.text
    assert outcome.peak < LIMIT
    assert hung_up == [True]
