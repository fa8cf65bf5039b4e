"""Opens and closes sockets so that no interrupt comes between that and their owner's knowing.

`tcp`, `agent_socket` and `forwarding` use it, because Ctrl-C may strike in their threads. A socket
that nobody has is closed by Python's garbage collector only, with a ResourceWarning. So a list has
the open ones, and each step between the list and the kernel is one step of C: `owned_fd` says more.
Nothing here waits.
"""

from __future__ import annotations

import socket
from collections import deque
from functools import partial
from itertools import starmap
from operator import itemgetter, methodcaller

__all__ = ["Socket", "accept_socket", "close_socket", "close_sockets", "open_socket"]

#: A socket of C. Those of `socket.socket` are made in steps of Python, with gaps for an interrupt.
Socket = socket.SocketType
# Of C, too; a socket that a user has made has methods of Python.
_close = methodcaller("close")


def open_socket(opened: list[Socket], family: int, kind: int) -> Socket:
    """Make a socket, and add it to the list in the same step of C.

    Raises:
        OSError: as `socket.socket`.
    """
    opened.extend(starmap(Socket, [(family, kind)]))
    return opened[-1]


def accept_socket(opened: list[Socket], listener: socket.socket) -> Socket:
    """Accept a connection, and add its socket to the list in the same step of C.

    Raises:
        OSError: as `socket.socket.accept`.
    """
    make = partial(Socket, listener.family, listener.type, listener.proto)
    opened.extend(map(make, map(itemgetter(0), map(methodcaller("_accept"), [listener]))))
    return opened[-1]


def close_sockets(opened: list[Socket]) -> None:
    """Close all of them, in one step of C; a second call goes on after an interrupt."""
    deque(map(_close, opened), maxlen=0)
    opened.clear()


def close_socket(sock: Socket, opened: list[Socket]) -> None:
    """Close a socket, which is one of `opened`."""
    sock.close()
    opened.remove(sock)
