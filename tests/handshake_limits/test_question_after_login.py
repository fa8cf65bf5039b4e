"""What a server says to the question after a login, and that those that say nothing are learned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from hussh._connect import async_connect, handshake_limits
from hussh._connect.handshake_limits import HandshakeLimiter
from hussh.aio import AsyncConnection
from tests.support.hostile import Conn, HostileServer
from tests.support.hostile_wire import Msg, u32

LOGINS = 10


def asked(server: HostileServer) -> int:
    """How many global requests the server has had."""
    return sum(len(conn.global_requests) for conn in server.conns)


def answering(answer: Callable[[Conn], object]) -> Callable[[Conn], None]:
    """A server that answers global requests in its own way."""

    def script(conn: Conn) -> None:
        take = conn._take

        def other(payload: bytes) -> None:
            if payload[0] == Msg.GLOBAL_REQUEST:
                conn.global_requests.append(("", payload))
                answer(conn)
            else:
                take(payload)

        conn._take = other  # type: ignore[method-assign]
        conn.login()
        conn.serve()

    return script


async def log_in(server: HostileServer) -> None:
    """Make so many connections at once, and close them."""
    host, port = server.address
    limiter = HandshakeLimiter()

    async def once() -> None:
        options: Any = {"port": port, "host_key_policy": "ignore", "agent": False, "timeout": 60}
        connection = AsyncConnection(host, "u", "p", **options)
        connection._shared.limiter = limiter
        await connection.connect()
        await connection.close()

    async with anyio.create_task_group() as group:
        for _ in range(LOGINS):
            group.start_soon(once)


async def test_unimplemented(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSH_MSG_UNIMPLEMENTED is an answer (RFC 4253 section 11.4): nobody waits for another."""
    monkeypatch.setattr(async_connect, "CONFIRM", 1000.0)
    with HostileServer(answering(lambda conn: conn.send(3, u32(0)))) as server:
        with anyio.fail_after(60):
            await log_in(server)
        assert asked(server) > LOGINS / 2  # who was alone did not ask
        assert handshake_limits.mute == set()


async def test_no_answer(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that did not answer is not asked again in this process."""
    monkeypatch.setattr(async_connect, "CONFIRM", 0.3)
    monkeypatch.setattr(handshake_limits, "LAG", 0.0)
    with HostileServer(answering(lambda conn: None)) as server:
        await log_in(server)
        first = asked(server)
        assert 0 < first <= LOGINS
        await log_in(server)
        assert asked(server) == first
        assert len(handshake_limits.mute) == 1
    handshake_limits.mute.clear()
