"""Forwards: what listens on one side, and the tunnels of the connections that come there.

`port_forwarding.py` and `forward.py` of `_api` use it, and so do their async twins. Everything
happens in operations that the tree's driver runs in the background (`Driver.start`): one for the
listener, one for each connection, one that sees the end of the link. Once a connection's channel is
open, its bytes move in C (`csrc/endpoint.c`) and its operation sleeps until that is over.

All of it runs with the tree's lock held, so nothing here blocks: a call that may block is yielded.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from time import sleep
from typing import Any

from .._native.channel import Channel
from .._native.link import Link
from .._native.local_end import LocalEnd
from .._policy.forwarding import Address
from .._protocol.core import Op, RunBlocking, WaitFor
from .._protocol.socks import SocksRequest
from .._protocol.tunnel import (
    CONNECT_FAILED,
    PROHIBITED,
    SHORTAGE,
    Offer,
    accept_offer,
    ask_to_forward,
    cancel_forward,
    open_tunnel,
    refuse_offer,
)
from .._runtime.background import Task
from .._runtime.workers import Call, run_in_worker
from ..errors import ChannelRefused, ConnectionLost, ForwardRefused, HusshError, Phase
from .hop import Hop
from .incoming import Incoming
from .local_sockets import Listener, connect_to, get_origin, listen_on, prepare, reset
from .owned_sockets import Socket, accept_socket
from .tcp import SocketStream

__all__ = ["Forwarding", "LocalForwarding", "RemoteForwarding", "SocksForwarding"]

_log = logging.getLogger("hussh.tunnels")

#: Failures that a forward remembers.
ERRORS_KEPT = 100
#: Connections of a remote forward that are made at once: each takes a thread for up to 30 s.
CONNECTING = 32
#: Those that wait for their turn; a server could open any number.
WAITING = 1000
#: What a lack of descriptors or memory says: the connection stays where it is until there are some.
_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
#: Seconds until it is looked again whether there are some.
SHORTAGE_PAUSE = 0.2


class Forwarding:
    """One forward, from when it is asked for to its end.

    Attributes:
        address: where connections are taken; once it has begun, with the port chosen.
        to: the target of the connections; None if each names its own (SOCKS).
        errors: why connections failed, the last ones; and why the forward ended, if it was
            lost.
        connections: how many there are now.
        closed: whether it has ended.
    """

    def __init__(self, hop: Hop[Any], address: Address, to: Address | None) -> None:
        self.address = address
        self.to = to
        self.errors: deque[Exception] = deque(maxlen=ERRORS_KEPT)
        self.connections: int = 0
        self.closed: bool = False
        self.link: Link = hop.link
        self._hop = hop.hop
        self._index = hop.endpoint.index
        self._driver = hop.driver
        self._tasks: set[Task] = set()

    def begin(self) -> Op[None]:
        """Listen, from now on; raises ForwardRefused."""
        raise NotImplementedError

    def close(self) -> None:
        """End it and its connections (with the tree's lock held); waits for nothing."""
        if self.closed:
            return
        self.closed = True
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            self._driver.cancel(task)

    def unlink(self) -> None:
        """Remove what it has made in the file system."""

    def _start(self, op: Op[None], never_ran: Callable[[], object]) -> None:
        """Start an operation; `never_ran` undoes what was done for it if it is never stepped."""
        self._tasks = {task for task in self._tasks if not task.is_over}
        self._tasks.add(self._driver.start(op, never_ran))

    def _watch_link(self) -> None:
        self._start(self._wait_lost(), self._end_all)

    def _log_failure(self, error: Exception) -> None:
        if isinstance(error, HusshError):
            error.at(self._hop, self._index, Phase.CHANNEL)
        self.errors.append(error)
        _log.info("%s: %s", self.address, error)

    def _wait_lost(self) -> Op[None]:
        """Wait for the link's end; runs as long as the forward."""
        goes_on = False
        try:
            while not self.link.dead:
                yield WaitFor(self.link)
            if not self.closed:
                lost = ConnectionLost(f"the forward of {self.address} ended with its connection")
                lost.__cause__ = self.link.get_death()
                self._log_failure(lost)
        except KeyboardInterrupt:
            goes_on = True  # the program decides what ends
            raise
        finally:
            if goes_on:
                self._watch_link()
            else:
                self._end_all()

    def _end_all(self) -> None:
        self.close()
        self._note_lost()

    def _note_lost(self) -> None:
        """Note that it has ended, maybe in an event loop."""

    # -- one connection

    def _join(self, sock: Socket, endpoint: LocalEnd, channel: Channel) -> Op[None]:
        """Let bytes move until both sides have had enough, or one of them fails."""
        endpoint.join(channel)
        while not (info := endpoint.get_info()).over:
            yield WaitFor(endpoint)
        if info.error:
            reset(sock)

    def _end(self, sock: Socket | None, endpoint: LocalEnd | None, channel: Channel | None) -> None:
        if endpoint is not None:
            endpoint.free()
        if channel is not None:
            channel.free()
        if sock is not None:
            if self.link.dead:
                reset(sock)
            else:
                sock.close()
        self.connections -= 1


class LocalForwarding(Forwarding):
    """Connections to a socket of this machine, carried to what the server reaches."""

    _listener: Listener | None = None
    _is_short = False

    def begin(self) -> Op[None]:
        # In a worker: an interrupt could come between the socket and its owner.
        listener = yield RunBlocking(lambda _: run_in_worker(partial(listen_on, self.address)))
        listener.is_owned = True
        try:
            endpoint = self._driver.watch(listener.sock.fileno())
        except BaseException as error:
            listener.close()
            listener.unlink()
            if isinstance(error, OSError):  # no descriptor for an epoll
                text = f"cannot listen on {self.address}: {error.strerror or error}"
                raise ForwardRefused(text, errno=error.errno) from error
            raise
        self._listener = listener
        self.address = listener.address
        self._accept_from(listener, endpoint)
        self._watch_link()

    def unlink(self) -> None:
        if self._listener is not None:
            self._listener.unlink()

    def _note_lost(self) -> None:
        if self.address.path is not None and not self.link.deferred_frees.abandoned:
            Call(self.unlink).start()

    def _accept_from(self, listener: Listener, endpoint: LocalEnd) -> None:
        def never_ran() -> None:
            endpoint.free()
            listener.close()

        self._start(self._accept(listener, endpoint), never_ran)

    def _accept(self, listener: Listener, endpoint: LocalEnd) -> Op[None]:
        goes_on = False
        try:
            while True:
                while self._accept_one(listener):
                    pass
                if self._is_short:  # nothing tells when another part of the program has closed one
                    yield RunBlocking(lambda _: sleep(SHORTAGE_PAUSE))
                else:
                    yield WaitFor(endpoint)
        except KeyboardInterrupt:
            goes_on = True  # the program decides what ends
            raise
        finally:
            if goes_on:
                self._accept_from(listener, endpoint)
            else:
                endpoint.free()
                listener.close()

    def _accept_one(self, listener: Listener) -> bool:
        """Take one connection; False: there is none, or no descriptor for one."""
        stream = SocketStream()  # until the operation that carries it has it
        try:
            sock = accept_socket(stream.opened, listener.sock)
        except BlockingIOError:
            self._is_short = False
            return False
        except OSError as error:
            if error.errno not in _SHORTAGES:
                return True  # it has gone again
            if not self._is_short:
                self._log_failure(error)
            self._is_short = True
            return False
        self._is_short = False
        self.connections += 1
        self._start(self._carry(sock, get_origin(sock)), partial(self._end, sock, None, None))
        stream.opened.clear()
        return True

    def _carry(self, sock: Socket, origin: tuple[str, int]) -> Op[None]:
        endpoint = channel = None
        try:
            prepare(sock)
            assert self.to is not None  # noqa: S101  (only SOCKS has none)
            channel = yield from open_tunnel(self.link, self.to, self._hop, origin)
            endpoint = self._driver.watch(sock.fileno())
            yield from self._join(sock, endpoint, channel)
        except (HusshError, OSError) as error:
            if not self.link.dead:
                self._log_failure(error)
            reset(sock)
        finally:
            self._end(sock, endpoint, channel)


class SocksForwarding(LocalForwarding):
    """A SOCKS proxy: each connection names its target."""

    def _carry(self, sock: Socket, origin: tuple[str, int]) -> Op[None]:
        endpoint = channel = None
        try:
            prepare(sock)
            endpoint = self._driver.watch(sock.fileno())
            request = yield from self._read(sock, endpoint)
            if request.target is None:
                return
            try:
                channel = yield from open_tunnel(self.link, request.target, self._hop, origin)
            except ChannelRefused as refused:
                self._log_failure(refused)  # first: who gets the reply may look at once
                sock.send(request.make_failed(refused.reason_code))
                return
            sock.send(request.make_granted())
            if request.rest:
                channel.write(request.rest)
            yield from self._join(sock, endpoint, channel)
        except (HusshError, OSError) as error:
            if not self.link.dead:
                self._log_failure(error)
            if channel is not None or self.link.dead:
                reset(sock)
        finally:
            self._end(sock, endpoint, channel)

    def _read(self, sock: Socket, endpoint: LocalEnd) -> Op[SocksRequest]:
        request = SocksRequest()
        while not request.is_over:
            try:
                data = sock.recv(1024)
            except BlockingIOError:
                yield WaitFor(endpoint)
                continue
            if not data:
                break
            answer = request.feed(data)
            if answer:
                sock.send(answer)
        if request.is_over and request.target is None:
            self._log_failure(
                ForwardRefused("a SOCKS client asked for what this proxy does not do")
            )
        return request


class RemoteForwarding(Forwarding):
    """Connections to a socket of the server, carried to what this machine reaches."""

    def __init__(self, hop: Hop[Any], address: Address, to: Address | None) -> None:
        super().__init__(hop, address, to)
        if hop.incoming is None:
            hop.incoming = Incoming(hop.link, hop.driver.start)
        self._incoming: Incoming = hop.incoming
        self._connecting = 0
        self._waiting: deque[Offer] = deque()

    def begin(self) -> Op[None]:
        incoming = self._incoming
        incoming.ask()
        try:
            self.address = yield from ask_to_forward(
                self.link, self.address, self._hop, incoming.unclaimed
            )
            incoming.forwards.append(self)
        finally:
            incoming.note_answer()
        self._watch_link()

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        is_usable = not self.link.deferred_frees.abandoned and not self.link.dead
        waiting, self._waiting = self._waiting, deque()
        self.connections -= len(waiting)
        if is_usable:
            for offer in waiting:
                refuse_offer(self.link, offer, PROHIBITED)
        incoming = self._incoming
        if self in incoming.forwards:
            incoming.forwards.remove(self)
            if is_usable:
                cancel_forward(self.link, self.address)

    def carry(self, offer: Offer) -> None:
        """Take a connection that came to the server."""
        if len(self._waiting) >= WAITING:
            self._log_failure(
                ForwardRefused(f"more than {WAITING} connections to {self.address} at once")
            )
            refuse_offer(self.link, offer, SHORTAGE)
            return
        self.connections += 1
        self._waiting.append(offer)
        self._start_waiting()

    def _start_waiting(self) -> None:
        while self._waiting and self._connecting < CONNECTING and not self.closed:
            self._connecting += 1
            offer = self._waiting.popleft()
            self._start(self._carry(offer), partial(self._undo_carry, offer))

    def _undo_carry(self, offer: Offer) -> None:
        self._note_connected()
        self._refuse(offer, PROHIBITED)
        self._end(None, None, None)

    def _refuse(self, offer: Offer, reason: int) -> None:
        if not (self.link.dead or self.link.deferred_frees.abandoned):
            with contextlib.suppress(HusshError):
                refuse_offer(self.link, offer, reason)

    def _note_connected(self) -> None:
        """Let another connection be made in the place of one that is made, or failed."""
        self._connecting -= 1
        self._start_waiting()

    def _carry(self, offer: Offer) -> Op[None]:
        sock = endpoint = channel = None
        reason = CONNECT_FAILED
        try:
            assert self.to is not None  # noqa: S101  (a remote forward has one)
            try:
                sock = yield RunBlocking(partial(_connect, self.to))
            except (OSError, ValueError) as error:  # a name may be none for IDNA
                words = getattr(error, "strerror", None) or str(error)
                text = f"a connection to {self.address} could not be carried to {self.to}: {words}"
                number = getattr(error, "errno", None)
                raise ForwardRefused(text, errno=number) from error
            finally:
                self._note_connected()
            endpoint = self._driver.watch(sock.fileno())
            channel = accept_offer(self.link, offer)
            yield from self._join(sock, endpoint, channel)
        except (HusshError, OSError) as error:
            if not self.link.dead:
                self._log_failure(error)
            if sock is not None:
                reset(sock)
        except GeneratorExit:
            reason = PROHIBITED
            raise
        finally:
            if channel is None:
                self._refuse(offer, reason)
            self._end(sock, endpoint, channel)


def _connect(to: Address, _: float | None) -> Socket:
    return connect_to(to)
