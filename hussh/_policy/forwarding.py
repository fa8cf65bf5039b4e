"""Where a tunnel begins and where it leads: the meaning of the arguments `listen` and `to`.

`_api` and `_connect.forwarding` import it. It decides only: it resolves no name and opens nothing.
"""

from __future__ import annotations

import operator
import os
from typing import Any, NamedTuple

from .route import check_host, check_port

__all__ = ["Address", "Listen", "check_listen", "check_path", "check_target", "is_same_host"]

#: What servers may say for each other where one of them was asked for (RFC 4254 section 7.1).
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY = frozenset({"", "*", "0.0.0.0", "::"})  # noqa: S104  (compared, not bound)


class Address(NamedTuple):
    """A TCP port of a host, or a Unix socket.

    Attributes:
        host, port: of TCP; the name is resolved where the connection is made.
        path: of the socket; None for TCP.
    """

    host: str = ""
    port: int = 0
    path: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


Listen = int | tuple[str, int] | str | os.PathLike[str]


def check_listen(listen: Any) -> Address:
    """Return where to listen: a port of loopback (0: any free one), ``(host, port)``, or a path.

    Raises:
        TypeError, ValueError: it is neither, or there can be no such address.
    """
    if isinstance(listen, bool):
        raise TypeError("listen must be a port, a (host, port) tuple or a path, not a bool")
    if isinstance(listen, str | os.PathLike):
        return Address(path=check_path(listen))
    if isinstance(listen, tuple | list) and len(listen) == 2:
        host, port = listen
        name = host if host in _ANY else check_host(host)
        return Address(name, _listen_port(port))
    try:
        return Address("localhost", _listen_port(operator.index(listen)))
    except TypeError:
        kind = type(listen).__name__
        raise TypeError(
            f"listen must be a port, a (host, port) tuple or a path, not {kind}"
        ) from None


def _listen_port(port: Any) -> int:
    if not isinstance(port, bool) and port in (0, "0"):
        return 0
    return check_port(port)


def check_target(to: Any) -> Address:
    """Return where a tunnel leads: ``(host, port)``, or the path of a Unix socket.

    Raises:
        TypeError, ValueError: see `check_listen`.
    """
    if isinstance(to, str | os.PathLike):
        return Address(path=check_path(to))
    if isinstance(to, tuple | list) and len(to) == 2:
        return Address(check_host(to[0]), check_port(to[1]))
    raise TypeError(f"to must be a (host, port) tuple or a path, not {type(to).__name__}")


def check_path(path: Any) -> str:
    """Return the path of a Unix socket as text; ValueError if it is empty or contains a NUL."""
    text = os.fsdecode(path)
    if not text or "\0" in text:
        raise ValueError("the path of a Unix socket must not be empty, nor contain a NUL")
    return text


def is_same_host(asked: str, named: str) -> bool:
    """Tell whether a server means the address that it was asked to listen on."""
    return asked == named or any({asked, named} <= names for names in (_LOOPBACK, _ANY))
