"""The stream that a user gives (`stream=`), which carries the first hop instead of a TCP socket.

`connect` and `async_connect` use it; `async_given_stream` does the same for streams of tasks.

A plain socket's descriptor is taken over, and C reads it. Any other object has its own way to send
and receive: TLS, a channel of another library, pipes. So the link gets one end of a pair of
sockets, and bytes are relayed between the other end and the object's `recv` and `send`.

Theory of operation. One thread relays for all objects that have a descriptor (`fileno`), which
tells when there is something to receive. The thread polls, and never waits in an object, because it
has made them non-blocking. It receives what an object has taken in already (`pending` of TLS) until
the object says that there is nothing. If an object would block on sending, and its descriptor
cannot tell when it no longer would, it is asked again every 10 ms. An object without a descriptor
has two threads, which wait in its calls.

All threads are daemons and end with their stream. They take no lock of a tree.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from .._runtime.polling import make_poll
from .._runtime.thread_start import NoThread, start_thread
from .._runtime.wakeup_fd import WakeupFd
from .._runtime.workers import run_in_worker
from ..errors import ConnectError, ConnectionLost, HusshError
from .tcp import SocketStream

__all__ = ["PART", "RelayedStream", "close_given", "wrap_given_stream", "make_lost_error"]

PART = 1 << 16
#: Milliseconds after which an object that would not take more is asked again.
RETRY = 10
#: Seconds that is waited for a thread that is about to end.
LAST_MOMENT = 0.5
#: What an object raises that has nothing now, or takes nothing now.
_LATER = (BlockingIOError, InterruptedError, TimeoutError)
#: The same of the module `ssl`, which not every program has loaded.
_LATER_OF_TLS = ("SSLWantReadError", "SSLWantWriteError")


def wrap_given_stream(given: Any) -> SocketStream:
    """Return the driver's stream for one that a user has given: a socket, or anything like one.

    Raises:
        ConnectError: it is closed already, or there are no threads or descriptors for it.
    """
    try:
        if _is_plain(given):
            if given.fileno() < 0:
                raise ConnectError("the stream given as stream= is closed")
            given.setblocking(False)
            return SocketStream(given)
        return _start_relay(given)
    except (OSError, ValueError, NoThread) as error:
        if isinstance(error, ConnectError):
            raise
        raise ConnectError(f"the stream given as stream= cannot be used: {error}") from error


def close_given(given: Any) -> None:
    """Close what a user has given, where connecting failed before anything else owned it."""
    with contextlib.suppress(Exception):  # the user's object may say anything
        given.close()


def _is_plain(given: Any) -> bool:
    """Whether its descriptor carries the very bytes."""
    if not isinstance(given, socket.socket):
        return False
    kind: Any = type(given)
    plain: Any = socket.socket
    return kind.recv is plain.recv and kind.send is plain.send


def _is_later(failure: Exception) -> bool:
    return isinstance(failure, _LATER) or type(failure).__name__ in _LATER_OF_TLS


def make_lost_error(error: HusshError, failure: BaseException | None) -> HusshError:
    """Return the error of a connection that ended, with what its stream has raised."""
    if failure is None:
        return error
    words = str(failure) or type(failure).__name__
    better = ConnectionLost(f"connection lost: the stream given as stream= failed: {words}")
    better.__cause__ = failure
    return better


class RelayedStream(SocketStream):
    """One end of a pair of sockets, whose other end somebody relays.

    Attributes:
        failure: what the user's object has raised.
    """

    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        super().__init__(ours)
        self._theirs = theirs
        self.failure: BaseException | None = None

    def __del__(self) -> None:
        super().__del__()
        with contextlib.suppress(AttributeError):
            self._theirs.close()  # where an interrupt came before anybody could end this

    def explain(self, error: HusshError, *, before_banner: bool, heard: bool) -> HusshError:
        return make_lost_error(error, self.failure)

    def abandon(self) -> None:
        SocketStream.close(self)  # the object is the parent's


def _start_relay(given: Any) -> RelayedStream:
    process = getattr(given, "process", None)
    if not hasattr(given, "fileno") and hasattr(process, "stdout"):
        given = _Pipes(given, process)  # paramiko's ProxyCommand
    # An interrupt could come between the sockets, or the threads, and their owner.
    stream: RelayedStream = run_in_worker(partial(_make_relay, given))
    return stream


def _make_relay(given: Any) -> RelayedStream:
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        if _can_be_polled(given):
            theirs.setblocking(False)
            return _PolledStream(ours, theirs, given)
        return _ThreadedStream(ours, theirs, given)
    except BaseException:
        ours.close()
        theirs.close()
        raise


def _can_be_polled(given: Any) -> bool:
    if not hasattr(given, "send"):
        return False
    try:
        fd = given.fileno()
    except (AttributeError, OSError, ValueError, NotImplementedError):
        return False
    if not isinstance(fd, int) or fd < 0:
        raise ConnectError("the stream given as stream= is closed")
    for name, value in (("setblocking", False), ("settimeout", 0.0)):
        change = getattr(given, name, None)
        if change is not None:
            change(value)
            return True
    return False


class _Pipes:
    """The pipes of a child process that somebody else has started, as an object to poll."""

    def __init__(self, given: Any, process: Any) -> None:
        self._given = given
        self._process = process
        self._reading, self._writing = process.stdout.fileno(), process.stdin.fileno()

    def fileno(self) -> int:
        return int(self._reading)

    def setblocking(self, flag: bool) -> None:
        os.set_blocking(self._reading, flag)
        os.set_blocking(self._writing, flag)

    def recv(self, size: int) -> bytes:
        return os.read(self._reading, size)

    def send(self, data: memoryview) -> int:
        return os.write(self._writing, data)

    def close(self) -> None:
        self._given.close()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()
        with contextlib.suppress(Exception):  # it was told to end, and mostly has
            self._process.wait(LAST_MOMENT)


class _PolledStream(RelayedStream):
    """A user's object that the one thread relays."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, given: Any) -> None:
        super().__init__(ours, theirs)
        self._given = given
        self.fd: int = given.fileno()
        self._lock = threading.Lock()  # the thread, or who closes, moves bytes
        self._inward: memoryview | None = memoryview(b"")  # received, for us; None at the end
        self._outward = memoryview(b"")  # ours, to be sent
        self._wants_room = self._is_over = False
        _relay.add(self)

    def get_wanted(self) -> tuple[dict[int, int], bool]:
        """Return what to poll for, and whether to look again soon in any case."""
        events = {self._theirs.fileno(): 0, self.fd: 0}
        if not self._outward:
            events[self._theirs.fileno()] |= select.POLLIN
        if self._inward:
            events[self._theirs.fileno()] |= select.POLLOUT
        elif self._inward is not None:
            events[self.fd] |= select.POLLIN
        if self._outward:
            events[self.fd] |= select.POLLOUT
        soon = bool(self._outward) and not isinstance(self._given, socket.socket)
        return {fd: wanted for fd, wanted in events.items() if wanted}, soon

    def relay(self) -> bool:
        """Move what can move, without waiting; False: it is over."""
        with self._lock:
            if self._is_over:
                return False
            try:
                self._receive()
                ended = self._send()
            except Exception as failure:
                self.failure = failure
                ended = True
            if ended:
                self._end()
            return not ended

    def _receive(self) -> None:
        for _ in range(16):  # others have their turn, too
            if self._inward is None:
                return
            if not self._inward:
                try:
                    data = self._given.recv(PART)
                except Exception as failure:
                    if _is_later(failure):
                        return
                    self.failure = failure
                    data = b""
                if not data:
                    self._inward = None
                    with contextlib.suppress(OSError):
                        self._theirs.shutdown(socket.SHUT_WR)
                    return
                self._inward = memoryview(bytes(data))
            try:
                self._inward = self._inward[self._theirs.send(self._inward) :]
            except _LATER:
                return
            except OSError:  # the driver has closed its end, which `_send` finds out
                self._inward = None

    def _send(self) -> bool:
        """Send what the link has for its peer; True: there will be nothing more."""
        for _ in range(16):
            if not self._outward:
                try:
                    data = self._theirs.recv(PART)
                except _LATER:
                    return False
                except OSError:
                    return True
                if not data:
                    return True
                self._outward = memoryview(data)
            try:
                self._outward = self._outward[self._given.send(self._outward) :]
            except Exception as failure:
                if _is_later(failure):
                    return False
                raise
        return False

    def _end(self) -> None:
        self._is_over = True
        self._theirs.close()
        with contextlib.suppress(Exception):  # the user's object may say anything
            self._given.close()

    def close(self) -> None:
        super().close()
        for _ in range(64):  # what is in the pair, such as our last words
            if not self.relay():
                break
        with self._lock:
            if not self._is_over:
                self._end()
        _relay.remove(self)

    def abandon(self) -> None:
        super().abandon()
        self._theirs.close()


class _Relay:
    """The thread that relays for all streams that can be polled."""

    def __init__(self) -> None:
        self._streams: set[_PolledStream] = set()
        self._lock = threading.RLock()
        self._wakeup: WakeupFd | None = None
        self._thread: threading.Thread | None = None

    def add(self, stream: _PolledStream) -> None:
        with self._lock:
            self._streams.add(stream)
            if self._thread is None:
                self._wakeup = WakeupFd()
                self._thread = threading.Thread(target=self._run, name="hussh-relay", daemon=True)
                try:
                    start_thread(self._thread)
                except BaseException:  # no more threads: the next stream tries again
                    self._wakeup.close()
                    self._thread = self._wakeup = None
                    self._streams.discard(stream)
                    raise
            elif self._wakeup is not None:
                self._wakeup.wake()

    def remove(self, stream: _PolledStream) -> None:
        """Forget a stream; with the last one the thread ends."""
        with self._lock:
            self._streams.discard(stream)
            thread, wakeup = self._thread, self._wakeup
            if wakeup is not None:
                wakeup.wake()
            is_last = not self._streams
        if is_last and thread is not None and thread is not threading.current_thread():
            thread.join(LAST_MOMENT)

    def _run(self) -> None:
        while True:
            with self._lock:
                wakeup = self._wakeup
                if not self._streams or wakeup is None:
                    self._thread = self._wakeup = None
                    break
                streams = list(self._streams)
            poll = make_poll()
            poll.register(wakeup.fd, select.POLLIN)
            owners: dict[int, _PolledStream] = {}
            is_soon = False
            for stream in streams:
                with contextlib.suppress(OSError, ValueError):  # closed just now
                    events, soon = stream.get_wanted()
                    is_soon = is_soon or soon
                    for fd, wanted in events.items():
                        poll.register(fd, wanted)
                        owners[fd] = stream
            ready = {owners.get(fd) for fd, _ in poll.poll(RETRY if is_soon else None)}
            wakeup.clear()
            for stream in streams:
                if (is_soon or stream in ready) and not stream.relay():
                    with self._lock:
                        self._streams.discard(stream)
            del streams, owners, ready  # nothing here keeps them alive during the next wait
        if wakeup is not None:
            wakeup.close()


_relay = _Relay()


class _ThreadedStream(RelayedStream):
    """A user's object that can only be waited for, by two threads."""

    def __init__(self, ours: socket.socket, theirs: socket.socket, given: Any) -> None:
        super().__init__(ours, theirs)
        self._given = given
        self._threads = [
            threading.Thread(target=self._guard, args=(call,), name="hussh-relay", daemon=True)
            for call in (self._receive, self._send)
        ]
        for thread in self._threads:
            start_thread(thread)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as failure:
            if not isinstance(failure, OSError) or self._theirs.fileno() >= 0:
                self.failure = failure
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)

    def _receive(self) -> None:
        while data := self._given.recv(PART):
            self._theirs.sendall(data)

    def _send(self) -> None:
        while data := self._theirs.recv(PART):
            if hasattr(self._given, "sendall"):
                self._given.sendall(data)
                continue
            rest = memoryview(data)
            while rest:
                rest = rest[self._given.send(rest) :]

    def close(self) -> None:
        super().close()
        receiver, sender = self._threads
        sender.join(LAST_MOMENT)  # our last words
        with contextlib.suppress(Exception):  # the user's object may say anything
            self._given.close()
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_RDWR)
        receiver.join(LAST_MOMENT)
        self._theirs.close()

    def abandon(self) -> None:
        super().abandon()
        self._theirs.close()


def _reset_after_fork() -> None:
    global _relay
    _relay = _Relay()  # the parent's thread is not here


os.register_at_fork(after_in_child=_reset_after_fork)
