"""Peers that are reachable but do not behave: for tests of time limits.

For ``tests/conftest.py`` and tests. Each closes everything it opened on exit; only ``SlowBanner``
runs a thread.
"""

from __future__ import annotations

import select
import socket
import threading


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port of the address that nobody has at this moment."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
    return port


def _listen(address: str, backlog: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind((address, 0))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


class MuteListener:
    """Completes the TCP handshake and never says a word: the kernel accepts, nobody reads."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        """Listen on a free port of ``address``."""
        self.listener = _listen(address, 128)
        self.host = address
        self.port: int = self.listener.getsockname()[1]

    def accept(self, timeout: float = 20.0) -> socket.socket:
        """Return the server's end of the next connection; the caller closes it."""
        self.listener.settimeout(timeout)
        return self.listener.accept()[0]

    def __enter__(self) -> MuteListener:
        """Return itself, listening."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close; connections nobody accepted are reset."""
        self.listener.close()


class FullBacklog:
    """Makes ``connect`` hang, as a firewall does that drops packets: its accept queue is full."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        """Listen on a free port of ``address`` and fill the queue."""
        self.listener = _listen(address, 0)
        self.host = address
        self.port: int = self.listener.getsockname()[1]
        self._fillers: list[socket.socket] = []
        try:
            self._fill()
        except BaseException:
            self.__exit__()
            raise

    def _fill(self) -> None:
        for _ in range(16):
            filler = socket.socket(self.listener.family, socket.SOCK_STREAM)
            self._fillers.append(filler)
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            poller = select.poll()
            poller.register(filler, select.POLLOUT)
            # On loopback a handshake is done in microseconds or not at all.
            if not poller.poll(200):
                return
        raise OSError("this kernel accepts more connections than the backlog allows")

    def __enter__(self) -> FullBacklog:
        """Return itself, full."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close everything."""
        for filler in self._fillers:
            filler.close()
        self.listener.close()


class SlowBanner:
    """Sends an endless SSH banner byte by byte, when told to or at an interval.

    Each connection gets at most ``limit`` bytes and then silence.
    """

    def __init__(
        self, interval: float | None = None, *, limit: int = 255, address: str = "127.0.0.1"
    ) -> None:
        """Send one byte every ``interval`` seconds; None: only what ``release`` allows."""
        self._interval = interval
        self._text = b"SSH-2.0-".ljust(limit, b"x")
        self.listener = _listen(address, 16)
        self.host = address
        self.port: int = self.listener.getsockname()[1]
        self._allowed = threading.Semaphore(0)
        self._stopping = threading.Event()
        self._sent = threading.Condition()
        self._count = 0
        self._thread = threading.Thread(target=self._serve, name="SlowBanner")

    def release(self, count: int = 1) -> None:
        """Allow ``count`` more bytes (without an interval)."""
        for _ in range(count):
            self._allowed.release()

    def wait_sent(self, count: int, timeout: float = 20.0) -> None:
        """Wait until ``count`` bytes are out in all; raises ``TimeoutError``."""
        with self._sent:
            if not self._sent.wait_for(lambda: self._count >= count, timeout):
                raise TimeoutError(f"{self._count} of {count} bytes sent")

    def __enter__(self) -> SlowBanner:
        """Start serving, one connection after the other."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and close everything."""
        self._stopping.set()
        self._allowed.release()
        # Wakes accept(), which close() alone would not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listener.close()

    def _serve(self) -> None:
        while not self._stopping.is_set():
            try:
                peer = self.listener.accept()[0]
            except OSError:
                return
            with peer:
                self._trickle(peer)

    def _trickle(self, peer: socket.socket) -> None:
        for position in range(len(self._text)):
            if self._interval is None:
                self._allowed.acquire()
            elif self._stopping.wait(self._interval):
                return
            if self._stopping.is_set():
                return
            try:
                peer.sendall(self._text[position : position + 1])
            except OSError:
                return
            with self._sent:
                self._count += 1
                self._sent.notify_all()
        self._stopping.wait()
