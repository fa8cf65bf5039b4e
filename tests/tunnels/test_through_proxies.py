"""`stream=` through HTTP proxies (CONNECT), also within TLS, and through websockets."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from tests.conformance.apis import run_in
from tests.support.given_streams import certificate, shuttle
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Handler, Peer
from tests.tunnels.test_given_streams import options, work


def connect_proxy(
    to: Sshd, context: ssl.SSLContext | None = None, *, waits: bool = False
) -> Handler:
    """Make an HTTP proxy that leads to one server, within TLS where there is a context.

    Where it `waits` for its client's first words, nothing follows its answer at once.
    """

    def handle(sock: socket.socket) -> None:
        inner = sock if context is None else context.wrap_socket(sock, server_side=True)
        with inner:
            assert read_head(inner).startswith(b"CONNECT ")
            with socket.create_connection((to.host, to.port)) as outer:
                inner.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                if waits:
                    select.select([inner], [], [])
                shuttle(inner, outer)

    return handle


def read_head(sock: socket.socket) -> bytes:
    """Read to the end of the head of a request or an answer, and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += sock.recv(1)
    return head


@pytest.mark.parametrize("is_tls", [False, True])
def test_http_connect(is_tls: bool, target: Sshd, tmp_path: Path) -> None:
    """A socket through an HTTP proxy carries the first hop, also within TLS."""
    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    with Peer(connect_proxy(target, context if is_tls else None)) as proxy:
        sock = socket.create_connection(proxy.address)
        if is_tls:
            trusting = ssl.create_default_context(cafile=cert)
            sock = trusting.wrap_socket(sock, server_hostname="127.0.0.1")
        sock.sendall(b"CONNECT server.internal:22 HTTP/1.1\r\nHost: server.internal:22\r\n\r\n")
        assert b" 200 " in read_head(sock)
        with Connection(target.host, stream=sock, **options(target)) as connection:
            work(connection)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_http_connect_by_tasks(loop: str, target: Sshd) -> None:
    """python-socks connects by an HTTP proxy in an event loop; its stream carries the hop."""
    python_socks = pytest.importorskip("python_socks.async_.anyio", reason="needs python-socks")

    async def main() -> None:
        made = python_socks.Proxy.from_url(f"http://127.0.0.1:{proxy.address[1]}")
        stream = await made.connect(target.host, target.port)
        async with AsyncConnection(target.host, stream=stream, **options(target)) as connection:
            data = bytes(3 << 20)
            assert (await connection.execute("cat", input=data)).stdout_bytes == data

    # python-socks drops what comes together with the answer.
    with Peer(connect_proxy(target, waits=True)) as proxy:
        run_in(loop, main)


@contextlib.contextmanager
def websocket_server(target: Sshd) -> Iterator[str]:
    """Run a websocket server that carries binary messages to a server and back; its address."""
    server_of = pytest.importorskip("websockets.sync.server", reason="needs websockets")
    websockets = pytest.importorskip("websockets.exceptions", reason="needs websockets")

    def handle(websocket: Any) -> None:
        with socket.create_connection((target.host, target.port)) as sock:

            def back() -> None:
                with contextlib.suppress(OSError, websockets.ConnectionClosed):
                    while data := sock.recv(1 << 16):
                        websocket.send(data)
                    websocket.close()

            thread = threading.Thread(target=back)
            thread.start()
            with contextlib.suppress(OSError):
                for message in websocket:
                    sock.sendall(message)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            thread.join()

    with server_of.serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


class WebsocketStream:
    """A websocket as a stream."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._rest = b""

    def recv(self, size: int) -> bytes:
        """Return what has come; nothing at the end."""
        if not self._rest:
            try:
                self._rest = self._websocket.recv()
            except EOFError:
                return b""
            except Exception as error:
                if type(error).__name__ == "ConnectionClosedOK":
                    return b""
                raise
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def sendall(self, data: bytes) -> None:
        """Send it as one message."""
        self._websocket.send(data)

    def close(self) -> None:
        """Close."""
        self._websocket.close()


def test_websocket(target: Sshd) -> None:
    """A websocket, wrapped as an object with `recv`, `sendall` and `close`, carries the hop."""
    client = pytest.importorskip("websockets.sync.client", reason="needs websockets")
    with (
        websocket_server(target) as address,
        client.connect(address, compression=None) as websocket,
        Connection(target.host, stream=WebsocketStream(websocket), **options(target)) as connection,
    ):
        work(connection)


class WebsocketByteStream(anyio.abc.ByteStream):
    """The same for tasks."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._rest = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has come."""
        if not self._rest:
            try:
                self._rest = await self._websocket.recv()
            except Exception as error:
                raise anyio.EndOfStream from error
        data, self._rest = self._rest[:max_bytes], self._rest[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        """Send it as one message."""
        await self._websocket.send(item)

    async def send_eof(self) -> None:
        """Do nothing: a websocket has no half-close."""

    async def aclose(self) -> None:
        """Close."""
        await self._websocket.close()


def test_websocket_by_tasks(target: Sshd) -> None:
    """A websocket of an event loop, wrapped as a `ByteStream`, carries the hop."""
    client = pytest.importorskip("websockets.asyncio.client", reason="needs websockets")

    async def main() -> None:
        stream = WebsocketByteStream(await client.connect(address, compression=None))
        async with AsyncConnection(target.host, stream=stream, **options(target)) as connection:
            data = bytes(3 << 20)
            assert (await connection.execute("cat", input=data)).stdout_bytes == data

    with websocket_server(target) as address:
        run_in("asyncio", main)
