"""`open_connection` and `open_unix_connection` in every API, to real sockets."""

from __future__ import annotations

import hashlib
import http.client
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import Connection, ConnectionClosed, ConnectionLost, TunnelRefused
from tests.conformance.client import Client
from tests.conformance.conftest import NINE, THREE
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Peer, echo

MIB = 1 << 20


async def send_all(stream: Any, data: bytes) -> None:
    """Send by a tunnel of either API, then the end."""
    if hasattr(stream.real, "sendall"):
        stream.real.sendall(data)
        stream.real.shutdown(socket.SHUT_WR)
    else:
        await stream.real.send(data)
        await stream.real.send_eof()


async def receive_all(stream: Any) -> bytes:
    """Receive by a tunnel of either API, to the end."""
    parts = []
    if hasattr(stream.real, "recv"):
        while part := stream.real.recv(MIB):
            parts.append(part)
    else:
        parts = [part async for part in stream.real]
    return b"".join(parts)


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_bytes_both_ways(client: Client) -> None:
    """Megabytes go to a real server behind the last hop and come back, with the half-close."""
    data = random.Random(1).randbytes(4 * MIB)
    got: list[bytes] = []
    with Peer(echo) as peer:
        stream = await client.awaited.open_connection(*peer.address)

        async def write() -> bytes:
            await send_all(stream, data)
            return b""

        async def read() -> bytes:
            got.append(await receive_all(stream))
            return b""

        await client.together(write, read)
        assert hashlib.sha256(got[0]).digest() == hashlib.sha256(data).digest()
        await (stream.close() if hasattr(stream.real, "recv") else stream.aclose())


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_close_wakes_who_receives(client: Client) -> None:
    """Closing a tunnel wakes the thread or task that waits to receive from it."""
    raised: list[BaseException] = []

    with Peer(echo) as peer:
        stream = await client.awaited.open_connection(*peer.address)
        driver, token = stream.real._session.driver, stream.real._channel.token

        async def receive() -> bytes:
            try:
                return await receive_all(stream)
            except (ConnectionClosed, anyio.ClosedResourceError) as error:
                raised.append(error)
                return b""

        async def close() -> bytes:
            is_sync = hasattr(stream.real, "recv")
            while token not in driver._waiters:
                if is_sync:
                    time.sleep(0.001)
                else:
                    await anyio.sleep(0.001)
            await (stream.close() if is_sync else stream.aclose())
            return b""

        await client.together(receive, close)
        assert len(raised) == 1


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_close_sends_what_was_written(client: Client) -> None:
    """What was written before `close` arrives, whole and with its end."""
    arrived: list[int] = []
    done = threading.Event()

    def count(sock: socket.socket) -> None:
        size = 0
        while data := sock.recv(1 << 16):
            size += len(data)
        arrived.append(size)
        done.set()

    with Peer(count) as peer:
        stream = await client.awaited.open_connection(*peer.address)
        data = bytes(900_000)
        if hasattr(stream.real, "sendall"):
            stream.real.sendall(data)
            stream.real.close()
            assert done.wait(20)
        else:
            await stream.real.send(data)
            await stream.real.aclose()
            assert await anyio.to_thread.run_sync(done.wait, 20)
    assert arrived == [900_000]


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_refused_targets(client: Client) -> None:
    """A port where nobody listens: a typed error with the reason, and the connection goes on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(TunnelRefused, match="refused the tunnel to 127") as caught:
        await client.awaited.open_connection("127.0.0.1", port)
    assert isinstance(caught.value, ConnectionRefusedError)
    assert (caught.value.reason_code, caught.value.target) == (2, f"127.0.0.1:{port}")
    assert caught.value.hop is not None
    assert caught.value.phase == "channel"
    assert (await client.execute("echo on")).stdout == "on\n"


def test_permit_open(sshd_factory: Callable[..., Sshd]) -> None:
    """A server with PermitOpen: what it names is reached, all else is refused as prohibited."""
    with Peer(echo) as allowed, Peer(echo) as other:
        server = sshd_factory(options={"PermitOpen": f"127.0.0.1:{allowed.address[1]}"})
        with Connection(
            server.host, server.port, server.alice.name, private_key=server.alice.key.path
        ) as connection:
            with connection.open_connection(*allowed.address) as tunnel:
                tunnel.sendall(b"x")
                assert tunnel.recv(5) == b"x"
            with pytest.raises(TunnelRefused, match="PermitOpen") as caught:
                connection.open_connection(*other.address)
            assert caught.value.reason_code == 1


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_unix_sockets(client: Client) -> None:
    """A Unix socket of the server is reached by its path; one that is not there is refused."""
    script = (
        "import os,socket; s=socket.socket(socket.AF_UNIX); p=os.path.expanduser('~/s.sock');"
        "os.path.exists(p) and os.unlink(p); s.bind(p); s.listen(); print(p,flush=True);"
        "c=s.accept()[0]; c.sendall(c.recv(99).upper()); c.close()"
    )
    async with client.awaited.popen(f'python3 -c "{script}"') as process:
        path = (await process.stdout.readline()).decode().strip()
        stream = await client.awaited.open_unix_connection(path)
        await send_all(stream, b"hello")
        assert await receive_all(stream) == b"HELLO"
        await (stream.close() if hasattr(stream.real, "recv") else stream.aclose())
        with pytest.raises(TunnelRefused, match="no-such"):
            await client.awaited.open_unix_connection(str(Path(path).parent / "no-such"))


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_lost_connection(client: Client, target: Sshd) -> None:
    """Where the server's end of the connection dies, a read of a tunnel says so."""
    with Peer(echo) as peer:
        stream = await client.awaited.open_connection(*peer.address)
        target.kill_sessions()
        expected = ConnectionLost if hasattr(stream.real, "recv") else anyio.BrokenResourceError
        with pytest.raises(expected):
            await (
                apart_recv(stream.real) if hasattr(stream.real, "recv") else stream.real.receive()
            )


async def apart_recv(tunnel: Any) -> bytes:
    """Receive by a sync tunnel."""
    data: bytes = tunnel.recv(1)
    return data


@pytest.mark.parametrize("client", [THREE[0]], indirect=True)
async def test_as_a_socket(client: Client) -> None:
    """Time-outs, non-blocking reads, files and the state after `close` are those of a socket."""
    connection: Connection = client.main.real
    with Peer(echo) as peer, connection.open_connection(*peer.address) as tunnel:
        assert tunnel.getpeername() == peer.address
        tunnel.settimeout(0.05)
        with pytest.raises(TimeoutError):
            tunnel.recv(1)
        tunnel.setblocking(False)
        with pytest.raises(BlockingIOError):
            tunnel.recv(1)
        tunnel.settimeout(20)
        buffer = bytearray(10)
        assert tunnel.send(b"abc\ndef\n") == 8
        assert tunnel.recv_into(buffer, 1) == 1
        assert buffer[:1] == b"a"
        with tunnel.makefile("rb") as lines:
            assert lines.readline() == b"bc\n"
            assert lines.readline() == b"def\n"
        with tunnel.makefile("rw", encoding="utf-8", newline="\n") as text:
            text.write("grüße\n")
            text.flush()
            assert text.readline() == "grüße\n"
        file = tunnel.makefile("rb")
        tunnel.close()
        file.close()
        with pytest.raises(ConnectionError):
            tunnel.recv(1)
        with connection.open_connection(*peer.address) as other:
            other.shutdown(socket.SHUT_WR)
            with pytest.raises(BrokenPipeError):
                other.sendall(b"x")


@pytest.mark.parametrize("client", [THREE[0]], indirect=True)
async def test_under_http_client(client: Client, tmp_path: Path) -> None:
    """A library that takes a socket works over a tunnel: `http.client`, with keep-alive."""
    connection: Connection = client.main.real

    def answer(sock: socket.socket) -> None:
        with sock.makefile("rb") as lines:
            while lines.readline().strip():
                while lines.readline().strip():
                    pass
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with Peer(answer) as peer:
        http_connection = http.client.HTTPConnection("inside.example", peer.address[1])
        http_connection.sock = connection.open_connection(*peer.address)
        for _ in range(3):
            http_connection.request("GET", "/")
            assert http_connection.getresponse().read() == b"hello"
        http_connection.close()
