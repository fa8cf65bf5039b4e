"""New keys in the middle of what many tasks ask for."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from hussh.aio import AsyncConnection
from tests.support.hostile import Conn, HostileServer

TASKS = 50
COMMAND = "echo " + "x" * 30_000


def connection(server: HostileServer) -> AsyncConnection:
    """Return a connection that nobody has opened yet."""
    options: dict[str, Any] = {"known_hosts": [], "host_key_policy": "ignore", "agent": False}
    return AsyncConnection("127.0.0.1", "joe", "secret", port=server.port, timeout=60, **options)


async def test_requests_wait_for_it(loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is asked for while keys are exchanged, it is sent afterwards."""

    def script(conn: Conn) -> None:
        conn.login()
        opens = [conn.next_open() for _ in range(TASKS)]
        packets: list[bytes] = []  # in one with the first of the key exchange
        send = conn.send_raw

        def send_all(data: bytes) -> None:
            monkeypatch.undo()
            send(b"".join(packets) + data)

        monkeypatch.setattr(conn, "send_raw", packets.append)
        for request in opens:
            conn.confirm(request)
        monkeypatch.setattr(conn, "send_raw", send_all)
        conn.rekey()
        conn.serve()

    with HostileServer(script) as server:
        async with connection(server) as opened:
            results: list[Any] = [None] * TASKS

            async def run(at: int) -> None:
                results[at] = await opened.execute(COMMAND)

            async with anyio.create_task_group() as group:
                for at in range(TASKS):
                    group.start_soon(run, at)
    assert {len(result.stdout) for result in results} == {len(COMMAND) - 4}
