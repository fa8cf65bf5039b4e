"""Channels that are opened behind the last login request, and what servers make of them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from hussh import AuthenticationError, Connection
from tests.conformance.apis import APIS, Api
from tests.support.connecting import connect_as_alice
from tests.support.hostile import (
    AuthRequest,
    Conn,
    Factor,
    HostileServer,
    Interactive,
    Msg,
    Password,
    PublicKey,
    Round,
    Services,
    polite,
)
from tests.support.keys import Keys
from tests.support.sshd import Sshd
from tests.support.sshd_log import ENDED

OPENSSH = b"SSH-2.0-OpenSSH_9.9"
UNKNOWN = 15  # a message that nobody knows, which a client answers by UNIMPLEMENTED
both_ways = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)


class AfterOpen(Factor):
    """Answers a request only when an open has followed it; by `verdict`, if that is not None."""

    def __init__(self, inner: Factor, verdict: Callable[[Conn], bool] | None = None) -> None:
        self.method, self.inner, self.verdict = inner.method, inner, verdict
        self.kinds: list[str] = []

    def judge(self, conn: Conn, request: AuthRequest) -> bool | None:  # type: ignore[override]
        payload = conn.read_packet()
        assert payload[0] == Msg.CHANNEL_OPEN, payload[0]
        if self.verdict is not None:
            return self.verdict(conn)
        conn.unread(payload)
        return self.inner.judge(conn, request)


class NoOpen(Factor):
    """Sees to it that nothing has followed a request before its answer."""

    def __init__(self, inner: Factor) -> None:
        self.method, self.inner = inner.method, inner

    def judge(self, conn: Conn, request: AuthRequest) -> bool | None:  # type: ignore[override]
        conn.send(UNKNOWN)
        assert conn.read_any()[0] == Msg.UNIMPLEMENTED
        return self.inner.judge(conn, request)


def end(conn: Conn) -> bool:
    """End the connection without a word on the login, as a server may (RFC 4252 section 6)."""
    conn.send_disconnect(2, "packet before the login")
    raise ConnectionError


def log_in(api: Api, server: HostileServer, **options: Any) -> None:
    """Connect as u, run a command, close."""

    async def main() -> None:
        session = await api.connect(*server.address, username="u", **options)
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()

    api.run(main)


@both_ways
def test_a_session_behind_the_login(api: Api, keys: Keys) -> None:
    """An OpenSSH that answers the login only after an open gets one, and the command runs on it."""
    key = keys.get(name="early")
    for options, factor in (
        ({"private_key": key.path}, PublicKey()),
        ({"password": "right"}, Password("right")),
    ):
        with HostileServer(polite(AfterOpen(factor)), version=OPENSSH) as server:
            log_in(api, server, **options)
        assert len(server.conns[0].opens) == 1


@both_ways
def test_the_way_to_the_next_hop_behind_the_login(api: Api, keys: Keys) -> None:
    """The way to the target is asked for before the bastion has answered the login."""
    key = keys.get(name="early")
    with HostileServer(polite(PublicKey()), version=OPENSSH) as target:
        services = Services(forward=lambda host, port: target)
        script = polite(AfterOpen(PublicKey()), services=services)
        with HostileServer(script, version=OPENSSH) as bastion:
            way = f"u@{bastion.host}:{bastion.port}"
            log_in(api, target, private_key=key.path, proxy_jump=way)
        assert [request.kind for request in bastion.conns[0].opens] == ["direct-tcpip"]


@pytest.mark.parametrize(
    ("options", "factor", "version"),
    [
        ({"password": "p"}, Password("p"), b"SSH-2.0-Other_1"),
        ({"password": "p", "compression": True}, Password("p"), OPENSSH),
        ({"prompt": lambda asked: ["x"]}, Interactive(Round([("Code: ", False)])), OPENSSH),
        ({"password": "p", "prompt": lambda asked: ["x"]}, Password("p"), OPENSSH),
        ({"password": "p", "spare_channel": False}, Password("p"), OPENSSH),
    ],
    ids=["another-server", "compression", "questions", "prompt", "no-spare"],
)
def test_nothing_behind_it(options: dict[str, Any], factor: Factor, version: bytes) -> None:
    """Nothing is opened early where the server may mind, or where another try may follow."""
    with HostileServer(polite(NoOpen(factor)), version=version) as server:
        log_in(APIS[0], server, **options)


@both_ways
def test_another_server_that_needs_one_factor(api: Api) -> None:
    """A server that is no OpenSSH gets an early open once it has let this user in by one factor."""
    scripts = [polite(NoOpen(Password("p"))), polite(AfterOpen(Password("p")))]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        log_in(api, server, password="p")
        log_in(api, server, password="p")
    assert not scripts


@both_ways
def test_a_server_that_ends_the_connection_for_it(api: Api) -> None:
    """It is connected to once more without an early open, and never gets one again."""
    scripts = [
        polite(Password("p")),
        polite(AfterOpen(Password("p"), end)),
        polite(NoOpen(Password("p"))),
        polite(NoOpen(Password("p"))),
    ]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        for _ in range(3):
            log_in(api, server, password="p")
    assert not scripts


@both_ways
def test_over_a_stream_that_cannot_be_opened_again(api: Api) -> None:
    """Where `stream=` was given, a server that may mind gets no early open; one that ends the
    connection for it, although it seems to be OpenSSH, is told of and gets none again."""

    def stream() -> dict[str, Any]:
        return {"password": "p", "stream": socket.create_connection(server.address)}

    scripts = [polite(Password("p")), polite(NoOpen(Password("p")))]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        log_in(api, server, password="p")
        log_in(api, server, **stream())
    scripts = [polite(AfterOpen(Password("p"), end)), polite(NoOpen(Password("p")))]
    with HostileServer(lambda conn: scripts.pop(0)(conn), version=OPENSSH) as server:
        with pytest.raises(AuthenticationError, match="packet before the login"):
            log_in(api, server, **stream())
        log_in(api, server, **stream())
    assert not scripts


@both_ways
def test_a_server_that_does_not_look_at_it(api: Api) -> None:
    """A session that the server has lost is opened again, and the server gets no early one more."""

    class Lost(AfterOpen):
        """Lets in, and forgets the open."""

        def judge(self, conn: Conn, request: AuthRequest) -> bool | None:  # type: ignore[override]
            assert conn.read_packet()[0] == Msg.CHANNEL_OPEN
            return self.inner.judge(conn, request)

    scripts = [polite(Password("p")), polite(Lost(Password("p"))), polite(NoOpen(Password("p")))]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        for _ in range(3):
            log_in(api, server, password="p", timeout=30)
    assert not scripts


@both_ways
def test_a_server_that_answers_it_later(api: Api) -> None:
    """A server that answers a global request before the session (Go's may) is not misunderstood."""

    class Later(AfterOpen):
        """Lets in, and keeps the open."""

        def judge(self, conn: Conn, request: AuthRequest) -> bool | None:  # type: ignore[override]
            conn.tag = conn.read_packet()
            return self.inner.judge(conn, request)

    def answered(name: str, data: bytes) -> None:
        conn = server.conns[-1]
        assert isinstance(conn.tag, bytes)
        conn.unread(conn.tag)

    services = Services(answered=answered)
    scripts = [polite(Password("p")), polite(Later(Password("p")), services=services)]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        for _ in range(2):
            log_in(api, server, password="p", timeout=30)
    assert not scripts


@both_ways
def test_a_refusal_and_then_the_end(api: Api) -> None:
    """A refused login is that also where the server ends the connection, and is tried once."""

    def refuse(conn: Conn) -> bool:
        conn.auth_failure(("password", "publickey"))
        return end(conn)

    scripts = [polite(Password("p")), polite(AfterOpen(Password("p"), refuse))]
    with HostileServer(lambda conn: scripts.pop(0)(conn)) as server:
        log_in(api, server, password="p")
        with pytest.raises(AuthenticationError) as caught:
            log_in(api, server, password="wrong")
        assert caught.value.methods_left == ("password", "publickey")
    assert len(server.conns) == 2


def test_openssh_and_a_wrong_password(sshd_factory: Callable[..., Sshd]) -> None:
    """OpenSSH sees a wrong password once, in one connection."""
    server = sshd_factory()
    with pytest.raises(AuthenticationError):
        connect_as_alice(server, password="wrong")
    server.wait_for_log(ENDED)
    passwords = [one for one in server.authentications() if one.method == "password"]
    assert len(passwords) == 1
    assert server.connections() == 1


def test_openssh_and_a_second_attempt(sshd_factory: Callable[..., Sshd], keys: Keys) -> None:
    """What OpenSSH did not look at, behind a refused attempt, is opened again after the next."""
    server = sshd_factory(options={"PubkeyAcceptedAlgorithms": "rsa-sha2-256,ssh-ed25519"})
    key = keys.get("rsa", name="early")
    server.authorize(server.alice, key)
    with connect_as_alice(server, private_key=key.path) as bastion:
        assert bastion.execute("echo in").stdout == "in\n"
    server.authorize(server.bob, key)
    way = f"{server.bob.name}@{server.host}:{server.port}"
    with connect_as_alice(server, private_key=key.path, proxy_jump=way) as connection:
        assert connection.execute("echo in").stdout == "in\n"


def test_openssh_that_wants_a_second_factor(sshd_factory: Callable[..., Sshd]) -> None:
    """A key that is only the first of two factors: the error names the method that is left."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,password"})
    with pytest.raises(AuthenticationError) as caught:
        Connection(
            server.host, server.port, server.alice.name, private_key=server.alice.key.path,
            host_key_policy="ignore",
        )  # fmt: skip
    assert caught.value.methods_left == ("password",)
    assert server.connections() == 1
