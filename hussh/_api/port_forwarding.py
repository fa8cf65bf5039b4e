"""The methods of `Connection` for tunnels and forwarded ports (RFC 4254 section 7).

`connection.py` inherits from it. It checks arguments; `_connect/forwarding.py` has the sockets and
`_protocol/tunnel.py` the messages, nothing here has either.
"""

from __future__ import annotations

from .._connect.forwarding import (
    Forwarding,
    LocalForwarding,
    RemoteForwarding,
    SocksForwarding,
)
from .._policy.connection_options import Milliseconds
from .._policy.forwarding import Address, Listen, check_listen, check_target
from .._policy.sftp import AnyPath
from .._protocol.tunnel import open_tunnel
from ..errors import Phase
from .arguments import to_milliseconds
from .forward import Forward
from .session_owner import SessionOwner
from .tunnel import Tunnel

__all__ = ["PortForwarding"]


class PortForwarding(SessionOwner):
    """The methods of tunnels and forwards, which `Connection` inherits."""

    def open_connection(
        self, host: str, port: int, *, timeout: Milliseconds | None = None
    ) -> Tunnel:
        """Open a byte stream to a TCP port, from the server, which resolves the name.

        Args:
            timeout: **milliseconds** for the server to connect; None means the connection's
                limit, 0 no limit.

        Returns:
            A `Tunnel`, which has the methods of a socket.

        Raises:
            TunnelRefused: the server does not permit it, or cannot reach the port; see its
                `reason_code`. It is a ConnectionRefusedError.
            ConnectionLost, ConnectionClosed: the SSH connection ended.
        """
        return self._open_tunnel(check_target((host, port)), timeout)

    def open_unix_connection(self, path: AnyPath, *, timeout: Milliseconds | None = None) -> Tunnel:
        """Open a byte stream to a Unix socket of the server; see `open_connection`."""
        return self._open_tunnel(check_target(path), timeout)

    def _open_tunnel(self, to: Address, timeout: Milliseconds | None) -> Tunnel:
        session = self._get_session()
        milliseconds = self._timeout if timeout is None else to_milliseconds(timeout)
        op = open_tunnel(session.link, to, session.hop)
        channel = session.call(op, milliseconds / 1000 or None, Phase.CHANNEL)
        return Tunnel(self, session, channel, to, self._seconds)

    def forward_local(self, listen: Listen, to: tuple[str, int] | AnyPath) -> Forward:
        """Listen on this machine, and carry each connection to where the server reaches.

        Args:
            listen: a port of the loopback (0: any), ``(host, port)``, or the path of a Unix
                socket, which only this user may connect to.
            to: ``(host, port)``, whose name the server resolves, or the path of a Unix socket
                of the server.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the address is in use, or may not be used.
        """
        session = self._get_session()
        return self._forward(LocalForwarding(session, check_listen(listen), check_target(to)))

    def forward_remote(self, listen: Listen, to: tuple[str, int] | AnyPath) -> Forward:
        """Let the server listen, and carry each connection to where this machine reaches.

        Args:
            listen: a port of the server's loopback (0: any), ``(host, port)`` (``""``: all its
                addresses, where it permits that), or the path of a Unix socket there.
            to: ``(host, port)``, whose name this machine resolves, or the path of a Unix
                socket of this machine.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the server does not listen there.
        """
        session = self._get_session()
        return self._forward(RemoteForwarding(session, check_listen(listen), check_target(to)))

    def forward_socks(self, listen: Listen = 0) -> Forward:
        """Listen on this machine as a SOCKS proxy (4, 4a and 5) that connects from the server.

        There is no authentication.  The server resolves names.

        Args:
            listen: as of `forward_local`.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the address is in use, or may not be used.
        """
        session = self._get_session()
        return self._forward(SocksForwarding(session, check_listen(listen), None))

    def _forward(self, forwarding: Forwarding) -> Forward:
        session = self._get_session()
        session.call(forwarding.begin(), self._seconds, Phase.CHANNEL)
        return Forward(self, session, forwarding)
