"""Servers at the far or the near end of tunnels, and clients of tunnels; for ``tests/tunnels``.

Everything is on loopback or a Unix socket, and ends with its block.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Handler", "Peer", "connect", "echo", "exchange", "hold", "read_all"]

Handler = Callable[[socket.socket], None]
SECONDS = 30.0


class Peer:
    """A server that gives each connection to a handler in a thread of its own.

    Attributes:
        address: host and port, or a path.
        seen: the connections that came.
    """

    def __init__(self, handler: Handler, path: Path | None = None) -> None:
        """Listen at once, on a free port or at ``path``."""
        self._handler = handler
        self.seen: list[socket.socket] = []
        if path is None:
            self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
            self.address: tuple[str, int] = self._listener.getsockname()[:2]
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(path))
            self._listener.listen(512)
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(SECONDS)
            self.seen.append(sock)
            thread = threading.Thread(target=self._handle, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _handle(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):
            self._handler(sock)

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self.seen:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS)


def echo(sock: socket.socket) -> None:
    """Send back what comes, and the end of it."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def hold(sock: socket.socket) -> None:
    """Read nothing, until the peer is closed: whoever reads here sees only the end."""
    threading.Event().wait(0)
    with contextlib.suppress(OSError):
        sock.recv(1, socket.MSG_PEEK | socket.MSG_WAITALL)


def read_all(sock: socket.socket) -> bytes:
    """Everything to the end."""
    parts = []
    while part := sock.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


@contextlib.contextmanager
def connect(address: tuple[str, int] | str) -> Iterator[socket.socket]:
    """Connect to an address of a forward."""
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
    else:
        sock = socket.create_connection(address, SECONDS)
    with sock:
        sock.settimeout(SECONDS)
        yield sock


def exchange(address: tuple[str, int] | str, data: bytes) -> bytes:
    """Send data, say that it is all, and read the answer to its end."""
    with connect(address) as sock:
        sender = threading.Thread(target=_send, args=(sock, data))
        sender.start()
        try:
            return read_all(sock)
        finally:
            sender.join(SECONDS)


def _send(sock: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
