"""What counts as a busy server and what does not, for every kind of stream, in the sync API."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from hussh import Connection, ConnectionLost, HusshError, ProxyCommandError, ServerBusy
from hussh._connect import tcp
from hussh.aio import AsyncConnection
from tests.support.hostile import Conn, HostileServer, Password, Script
from tests.support.hostile_catalogue import until
from tests.support.sshd import Sshd

TOO_MANY = b"Exceeded MaxStartups\r\n"
NOT_NOW = b"Not allowed at this time\r\n"


def _say(text: bytes) -> Script:
    return lambda conn: conn.send_raw(text)


def _reset(conn: Conn) -> None:
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _goodbye(reason: int) -> Script:
    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.send_disconnect(reason, "come back later")
        conn.wait_closed()

    return script


@dataclass(frozen=True)
class Case:
    """What a server does, and what it counts as."""

    name: str
    script: Script
    busy: bool
    phase: str = "banner"
    text: str = ""
    may_be_ban: bool = False


CASES = [
    Case("closes", until("connect", lambda _: None), True),
    Case("resets", until("connect", _reset), True),
    Case("OpenSSH to 9.7", _say(TOO_MANY), True, text="Exceeded MaxStartups"),
    Case("OpenSSH from 9.8", _say(NOT_NOW), True, text=NOT_NOW.decode().strip(), may_be_ban=True),
    Case("others' words", _say(b"Too many users.\n"), True, text="Too many users."),
    Case("by number", _goodbye(12), True, phase="kex", text="come back later"),
    Case("another number", _goodbye(11), False, phase="kex"),
    Case("no SSH", _say(b"HTTP/1.1 400 Bad Request\r\n"), False),
    Case("after its banner", until("version", lambda _: None), False, phase="kex"),
    Case("in the login", until("auth", lambda _: None), False, phase="auth"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_counts_as_busy(case: Case) -> None:
    """A refusal is told from other ends of a connection, with the server's words and a place."""
    with HostileServer(case.script) as server, pytest.raises(ConnectionLost) as caught:
        Connection(*server.address, "mallory", "secret", timeout=20_000)
    error = caught.value
    assert isinstance(error, ServerBusy) == case.busy
    assert error.phase == case.phase
    assert error.hop == f"mallory@{server.host}:{server.port}"
    if isinstance(error, ServerBusy):
        assert (error.server_text, error.may_be_ban) == (case.text, case.may_be_ban)
        assert error.tries == 1
        assert case.text in str(error)
        assert isinstance(error, OSError)
        assert isinstance(error, RuntimeError)


async def test_a_reset_before_the_first_look(loop: str) -> None:
    """A server that resets what it has just accepted is busy, however early that is noticed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def refuse() -> None:
            with anyio.fail_after(20):
                await anyio.wait_readable(listener)
            peer = listener.accept()[0]
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()

        port = listener.getsockname()[1]
        for _ in range(5):
            async with anyio.create_task_group() as group:
                group.start_soon(refuse)
                with pytest.raises(ServerBusy):
                    await AsyncConnection("127.0.0.1", port=port, password="x", timeout=20)


def test_a_reset_while_dialling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where the system call that connects tells of the reset."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        begin = tcp.begin
        port = listener.getsockname()[1]

        def slowly(*asked: Any) -> tcp.Begun | None:
            begun = begin(*asked)
            peer = listener.accept()[0]
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return begun

        monkeypatch.setattr(tcp, "begin", slowly)
        with pytest.raises(ServerBusy):
            Connection("127.0.0.1", port, "mallory", "x", timeout=20_000)


def test_hints() -> None:
    """The error says what to look at, and speaks of a ban only where it may be one."""
    for words, banned in ((TOO_MANY, False), (NOT_NOW, True)):
        with HostileServer(_say(words)) as server, pytest.raises(ServerBusy) as caught:
            Connection(*server.address, "mallory", "secret", timeout=20_000)
        assert "MaxStartups in its sshd_config" in str(caught.value)
        assert ("PerSourcePenalties" in str(caught.value)) == banned


@pytest.mark.parametrize(
    ("command", "cls"),
    [
        (["printf", r"Exceeded MaxStartups\r\n"], ServerBusy),
        (["printf", r"Bad gateway\r\n"], ProxyCommandError),
        (["true"], ProxyCommandError),
        (["sh", "-c", "echo too many >&2; exit 1"], ProxyCommandError),
    ],
    ids=["said so", "said something", "silent", "on stderr"],
)
def test_behind_a_proxy_command(command: list[str], cls: type[HusshError]) -> None:
    """A proxy command that ends may have reasons of its own: only the server's words count."""
    with pytest.raises(ConnectionLost) as caught:
        Connection("host", 22, "mallory", "secret", proxy_command=command, timeout=20_000)
    assert type(caught.value) is cls


def test_the_bastion_ends_before_the_banner(target: Sshd) -> None:
    """Where the bastion dies while the target's banner is awaited, the target is not busy."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        conn.authenticate(Password("secret"))
        conn.accept_channel("direct-tcpip")

    with HostileServer(script) as server:
        bastion = Connection(*server.address, "mallory", "secret", timeout=20_000)
        with pytest.raises(ConnectionLost) as caught:
            Connection(target.host, target.port, "alice", "x", proxy_jump=bastion, timeout=20_000)
        assert not isinstance(caught.value, ServerBusy)
        bastion.close()
