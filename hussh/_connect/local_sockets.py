"""The sockets of this machine at which tunnels begin and end: listening, and connecting.

`forwarding` uses it. `listen_on` and `connect_to` may block, and belong in a worker. Nothing here
knows SSH.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading

from .._policy.forwarding import Address
from .._runtime.lock import unless_exiting
from ..errors import ForwardRefused
from .owned_sockets import Socket

__all__ = ["Listener", "connect_to", "get_origin", "listen_on", "prepare", "reset"]

#: Connections that the kernel holds until they are accepted.
BACKLOG = 512
#: Seconds for a connection to where a remote forward leads.
CONNECT_SECONDS = 30.0
_NO_LINGER = struct.pack("ii", 1, 0)
EVERYWHERE = ("", "*")


class Listener:
    """A listening, non-blocking socket.

    Attributes:
        sock: the socket.
        address: where it listens, with the port that the system chose.
        is_owned: whether a forward has it, which unlinks it; nobody else would.
    """

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.sock = sock
        self.address = address
        self._file = _get_identity(address.path) if address.path is not None else None
        self._pid = os.getpid()
        self.is_owned = False
        # Held from the look at the file to its end: the next file may get the same inode.
        self._lock = threading.RLock()

    def close(self) -> None:
        """Stop listening; the file of a Unix socket stays if a forward has it."""
        self.sock.close()
        if not self.is_owned:  # this is the worker whose call was abandoned
            self.unlink()

    def unlink(self) -> None:
        """Remove the file of a Unix socket, if it is still ours; touches the file system.

        In a forked child it does nothing: the parent still listens there.
        """
        if os.getpid() != self._pid:
            return
        with unless_exiting(self._lock):  # on return it is gone, also if another thread removes it
            path, file = self.address.path, self._file
            if path is not None and file is not None and _get_identity(path) == file:
                with contextlib.suppress(OSError):
                    os.unlink(path)
            self._file = None


def _get_identity(path: str) -> tuple[int, int] | None:
    """Return what tells one socket from another; None for anything else, such as a user's file."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISSOCK(found.st_mode) else None


def listen_on(address: Address) -> Listener:
    """Listen there; a Unix socket is its owner's alone (mode 0600).

    Raises:
        ForwardRefused: it cannot, such as where the address is in use; its `errno` says why.
    """
    try:
        if address.path is not None:
            return _listen_unix(address.path)
        return _listen_tcp(address)
    except OSError as error:
        raise ForwardRefused(
            f"cannot listen on {address}: {error.strerror or error}", errno=error.errno
        ) from error


def _listen_unix(path: str) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(sock.fileno(), 0o600)  # of the file, too, from its first moment on
        sock.bind(path)
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Listener(sock, Address(path=path))
    except BaseException:
        sock.close()
        raise


def _listen_tcp(address: Address) -> Listener:
    if address.host in EVERYWHERE:
        found = [(socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")]  # noqa: S104  (asked for)
    elif address.host == "localhost":
        found = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    else:
        infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        found = [(info[0], str(info[4][0])) for info in infos]
    for number, (family, host) in enumerate(found):
        try:
            return _listen_at(family, host, address)
        except OSError:
            if number + 1 == len(found):
                raise
    raise OSError(f"no address of {address.host}")


def _listen_at(family: socket.AddressFamily, host: str, address: Address) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            only = address.host not in EVERYWHERE
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind((host, address.port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
        return Listener(sock, Address(host, sock.getsockname()[1]))
    except BaseException:
        sock.close()
        raise


def connect_to(address: Address) -> socket.socket:
    """Return a connected, non-blocking socket.

    Raises:
        OSError: it cannot connect.
    """
    if address.path is None:
        sock = socket.create_connection((address.host, address.port), CONNECT_SECONDS)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
    prepare(sock)
    return sock


def prepare(sock: Socket) -> None:
    """Make a connected socket one that the pump can serve."""
    sock.setblocking(False)
    if sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # the other side may have gone
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def get_origin(sock: Socket) -> tuple[str, int]:
    """Return where a connection comes from; a Unix socket's is nowhere."""
    peer: object = None
    with contextlib.suppress(OSError):  # it has gone again
        peer = sock.getpeername()
    return peer[:2] if isinstance(peer, tuple) else ("127.0.0.1", 0)


def reset(sock: Socket) -> None:
    """Close a socket so that its peer takes it for a failure, and not for the end of the data."""
    with contextlib.suppress(OSError):
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    sock.close()
