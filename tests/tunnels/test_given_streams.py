"""`stream=`: sockets, TLS, objects of other libraries, pipes and streams of tasks carry a hop."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from hussh import Connection, ConnectionLost
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import APIS, run_in
from tests.support.given_streams import OwnSocket, certificate, socket_like, tls_to
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Peer

MIB = 1 << 20


def options(server: Sshd) -> dict[str, Any]:
    """Return how alice logs in."""
    return {"username": server.alice.name, "private_key": server.alice.key.path}


def work(connection: Connection) -> None:
    """Move some bytes both ways."""
    data = bytes(range(256)) * 4096 * 3
    assert connection.execute("cat", input=data).stdout_bytes == data
    assert connection.execute("echo on").stdout == "on\n"


def test_plain_socket(target: Sshd) -> None:
    """A connected socket is taken over and closed with the connection, also where that fails."""
    sock = socket.create_connection((target.host, target.port))
    with Connection(target.host, stream=sock, **options(target)) as connection:
        work(connection)
        assert sock.fileno() == -1
    sock = socket.create_connection((target.host, target.port))
    sock.close()
    with pytest.raises(ConnectionError, match="is closed"):
        Connection(target.host, stream=sock, **options(target))


def test_tls(target: Sshd, tmp_path: Path) -> None:
    """An `ssl.SSLSocket` carries the first hop; what TLS has taken in already is not forgotten."""
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)
    with Peer(tls_to((target.host, target.port), cert, key)) as peer:
        plain = socket.create_connection(peer.address)
        tls = context.wrap_socket(plain, server_hostname="127.0.0.1")
        with Connection(target.host, stream=tls, **options(target)) as connection:
            work(connection)
        assert tls.fileno() == -1


class WaitingStream:
    """The least that is a stream: `recv`, `sendall`, `close`, all of which wait."""

    def __init__(self, sock: socket.socket) -> None:
        """Stand before a connected socket."""
        self._sock = sock

    def recv(self, size: int) -> bytes:
        """Wait for bytes."""
        return self._sock.recv(size)

    def sendall(self, data: bytes) -> None:
        """Wait until they are sent."""
        self._sock.sendall(data)

    def close(self) -> None:
        """End whoever waits."""
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()


@pytest.mark.parametrize("kind", [OwnSocket, WaitingStream])
def test_objects(kind: Any, target: Sshd) -> None:
    """Objects with a descriptor share one thread, others have two; none is left afterwards."""
    before = threading.active_count()
    made = [kind(socket.create_connection((target.host, target.port))) for _ in range(3)]
    open_now = [Connection(target.host, stream=stream, **options(target)) for stream in made]
    for connection in open_now:
        work(connection)
    relays = [thread for thread in threading.enumerate() if thread.name == "hussh-relay"]
    assert len(relays) == (1 if kind is OwnSocket else 6)
    for connection in open_now:
        connection.close()
    for relay in relays:  # it ends by itself, a moment later
        relay.join(30)
    assert "hussh-relay" not in [thread.name for thread in threading.enumerate()]
    assert threading.active_count() <= before + 2


class Failing(OwnSocket):
    """Fails after the login."""

    broken = False

    def recv(self, size: int) -> bytes:
        """Raise once it is broken."""
        if self.broken:
            raise ValueError("the tape is torn")
        return super().recv(size)


def test_its_error_is_told(target: Sshd) -> None:
    """What the object raises ends the connection, and is the cause of its error."""
    stream = Failing(socket.create_connection((target.host, target.port)))
    with Connection(target.host, stream=stream, **options(target)) as connection:
        stream.broken = True
        with pytest.raises(ConnectionLost, match="the tape is torn") as caught:
            connection.execute("echo on")
        assert isinstance(caught.value.__cause__, ValueError)
    assert stream.closed


def test_time_limit(mute_listener: Any) -> None:
    """A stream on which nobody speaks is given up in time, and closed."""
    stream = OwnSocket(socket.create_connection((mute_listener.host, mute_listener.port)))
    with pytest.raises(TimeoutError):
        Connection("nobody", stream=stream, timeout=300, username="u", password="p")
    assert stream.closed


def test_paramiko(target: Sshd, bastion: Sshd) -> None:
    """A channel of paramiko and its ProxyCommand object carry a hop, as its `sock=` does."""
    paramiko = pytest.importorskip("paramiko", reason="needs paramiko")
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    alice = bastion.alice
    client.connect(
        bastion.host, bastion.port, alice.name, key_filename=str(alice.key.path),
        allow_agent=False, look_for_keys=False,
    )  # fmt: skip
    try:
        channel = client.get_transport().open_channel(
            "direct-tcpip", (target.host, target.port), ("127.0.0.1", 0)
        )
        with Connection(target.host, stream=channel, **options(target)) as connection:
            work(connection)
        assert channel.closed
    finally:
        client.close()
    command = paramiko.ProxyCommand(f"nc {target.host} {target.port}")
    with Connection(target.host, stream=command, **options(target)) as connection:
        work(connection)
    command.process.stderr.close()
    command.process.wait(10)


def test_through_a_socks_client(target: Sshd) -> None:
    """PySocks and python-socks connect through our own SOCKS proxy, and hussh through them."""
    socks = pytest.importorskip("socks", reason="needs PySocks")
    with (
        Connection(target.host, target.port, **options(target)) as way,
        way.forward_socks() as proxy,
    ):
        stream = socks.socksocket()
        stream.set_proxy(socks.SOCKS5, *proxy.address)
        stream.connect((target.host, target.port))
        with Connection(target.host, stream=stream, **options(target)) as connection:
            work(connection)
        python_socks = pytest.importorskip("python_socks.sync", reason="needs python-socks")
        made = python_socks.Proxy.from_url(f"socks4://127.0.0.1:{proxy.port}")
        with Connection(
            target.host, stream=made.connect(target.host, target.port), **options(target)
        ) as connection:
            work(connection)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_streams_of_tasks(loop: str, target: Sshd, tmp_path: Path) -> None:
    """anyio's streams, with TLS and without, and objects like sockets carry a hop."""
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(cafile=cert)

    async def use(stream: Any) -> None:
        async with AsyncConnection(target.host, stream=stream, **options(target)) as connection:
            data = bytes(3 * MIB)
            assert (await connection.execute("cat", input=data)).stdout_bytes == data

    async def main() -> None:
        plain = await anyio.connect_tcp(target.host, target.port)
        await use(plain)
        with pytest.raises(anyio.ClosedResourceError):
            await plain.send(b"x")
        with Peer(tls_to((target.host, target.port), cert, key)) as peer:
            await use(await anyio.connect_tcp(*peer.address, ssl_context=context))
        await use(await socket_like(None, target.host, target.port))
        await use(socket.create_connection((target.host, target.port)))
        stream = await anyio.connect_tcp(target.host, target.port)
        connection = AsyncConnection(target.host, stream=stream, **options(target))
        await connection.connect()
        with anyio.move_on_after(0.1) as scope:
            await connection.execute("sleep 20")
        assert scope.cancelled_caught
        assert (await connection.execute("echo on")).stdout == "on\n"
        await connection.close()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()

    run_in(loop, main)


def test_asyncio_pair(target: Sshd) -> None:
    """asyncio's reader and writer carry a hop."""

    async def main() -> None:
        pair = await asyncio.open_connection(target.host, target.port)
        async with AsyncConnection(target.host, stream=pair, **options(target)) as connection:
            assert (await connection.execute("echo on")).stdout == "on\n"
        assert pair[1].is_closing()

    run_in("asyncio", main)


class Unused:
    """A stream that nobody may use; `closed` counts."""

    def __init__(self) -> None:
        self.closed = 0

    def _use(self, *_: object) -> bytes:
        raise AssertionError("used")

    recv = send = fileno = _use

    def close(self) -> None:
        """Note it."""
        self.closed += 1


class UnusedByteStream(Unused):
    """The same for tasks."""

    recv = None  # type: ignore[assignment]
    receive = Unused._use

    async def aclose(self) -> None:
        """Note it."""
        self.close()


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_failure_before_the_stream_is_used(api: Any, tmp_path: Path) -> None:
    """A connection that fails before it looks at its stream closes it; bad arguments do not."""
    silent = tmp_path / "known_hosts"
    os.mkfifo(silent)  # as a mount that does not answer

    async def main() -> None:
        for kind in (Unused,) if api.name == "sync" else (Unused, UnusedByteStream):
            stream = kind()
            with pytest.raises(TimeoutError):
                await api.connect(
                    "h", 22, timeout=0.2, password="p", stream=stream, known_hosts=str(silent)
                )
            assert stream.closed == 1
            with pytest.raises(ValueError, match="host_key_policy"):
                await api.connect("h", 22, password="p", stream=stream, host_key_policy="no")
            assert stream.closed == 1

    api.run(main)
    writer = os.open(silent, os.O_RDWR)  # lets those go on who wait for it
    silent.unlink()  # and those who come late
    os.close(writer)


def test_refused_arguments() -> None:
    """Two ways at once, what is no stream, and what would have to be awaited: TypeError."""
    one, two = socket.socketpair()
    with one, two:
        ways: list[dict[str, Any]] = [{"proxy_jump": "b"}, {"proxy_command": "nc %h %p"}]
        for more in ways:
            with pytest.raises(TypeError, match="mutually exclusive"):
                Connection("h", stream=one, **more)
        for wrong in (object(), 5, "nc"):
            with pytest.raises(TypeError, match="must have recv"):
                Connection("h", stream=wrong)
        with pytest.raises(TypeError, match="awaited"):
            Connection("h", stream=(one, two))
        with pytest.raises(TypeError, match="must not be awaited"):
            AsyncConnection("h", stream=trio.socket.from_stdlib_socket(one))
        with pytest.raises(TypeError, match="one connection"):
            MultiConnection.from_shared_auth(["h"], stream=one)
