"""A scriptable SSH server under the test's control, to drive clients with hostile behaviour.

Tests import everything from here.  A server is one thread that serves one connection
after the other with a script, a function of a `Conn`; the polite script made by
`polite()` is the starting point, and each keyword of it replaces one step:

    with HostileServer(polite(tamper=Tamper(server_public=bytes(32)))) as server:
        ...connect to server.address and expect an error...

    def script(conn: Conn) -> None:
        conn.login()
        channel = conn.accept_channel()
        channel.accept_exec()
        channel.send_data(b"partial output")
        channel.send_close()                      # no status, no EOF
        conn.serve()                              # until the client hangs up

What a script raises is raised again when the `with` block ends, unless it only says
that the client hung up (ConnectionError).  Nothing here uses a clock except as a
deadline, writes a file, or starts a process.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from .hostile_auth import (
    Anything,
    AuthRequest,
    Factor,
    Interactive,
    NoneAuth,
    Password,
    PublicKey,
    Round,
)
from .hostile_channels import (
    Channel,
    ChannelRequest,
    Conn,
    Handler,
    HandlerSteps,
    OpenRequest,
    Refuse,
    Services,
    polite_exec,
)
from .hostile_crypto import CIPHERS, MACS, HostKey, host_key
from .hostile_transport import Options, Tamper, Transport
from .hostile_wire import ClientGone, Fields, Msg, OpenReason, PeerError

__all__ = [
    "Anything",
    "AuthRequest",
    "CIPHERS",
    "Channel",
    "ChannelRequest",
    "ClientGone",
    "Conn",
    "Factor",
    "Fields",
    "Handler",
    "HostKey",
    "HostileServer",
    "Interactive",
    "MACS",
    "Msg",
    "NoneAuth",
    "OpenReason",
    "OpenRequest",
    "Options",
    "Password",
    "PeerError",
    "PublicKey",
    "Refuse",
    "Round",
    "HandlerSteps",
    "Script",
    "Services",
    "Tamper",
    "Transport",
    "host_key",
    "polite",
    "polite_exec",
]

Script = Callable[[Conn], object]


def polite(
    *factors: Factor,
    lines: Sequence[bytes] = (),
    tamper: Tamper | None = None,
    require_all: bool = False,
    banner: bytes | str | None = None,
    after_kex: Script | None = None,
    after_auth: Script | None = None,
    services: Services | None = None,
    execute: Handler | None = None,
    forward: Callable[[str, int], object] | None = None,
) -> Script:
    """A script that does everything right, but for what the keywords replace.

    `factors`, `require_all` and `banner` go to `Conn.authenticate`; `execute` and
    `forward` are short for a `Services` with only these.
    """
    who = services or Services()
    who = Services(
        execute or who.execute, forward or who.forward, who.opened, who.requested, who.answered
    )

    def script(conn: Conn) -> None:
        conn.version_exchange(lines=lines)
        conn.key_exchange(tamper)
        if after_kex is not None:
            after_kex(conn)
        conn.expect_service()
        conn.authenticate(*factors, require_all=require_all, banner=banner)
        if after_auth is not None:
            after_auth(conn)
        conn.serve(who)

    return script


class HostileServer:
    """Listens on 127.0.0.1 while its `with` block runs; also serves `connect()`.

    Attributes:
        host, port, address: where it listens.
        conns: every connection that was served, oldest first; look at them after `wait`.
        errors: what scripts raised, hang-ups of the client excluded.
        grace: seconds that a running script has to notice the client's hang-up when the
            block ends, before its socket is shut down.

    Keyword arguments beyond the named ones are fields of `Options`.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        script: Script | None = None,
        *,
        tolerate: tuple[type[BaseException], ...] = (ConnectionError,),
        grace: float = 1.0,
        **options: Any,
    ) -> None:
        self.options = Options(**options)
        self.script = script or polite()
        self.grace = grace
        self.conns: list[Conn] = []
        self.errors: list[BaseException] = []
        self._tolerate = tolerate
        self._adopted: deque[socket.socket] = deque()
        self._state = threading.Condition()
        self._served = 0
        self._busy = self._stopping = False
        self._thread = threading.Thread(target=self._run, name="hostile-server", daemon=True)

    def __enter__(self) -> HostileServer:
        self._listener = socket.create_server((self.host, 0), backlog=64)
        self._wake_in, self._wake_out = socket.socketpair()
        self.port = int(self._listener.getsockname()[1])
        self.address = (self.host, self.port)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        if not self.errors:
            return
        if error is None:
            raise self.errors[0]
        for one in self.errors:  # the test's own failure wins, but show the likely cause
            traceback.print_exception(type(one), one, one.__traceback__, file=sys.stderr)

    def connect(self) -> socket.socket:
        """A connection without the network: the client's end of a socket pair."""
        ours, theirs = socket.socketpair()
        self._adopted.append(ours)
        self._wake_out.send(b"c")
        return theirs

    def wait(self, count: int = 1, timeout: float = 10.0) -> Conn:
        """Waits until `count` scripts have ended; returns the connection of the last one.

        Raises what that script raised, or TimeoutError.
        """
        with self._state:
            if not self._state.wait_for(lambda: self._served >= count, timeout):
                raise TimeoutError(f"{self._served} of {count} connections ended")
        if self.errors:
            raise self.errors.pop(0)
        return self.conns[count - 1]

    @property
    def known_hosts(self) -> str:
        """Lines for a known_hosts file, one per host key."""
        keys = self.options.host_keys
        return "".join(key.known_hosts_line(self.host, self.port) for key in keys)

    def _stop(self) -> None:
        with self._state:
            self._stopping = True
            self._wake_out.send(b"q")
            self._state.wait_for(lambda: not self._busy, self.grace)
            if self._busy:
                with contextlib.suppress(OSError):  # it may have ended in the meantime
                    self.conns[-1].sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(self.options.timeout + 1)
        if self._thread.is_alive():
            raise RuntimeError("the script of a hostile server does not end")
        for one in (self._listener, self._wake_in, self._wake_out, *self._adopted):
            one.close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._wake_in, select.POLLIN)
        while not self._stopping:
            if self._adopted:
                self._serve(self._adopted.popleft())
                continue
            ready = {fd for fd, _ in poll.poll()}
            if self._wake_in.fileno() in ready:
                self._wake_in.recv(4096)
            elif self._listener.fileno() in ready:
                self._serve(self._listener.accept()[0])

    def _serve(self, sock: socket.socket) -> None:
        conn = Conn(sock, self.options)
        with self._state:
            if self._stopping:
                conn.close()
                return
            self._busy = True
            self.conns.append(conn)
        try:
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.script(conn)
        except self._tolerate:
            pass
        except BaseException as error:
            self.errors.append(error)
        with self._state:
            conn.close()
            self._busy = False
            self._served += 1
            self._state.notify_all()
