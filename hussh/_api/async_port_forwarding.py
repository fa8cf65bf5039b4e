"""The methods of `AsyncConnection` for tunnels and forwarded ports, as in `port_forwarding.py`.

`async_connection.py` inherits from it. It checks arguments; `_connect/forwarding.py` has the
sockets and `_protocol/tunnel.py` the messages, nothing here has either.
"""

from __future__ import annotations

from .._connect.forwarding import (
    Forwarding,
    LocalForwarding,
    RemoteForwarding,
    SocksForwarding,
)
from .._policy.connection_options import Seconds
from .._policy.forwarding import Address, Listen, check_listen, check_target
from .._policy.sftp import AnyPath
from .._protocol.tunnel import open_tunnel
from ..errors import Phase
from .arguments import check_number
from .async_forward import AsyncForward
from .async_session_owner import AsyncSessionOwner
from .async_tunnel import AsyncTunnel
from .documented import details_of
from .port_forwarding import PortForwarding

__all__ = ["AsyncPortForwarding"]


class AsyncPortForwarding(AsyncSessionOwner):
    """The methods of tunnels and forwards, which `AsyncConnection` inherits."""

    @details_of(PortForwarding.open_connection)
    async def open_connection(
        self, host: str, port: int, *, timeout: Seconds | None = None
    ) -> AsyncTunnel:
        """Open a byte stream to a TCP port, from the server, which resolves the name."""
        return await self._open_tunnel(check_target((host, port)), timeout)

    @details_of(PortForwarding.open_unix_connection)
    async def open_unix_connection(
        self, path: AnyPath, *, timeout: Seconds | None = None
    ) -> AsyncTunnel:
        """Open a byte stream to a Unix socket of the server; see `open_connection`."""
        return await self._open_tunnel(check_target(path), timeout)

    async def _open_tunnel(self, to: Address, timeout: Seconds | None) -> AsyncTunnel:
        session = self._get_session()
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        op = open_tunnel(session.link, to, session.hop)
        channel = await session.call(op, seconds or None, Phase.CHANNEL)
        return AsyncTunnel(self, session, channel, to, self._timeout)

    @details_of(PortForwarding.forward_local)
    def forward_local(self, listen: Listen, to: tuple[str, int] | AnyPath) -> AsyncForward:
        """Listen on this machine, and carry each connection to where the server reaches."""
        session = self._get_session()
        return self._forward(LocalForwarding(session, check_listen(listen), check_target(to)))

    @details_of(PortForwarding.forward_remote)
    def forward_remote(self, listen: Listen, to: tuple[str, int] | AnyPath) -> AsyncForward:
        """Let the server listen, and carry each connection to where this machine reaches."""
        session = self._get_session()
        return self._forward(RemoteForwarding(session, check_listen(listen), check_target(to)))

    @details_of(PortForwarding.forward_socks)
    def forward_socks(self, listen: Listen = 0) -> AsyncForward:
        """Listen on this machine as a SOCKS proxy (4, 4a and 5) that connects from the server."""
        session = self._get_session()
        return self._forward(SocksForwarding(session, check_listen(listen), None))

    def _forward(self, forwarding: Forwarding) -> AsyncForward:
        return AsyncForward(self, self._get_session(), forwarding, self._timeout)
