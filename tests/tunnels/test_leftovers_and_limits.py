"""What forwards leave behind that were given up, and how much a server may make of them."""

from __future__ import annotations

import contextlib
import gc
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import Connection
from hussh._connect import forwarding, local_sockets
from hussh.aio import AsyncConnection
from tests.conformance.apis import run_in
from tests.support.hostile import Conn, HostileServer, Msg, Services
from tests.support.hostile_wire import u32
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Peer, echo, exchange
from tests.tunnels.test_unasked import PORT, offer

LOGIN: dict[str, Any] = {"password": "p", "host_key_policy": "ignore"}


class SlowToGrant:
    """A server that grants the first port only after `asked` was seen and `late` is set."""

    def __init__(self) -> None:
        self.late = threading.Event()
        self.cancelled = threading.Event()
        self.asked: Callable[[], object] = lambda: None
        self._ports = iter((PORT, PORT + 1))
        self.requests: list[tuple[str, bytes]] = []

    def answer(self, name: str, rest: bytes) -> bytes:
        """Grant a port."""
        port = next(self._ports)
        if port == PORT:
            self.asked()
            self.late.wait(20)
        return u32(port)

    def script(self, conn: Conn) -> None:
        """Serve."""
        conn.login()
        self.requests = conn.global_requests
        conn.serve(Services(answered=self.answer), until=self._is_cancelled)
        self.cancelled.set()
        conn.serve(Services(answered=self.answer))

    def _is_cancelled(self) -> bool:
        return any(name.startswith("cancel") for name, _ in self.requests)

    def ports_given_back(self) -> list[int]:
        """Return them."""
        names = [rest[-4:] for name, rest in self.requests if name == "cancel-tcpip-forward"]
        return [int.from_bytes(port, "big") for port in names]


def test_late_port_is_given_back_to_the_server() -> None:
    """A port that is granted after a Ctrl-C ended the call for it is not kept at the server."""
    slow = SlowToGrant()
    main = threading.main_thread().ident
    assert main is not None
    slow.asked = lambda: signal.pthread_kill(main, signal.SIGINT)
    with (
        HostileServer(slow.script) as server,
        Connection(server.host, server.port, "u", **LOGIN) as connection,
    ):
        with pytest.raises(KeyboardInterrupt):
            connection.forward_remote(0, ("127.0.0.1", 9))
        slow.late.set()
        assert slow.cancelled.wait(20)
        assert slow.ports_given_back() == [PORT]
        with connection.forward_remote(0, ("127.0.0.1", 9)) as forward:
            assert forward.port == PORT + 1, "each call gets its own answer"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_late_port_after_cancellation(loop: str) -> None:
    """A port that is granted after the task for it was cancelled is not kept at the server."""
    slow = SlowToGrant()
    was_asked = threading.Event()
    slow.asked = was_asked.set

    async def main() -> None:
        async with AsyncConnection(server.host, "u", port=server.port, **LOGIN) as connection:
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    await connection.forward_remote(0, ("127.0.0.1", 9))

                group.start_soon(ask)
                await anyio.to_thread.run_sync(was_asked.wait, 20)
                group.cancel_scope.cancel()
            slow.late.set()
            # The next one waits until the first has had its answer.
            async with connection.forward_remote(0, ("127.0.0.1", 9)) as forward:
                assert forward.port == PORT + 1
                assert await anyio.to_thread.run_sync(slow.cancelled.wait, 20)
                assert slow.ports_given_back() == [PORT]

    with HostileServer(slow.script) as server:
        run_in(loop, main)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_no_file_after_cancellation(
    loop: str, target: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Unix socket that was made while its task was cancelled is removed again."""
    made, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    really = local_sockets.listen_on

    def listen_slowly(address: Any) -> Any:
        listener = really(address)
        close = listener.close

        def close_and_tell() -> None:
            close()
            ended.set()

        listener.close = close_and_tell  # type: ignore[method-assign]
        made.set()
        go_on.wait(20)
        return listener

    monkeypatch.setattr(forwarding, "listen_on", listen_slowly)
    path = tmp_path / "s"
    account = target.alice

    async def main() -> None:
        connection = AsyncConnection(
            target.host, account.name, port=target.port, private_key=account.key.path
        )
        async with connection:
            async with anyio.create_task_group() as group:

                async def ask() -> None:
                    await connection.forward_local(str(path), ("127.0.0.1", 9))

                group.start_soon(ask)
                await anyio.to_thread.run_sync(made.wait, 20)
                assert path.exists()
                group.cancel_scope.cancel()
            go_on.set()
            assert await anyio.to_thread.run_sync(ended.wait, 20)
            assert not path.exists()

    run_in(loop, main)


def test_a_forward_that_is_dropped(target: Sshd) -> None:
    """A remote forward that nobody holds any more ends at the server, too."""
    account = target.alice
    with (
        Peer(echo) as peer,
        Connection(
            target.host, target.port, account.name, private_key=account.key.path
        ) as connection,
    ):
        forward = connection.forward_remote(0, peer.address)
        address = ("127.0.0.1", forward.port)
        assert exchange(address, b"x") == b"x"
        del forward
        gc.collect()
        connection.execute("true")  # after what was sent before
        with pytest.raises(ConnectionRefusedError):
            exchange(address, b"x")


def test_connections_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that opens any number of connections gets a bounded number of threads."""
    released = threading.Event()
    monkeypatch.setattr(forwarding, "WAITING", 20)
    pairs: list[socket.socket] = []

    def connect_slowly(_: object) -> socket.socket:
        released.wait(20)
        ours, theirs = socket.socketpair()
        pairs.append(theirs)
        ours.setblocking(False)
        return ours

    monkeypatch.setattr(forwarding, "connect_to", connect_slowly)
    count = forwarding.CONNECTING + 20 + 8
    answers: list[bytes] = []
    refused, answered, left = threading.Event(), threading.Event(), threading.Event()
    agreeing = Services(answered=lambda *_: True)

    def script(conn: Conn) -> None:
        conn.login()
        conn.serve(agreeing, until=lambda: bool(conn.global_requests))
        for number in range(count):
            one = offer(100 + number, "127.0.0.1", PORT)
            conn.send(one[0], one[1:])
        conn.serve(agreeing, until=lambda: len(conn.answers) == 8)
        refused.set()
        conn.serve(agreeing, until=lambda: len(conn.answers) == count)
        answers.extend(conn.answers)
        answered.set()
        left.wait(20)

    with (
        HostileServer(script) as server,
        Connection(server.host, server.port, "u", **LOGIN) as connection,
        contextlib.ExitStack() as ends,
    ):
        ends.callback(left.set)
        ends.callback(released.set)
        forward = connection.forward_remote(("127.0.0.1", PORT), ("127.0.0.1", 9))
        assert refused.wait(20)
        names = [thread.name for thread in threading.enumerate()]
        assert forwarding.CONNECTING <= names.count("hussh-worker") <= forwarding.CONNECTING + 2
        assert forward.connections == count - 8
        assert len(forward.errors) == 8
        released.set()
        assert answered.wait(20)
        forward.close()
        assert forward.connections == 0
    for sock in pairs:
        sock.close()
    kinds = [answer[0] for answer in answers]
    assert kinds.count(Msg.CHANNEL_OPEN_FAILURE) == 8
    assert all(answer[5:9] == u32(4) for answer in answers[:8]), "resource shortage"
