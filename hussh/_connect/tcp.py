"""Opens a TCP connection: name resolution within the deadline, and RFC 8305.

`connect.py` calls `dial`; `async_tcp.py` is its twin for tasks, and shares what is said of
addresses. Addresses of both families are tried in turns. Each attempt starts 250 ms after the one
before, or as soon as that failed. So a dead first address costs a quarter of a second and not the
whole time-out. Nothing here knows SSH.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from operator import methodcaller
from time import monotonic
from typing import Any, NamedTuple

from .._native.link import Link
from .._policy.options import Options
from .._policy.owned_fd import close_fds
from .._protocol.core import DeadlineExceeded
from .._protocol.story import HopStory
from .._runtime.poll_timeout import poll_timeout
from .._runtime.polling import Poll, make_poll
from .._runtime.thread_start import NoThread, start_thread
from ..errors import ConnectError, HusshError, Phase
from .owned_sockets import Socket, close_socket, close_sockets, open_socket

__all__ = ["ANYWHERE", "ATTEMPT_DELAY", "CONNECTED", "Address", "Begun", "Origin",
           "SocketStream", "begin", "dial", "interleave", "note_addresses",
           "make_unreachable_error",
           "make_unresolved_error"]  # fmt: skip

ATTEMPT_DELAY = 0.25  # seconds; RFC 8305 section 5

#: Errnos of an attempt that has succeeded.  A reset comes after the connection existed: a
#: server that has too many did that, and the first read reports it.
CONNECTED = (0, errno.ECONNRESET)

Address = tuple[socket.AddressFamily, Any]


class SocketStream:
    """A connected, non-blocking socket as the stream under a root link; it owns the descriptor.

    A socket object of Python's would close it whenever the garbage collector comes to that first,
    while the link still writes to its number. So it owns the descriptor only until a tree does.
    """

    slow = False

    def __init__(self, sock: Socket | None = None) -> None:
        """Take a socket, or the one that will be the last of `opened` once it is connected."""
        self.opened: list[Socket] = [] if sock is None else [sock]
        self._detached: list[int] = []

    @property
    def _fd(self) -> int:
        if self._detached:
            return self._detached[0]
        return self.opened[0].fileno() if self.opened else -1

    def adopt(self) -> None:
        # In one step of C, so that no interrupt comes between `detach` and the list.
        self._detached.extend(map(methodcaller("detach"), self.opened))

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an interrupt may come before any of this
            close_sockets(self.opened)  # if no tree has it

    def fds(self) -> tuple[int, int]:
        fd = self._fd
        return fd, fd

    def side_fds(self) -> tuple[int, ...]:
        return ()

    def read_side(self) -> None:
        return

    def program_text(self) -> str:
        return ""

    def explain(self, error: HusshError, *, before_banner: bool, heard: bool) -> HusshError:
        return error

    def abandon(self) -> None:
        self.close()

    def shutdown(self) -> None:
        fd = self._fd
        if fd < 0:
            return
        # Not by a socket object, with which an interrupt would close the number that we own.
        Link.end_socket(fd)

    def close(self) -> None:
        close_sockets(self.opened)  # which does nothing once it is detached
        close_fds(self._detached)


class Origin(NamedTuple):
    """Where a connection begins: its family, 0 for any, and the local address, None for any."""

    family: int = 0
    address: str | None = None

    @classmethod
    def of(cls, options: Options) -> Origin:
        """Return what ``family=`` and ``bind_address=`` say."""
        family, address = options.settings["family"], options.settings["bind_address"]
        if address is not None:  # its own family is the only one that can be used
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return cls(FAMILIES[family] if isinstance(family, str) else family, address)

    def filter_usable(self, host: str, addresses: list[Address]) -> list[Address]:
        """Return the addresses of this family.

        Raises:
            ConnectError: there is none.
        """
        if not self.family:
            return addresses
        kept = [address for address in addresses if address[0] == self.family]
        if not kept:
            name = "IPv6" if self.family == socket.AF_INET6 else "IPv4"
            raise ConnectError(
                f"cannot connect to {host}: it has no {name} address, which family= or "
                "bind_address= asks for"
            )
        return kept


#: The words of ssh_config's AddressFamily.
FAMILIES = {"any": 0, "inet": int(socket.AF_INET), "inet6": int(socket.AF_INET6)}
ANYWHERE = Origin()


def dial(
    host: str,
    port: int,
    deadline: float | None,
    story: HopStory | None = None,
    origin: Origin = ANYWHERE,
) -> SocketStream:
    """Connect to a host.

    Args:
        host: a name or an address.
        port: the TCP port.
        deadline: a `time.monotonic()` value; None means the operating system's own limits.
        story: gets the addresses.
        origin: where the connection begins.

    Raises:
        ConnectError: with the reason of every address that was tried; its phase is "dns" if the
            name did not resolve.
        DeadlineExceeded: the time was over first.
    """
    if story is not None:
        story.begin(Phase.DNS)
    addresses = origin.filter_usable(host, _resolve(host, port, deadline))
    if story is not None:
        note_addresses(story, addresses)
    stream = SocketStream()  # it owns each socket from its first moment on
    try:
        _connect(stream.opened, addresses, host, port, deadline, story, origin)
        return stream
    except BaseException:
        stream.close()
        raise


def _resolve(host: str, port: int, deadline: float | None) -> list[Address]:
    """Return the addresses of a host, families alternating, in the resolver's order."""
    found: list[Any] = []

    def ask() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            found.append(error)

    try:
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        # A resolver knows no deadline, so a thread calls it that may outlive this one.
        thread = threading.Thread(target=ask, name="hussh-resolve", daemon=True)
        try:
            start_thread(thread)
        except NoThread as error:
            raise make_unresolved_error(host, error) from error
        while thread.is_alive():
            if deadline is not None and monotonic() >= deadline:
                raise DeadlineExceeded(Phase.DNS) from None
            thread.join(poll_timeout(deadline))
    else:
        ask()
    if isinstance(found[0], Exception):
        raise make_unresolved_error(host, found[0])
    return interleave(found[0])


def note_addresses(story: HopStory, addresses: Iterable[Address]) -> None:
    """Note in a story what a name resolved to, and that connecting begins."""
    story.note_addresses([str(place[0]) for _, place in addresses])
    story.begin(Phase.CONNECT)


def make_unresolved_error(host: str, error: Exception) -> ConnectError:
    """Return the error for a name that did not resolve, with its cause."""
    failure = ConnectError(f"cannot resolve {host}: {error}", phase=Phase.DNS)
    failure.__cause__ = error
    return failure


def make_unreachable_error(host: str, port: int, failures: Sequence[str]) -> ConnectError:
    """Return the error for a host none of whose addresses took the connection."""
    return ConnectError(f"cannot connect to {host} port {port}: {'; '.join(failures)}")


def interleave(found: Iterable[Any]) -> list[Address]:
    """Return what `getaddrinfo` found, families alternating (RFC 8305 section 4)."""
    by_family: dict[socket.AddressFamily, list[Address]] = {}
    for family, _, _, _, place in found:
        by_family.setdefault(family, []).append((family, place))
    turns = chain.from_iterable(zip_longest(*by_family.values()))
    return [address for address in turns if address is not None]


def _connect(
    opened: list[Socket],
    addresses: list[Address],
    host: str,
    port: int,
    deadline: float | None,
    story: HopStory | None,
    origin: Origin,
) -> None:
    """Connect to one of the addresses; only its socket is left open, in `opened`."""
    pending: dict[int, tuple[Socket, Address]] = {}
    failures: list[str] = []
    queue = list(addresses)
    poll = make_poll()
    next_start = monotonic()

    def settle(fd: int, code: int) -> bool:
        sock, (_, place) = pending.pop(fd)
        poll.unregister(fd)
        if code in CONNECTED:
            if story is not None:
                story.note_answer(place[0], failures, port)
            _keep_only(sock, opened)
            return True
        close_socket(sock, opened)
        failures.append(f"{place[0]}: {os.strerror(code)}")
        return False

    while queue or pending:
        now = monotonic()
        if deadline is not None and now >= deadline:
            raise DeadlineExceeded
        if queue and (now >= next_start or not pending):
            address = queue.pop(0)
            next_start = now + ATTEMPT_DELAY
            _start(address, opened, pending, poll, failures, origin)
            continue
        ends = [end for end in (deadline, next_start if queue else None) if end is not None]
        for fd, _ in poll.poll(poll_timeout(min(ends) if ends else None) * 1000):
            code = pending[fd][0].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if settle(fd, code):
                return
            next_start = now  # the next attempt need not wait for a failed one
    if story is not None:
        story.note_no_answer(failures)
    raise make_unreachable_error(host, port, failures)


def _keep_only(winner: Socket, opened: list[Socket]) -> None:
    for sock in opened[:]:
        if sock is not winner:
            close_socket(sock, opened)


def _start(
    address: Address,
    opened: list[Socket],
    pending: dict[int, tuple[Socket, Address]],
    poll: Poll,
    failures: list[str],
    origin: Origin,
) -> None:
    begun = begin(address, opened, failures, origin)
    if begun is not None:
        # A connection that is there at once polls as writable, like any other.
        pending[begun.sock.fileno()] = (begun.sock, address)
        poll.register(begun.sock.fileno(), select.POLLOUT)


class Begun(NamedTuple):
    """A socket that is connecting; `there` says that it is connected already, as on loopback."""

    sock: Socket
    there: bool


def begin(
    address: Address, opened: list[Socket], failures: list[str], origin: Origin = ANYWHERE
) -> Begun | None:
    """Start to connect; return None if it failed, and add the reason.

    The socket is one of `opened` as long as it is open.
    """
    family, place = address
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    try:
        sock = open_socket(opened, family, kind)
    except OSError as error:
        failures.append(f"{place[0]}: {error.strerror}")
        return None
    if origin.address is not None:
        try:
            sock.bind((origin.address, 0))
        except OSError as error:
            close_socket(sock, opened)
            failures.append(f"{place[0]}: cannot begin at {origin.address}: {error.strerror}")
            return None
    code = sock.connect_ex(place)
    if code in CONNECTED:
        return Begun(sock, True)
    if code == errno.EINPROGRESS:
        # Linux says so even where it is done, as on loopback.  A second connect() would know,
        # too, but after a reset it throws away what the server has said before that.
        return Begun(sock, _has_peer(sock))
    close_socket(sock, opened)
    failures.append(f"{place[0]}: {os.strerror(code)}")
    return None


def _has_peer(sock: Socket) -> bool:
    try:
        sock.getpeername()
    except OSError:  # not yet, never, or not any more: polling tells which
        return False
    return True
