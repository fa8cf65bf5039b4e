"""Streams of other makers for ``stream=``, for the conformance suite and ``tests/tunnels``."""

from __future__ import annotations

import datetime
import ipaddress
import select
import socket
import ssl
from pathlib import Path
from typing import Any

import anyio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support.tunnel_peers import Handler

__all__ = ["OwnSocket", "anyio_stream", "certificate", "shuttle", "socket_like", "tls_to"]


class OwnSocket:
    """An object with the methods of a socket, and nothing of its kind."""

    def __init__(self, sock: socket.socket) -> None:
        """Stand before a connected socket."""
        self._sock = sock
        self.closed = False

    def fileno(self) -> int:
        """Tell the descriptor that says when there is something."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """Pass on."""
        self._sock.setblocking(flag)

    def recv(self, size: int) -> bytes:
        """Receive little at once, as TLS does."""
        return self._sock.recv(min(size, 16_000))

    def send(self, data: Any) -> int:
        """Send little at once, as TLS does."""
        return self._sock.send(data[:16_000])

    def close(self) -> None:
        """Close."""
        self.closed = True
        self._sock.close()


async def socket_like(api: Any, host: str, port: int) -> OwnSocket:
    """Connect, and return an object that is like a socket."""
    return OwnSocket(socket.create_connection((host, port)))


async def anyio_stream(api: Any, host: str, port: int) -> Any:
    """Connect, and return a stream of anyio."""
    return await anyio.connect_tcp(host, port)


def certificate(folder: Path) -> tuple[str, str]:
    """Write a certificate for 127.0.0.1 and its key; return both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    cert, private = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(cert), str(private)


def shuttle(one: Any, two: socket.socket) -> None:
    """Carry bytes between two sockets until one of them ends; the first may be TLS."""
    while True:
        ready = [one] if getattr(one, "pending", int)() else select.select([one, two], [], [])[0]
        for source, sink in ((one, two), (two, one)):
            if source in ready:
                data = source.recv(1 << 14)
                if not data:
                    return
                sink.sendall(data)


def tls_to(address: tuple[str, int], cert: str, key: str) -> Handler:
    """Make a handler that ends TLS and goes on to a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)

    def handle(sock: socket.socket) -> None:
        with (
            context.wrap_socket(sock, server_side=True) as inner,
            socket.create_connection(address) as outer,
        ):
            shuttle(inner, outer)

    return handle
