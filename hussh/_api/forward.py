"""`Forward`: a listening address, here or at the server, and the tunnels behind it.

`port_forwarding.py` makes one, and `async_forward.py` shares the attributes.
`_connect/forwarding.py` does the work; nothing here touches a socket.
"""

from __future__ import annotations

import contextlib
from typing import Any

from .._connect.connect import Session
from .._connect.forwarding import Forwarding
from .._policy.forwarding import Address
from ..errors import HusshError
from .closing import Closing

__all__ = ["Forward", "ForwardView"]


class ForwardView:
    """The attributes of a forward, for both APIs."""

    _forwarding: Forwarding

    @property
    def address(self) -> Any:
        """The address on which the forward listens.

        It is ``(host, port)`` with the port that was chosen, or a path.
        """
        return _show(self._forwarding.address)

    @property
    def port(self) -> int:
        """The port that it listens on; 0 for a Unix socket."""
        return self._forwarding.address.port

    @property
    def connections(self) -> int:
        """Number of connections that it carries now."""
        return self._forwarding.connections

    @property
    def errors(self) -> tuple[Exception, ...]:
        """Why connections could not be carried, the last hundred, the newest last.

        A forward whose SSH connection was lost has a `ConnectionLost` here, and is closed.
        """
        return tuple(self._forwarding.errors)

    @property
    def closed(self) -> bool:
        """Whether it has ended, by `close` or with its connection."""
        return self._forwarding.closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.connections} connections"
        return f"<{type(self).__name__} of {self._forwarding.address}, {state}>"


class Forward(ForwardView, Closing):
    """A forward; `forward_local`, `forward_remote` and `forward_socks` of a `Connection` make it.

    It works from the start, whatever your program does meanwhile. Leaving its ``with`` block closes
    it.
    """

    def __init__(self, connection: object, session: Session, forwarding: Forwarding) -> None:
        self._connection = connection  # lives as long as this
        self._session = session
        self._forwarding = forwarding

    def close(self) -> None:
        """Stop listening, and end the connections; waits for nothing, and may be repeated."""
        with contextlib.suppress(HusshError):
            self._session.call_at_once(self._forwarding.close)
        self._forwarding.unlink()

    def __del__(self) -> None:
        forwarding: Any = getattr(self, "_forwarding", None)
        if forwarding is not None and not forwarding.closed:
            with contextlib.suppress(Exception):  # a finalizer has nobody to tell
                self._session.driver.root.deferred_frees.add(type(forwarding).close, forwarding)
                forwarding.unlink()


def _show(address: Address) -> Any:
    return (address.host, address.port) if address.path is None else address.path
