"""Channels of the hostile server, and `Conn`, what a script gets to work with.

`hostile` hands a `Conn` to each script.  Two ways of use mix freely: straight-line
(`accept_channel`, `accept_exec`, `Channel.read`) and handlers (`Conn.serve`).

Theory of operation: `pump` takes one event, a message or bridged bytes, updates
windows and buffers, and queues what needs a decision.  Decisions (`_work`) are only
taken by `serve` and the `accept_*` methods, so a handler that waits for window space
is never interrupted by another handler.  A handler may be a generator: each `yield`
waits until something came for its channel, while others run.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from . import hostile_wire as wire
from .hostile_auth import AuthTransport
from .hostile_transport import Options
from .hostile_wire import ClientGone, Fields, Msg, OpenReason, PeerError, boolean, string, u32

HandlerSteps = Iterator[None] | None
_FINISHED = object()
_ANSWERS = (
    Msg.REQUEST_SUCCESS,
    Msg.REQUEST_FAILURE,
    Msg.CHANNEL_OPEN_CONFIRMATION,
    Msg.CHANNEL_OPEN_FAILURE,
)


@dataclass
class Refuse:
    """The answer to an open request that is not granted."""

    reason: int = OpenReason.ADMINISTRATIVELY_PROHIBITED
    text: bytes | str = "open failed"


class Channel:
    """One open channel; the server's ids count from 0, the client's are `peer`.

    Attributes:
        inbox: what the client sent and nobody took yet.
        window: bytes that the client still allows us; in_window: what it may send.
        requests: name and data of every request, for asserting.
        eof, closed: the client sent EOF, CLOSE.
    """

    def __init__(self, conn: Conn, kind: str, own: int, opened: Fields) -> None:
        self.conn, self.kind, self.id = conn, kind, own
        self.peer, self.window, self.max_packet = opened.u32(), opened.u32(), opened.u32()
        self.target = (opened.text(), opened.u32()) if kind == "direct-tcpip" else None
        self.in_window = conn.options.window
        self.inbox = bytearray()
        self.requests: list[tuple[str, bytes]] = []
        self.eof = self.closed = self.sent_eof = self.sent_close = self.touched = False
        self.running: HandlerSteps = None
        self.bridge: socket.socket | None = None

    def read(self) -> bytes:
        """Everything that has come, waiting for the first byte; empty at EOF."""
        while not self.inbox and not self.eof and not self.closed:
            self.conn.pump()
        data = bytes(self.inbox)
        self.inbox.clear()
        return data

    def read_all(self) -> bytes:
        return b"".join(iter(self.read, b""))

    def send_data(self, data: bytes, *, stderr: bool = False, obey: bool = True) -> None:
        """Sends data, waiting for window space; `obey=False` sends one packet regardless."""
        while data and not (obey and self.closed):
            if obey and self.window <= 0:
                self.conn.pump()
                continue
            size = min(self.window, self.max_packet) if obey else len(data)
            part, data = data[:size], data[size:]
            self.window -= len(part)
            build = wire.extended_data if stderr else wire.channel_data
            self.conn.send_packet(build(self.peer, part))

    def send_request(self, name: str, *fields: bytes, want_reply: bool = False) -> None:
        self.conn.send_packet(wire.channel_request(self.peer, name, *fields, want_reply=want_reply))

    def exit_status(self, status: int) -> None:
        self.send_request("exit-status", u32(status))

    def exit_signal(
        self, name: str = "TERM", *, core: bool = False, text: bytes | str = "", lang: str = ""
    ) -> None:
        self.send_request("exit-signal", string(name), boolean(core), string(text), string(lang))

    def adjust(self, count: int) -> None:
        """Grants the client `count` more bytes."""
        self.in_window += count
        self.conn.send_packet(wire.window_adjust(self.peer, count))

    def send_eof(self) -> None:
        self.sent_eof = True
        self.conn.send(Msg.CHANNEL_EOF, u32(self.peer))

    def send_close(self) -> None:
        self.sent_close = True
        self.conn.send(Msg.CHANNEL_CLOSE, u32(self.peer))

    def success(self) -> None:
        self.conn.send(Msg.CHANNEL_SUCCESS, u32(self.peer))

    def failure(self) -> None:
        self.conn.send(Msg.CHANNEL_FAILURE, u32(self.peer))

    def finish(self, status: int = 0) -> None:
        """The polite end: status, EOF, CLOSE; nothing if CLOSE was already sent."""
        if self.sent_close:
            return
        self.exit_status(status)
        self.send_eof()
        self.send_close()

    def accept_exec(self, name: str = "exec") -> str:
        """Waits for this request, agrees, and returns its text (command, subsystem)."""
        while True:
            for item in list(self.conn._work):
                if isinstance(item, ChannelRequest) and item.channel is self:
                    self.conn._work.remove(item)
                    if item.name == name:
                        item.agree()
                        return Fields(item.data).text() if item.data else ""
                    self.conn._decide(item, Services())
            if self.closed:
                raise ClientGone(f"client closed the channel without {name}")
            self.conn.pump()


Handler = Callable[[Channel, str], HandlerSteps]


@dataclass
class OpenRequest:
    kind: str
    data: bytes

    @property
    def target(self) -> tuple[str, int]:
        """Host and port of a direct-tcpip request."""
        fields = Fields(self.data[12:])
        return fields.text(), fields.u32()


@dataclass
class ChannelRequest:
    channel: Channel
    name: str
    want_reply: bool
    data: bytes

    def agree(self) -> None:
        if self.want_reply:
            self.channel.success()

    def refuse(self) -> None:
        if self.want_reply:
            self.channel.failure()


def polite_exec(channel: Channel, command: str) -> Iterator[None]:
    """A tiny shell: `echo TEXT`, `err TEXT`, `exit N`, `cat`; anything else exits 127."""
    word, _, text = command.partition(" ")
    status = 0
    if word == "cat":
        while True:
            data = bytes(channel.inbox)
            channel.inbox.clear()
            channel.send_data(data)
            if channel.eof or channel.closed:
                break
            yield
    elif word in ("echo", "err"):
        channel.send_data(text.encode() + b"\n", stderr=word == "err")
    else:
        status = int(text) if word == "exit" else 127
    channel.finish(status)


def _no_forward(host: str, port: int) -> object:
    return Refuse()


@dataclass
class Services:
    """Who answers what in `Conn.serve`.

    `execute` serves exec, shell (command "") and subsystems (command: their name).
    `forward` gets host and port of a direct-tcpip open and returns a `Refuse`, a
    connected socket, anything with `connect()` such as another server, or a handler.
    `opened` may return a `Refuse` for any channel; `requested` may return whether to
    agree to a request, or None to have it handled as usual; `answered` likewise for
    global requests, where the usual answer is failure, and bytes follow a success.
    """

    execute: Handler = polite_exec
    forward: Callable[[str, int], object] = _no_forward
    opened: Callable[[OpenRequest], Refuse | None] | None = None
    requested: Callable[[ChannelRequest], bool | None] | None = None
    answered: Callable[[str, bytes], bool | bytes | None] | None = None


class Conn(AuthTransport):
    """One connection of a client, under the script's control.

    Attributes:
        channels: open channels by our id.
        opens, global_requests: everything asked for, for asserting.
        answers: the client's replies to global requests and opens of the server.
        auto_adjust, auto_close: grant window as data comes; answer CLOSE with CLOSE.
        tag: free for the test.
    """

    def __init__(self, sock: socket.socket, options: Options) -> None:
        super().__init__(sock, options)
        self.auth_log = []
        self.channels: dict[int, Channel] = {}
        self.opens: list[OpenRequest] = []
        self.global_requests: list[tuple[str, bytes]] = []
        self.answers: list[bytes] = []
        self.auto_adjust = self.auto_close = True
        self.tag: object = None
        self._next_id = 0
        self._work: deque[OpenRequest | ChannelRequest] = deque()
        self._answered: Callable[[str, bytes], bool | bytes | None] | None = None

    def login(self) -> None:
        """Everything up to an authenticated connection, accepting anyone."""
        self.handshake()
        self.expect_service()
        self.authenticate()

    # Straight-line use

    def accept_channel(self, kind: str = "session") -> Channel:
        """Waits for an open request of this kind and confirms it."""
        while True:
            for item in self._work:
                if isinstance(item, OpenRequest) and item.kind == kind:
                    self._work.remove(item)
                    return self.confirm(item)
            self.pump()

    def next_open(self) -> OpenRequest:
        """Waits for any open request and leaves the answer to the script."""
        while True:
            for item in self._work:
                if isinstance(item, OpenRequest):
                    self._work.remove(item)
                    return item
            self.pump()

    def confirm(self, request: OpenRequest) -> Channel:
        channel = Channel(self, request.kind, self._next_id, Fields(request.data))
        self._next_id += 1
        self.channels[channel.id] = channel
        options = self.options
        ids = u32(channel.peer) + u32(channel.id)
        self.send(Msg.CHANNEL_OPEN_CONFIRMATION, ids, u32(options.window), u32(options.max_packet))
        return channel

    def refuse(self, request: OpenRequest, answer: Refuse) -> None:
        peer = request.data[:4]
        texts = string(answer.text) + string(b"")
        self.send(Msg.CHANNEL_OPEN_FAILURE, peer, u32(answer.reason), texts)

    # Handlers

    def serve(
        self, services: Services | None = None, *, until: Callable[[], bool] | None = None
    ) -> None:
        """Serves the connection until the client hangs up, or `until` turns true."""
        who = services or Services()
        self._answered = who.answered
        try:
            while until is None or not until():
                if self._work:
                    self._decide(self._work.popleft(), who)
                else:
                    self.pump()
                self._resume()
        except ConnectionError:
            if until is not None:
                raise

    def _resume(self) -> None:
        for channel in list(self.channels.values()):
            if channel.touched and channel.running is not None:
                channel.touched = False
                if next(channel.running, _FINISHED) is _FINISHED:
                    channel.running = None
                    if channel.closed:
                        del self.channels[channel.id]

    def _start(self, channel: Channel, handler: Handler, text: str) -> None:
        channel.running = handler(channel, text)
        channel.touched = True  # a generator runs to its first yield at once

    def _decide(self, item: OpenRequest | ChannelRequest, who: Services) -> None:
        if isinstance(item, OpenRequest):
            self._decide_open(item, who)
            return
        verdict = who.requested(item) if who.requested else None
        if verdict is False:
            item.refuse()
            return
        item.agree()
        if verdict is None and item.name in ("exec", "shell", "subsystem"):
            text = Fields(item.data).text() if item.data else ""
            self._start(item.channel, who.execute, text)

    def _decide_open(self, item: OpenRequest, who: Services) -> None:
        answer: object = who.opened(item) if who.opened else None
        if answer is None and item.kind == "direct-tcpip":
            answer = who.forward(*item.target)
        elif answer is None and item.kind != "session":
            answer = Refuse(OpenReason.UNKNOWN_CHANNEL_TYPE, "unknown channel type")
        if isinstance(answer, Refuse):
            self.refuse(item, answer)
            return
        channel = self.confirm(item)
        connect = getattr(answer, "connect", None)
        if isinstance(answer, socket.socket):
            channel.bridge = answer
        elif connect is not None:
            channel.bridge = connect()
        elif callable(answer):
            self._start(channel, answer, "")

    # Events

    def pump(self) -> None:
        """Waits for one event and takes it in."""
        bridges = {
            one.bridge.fileno(): one
            for one in self.channels.values()
            if one.bridge is not None and one.window > 0
        }
        if bridges and not self._queued:
            poll = select.poll()
            for fd in (self.sock.fileno(), *bridges):
                poll.register(fd, select.POLLIN)
            ready = [fd for fd, _ in poll.poll(self._patience() * 1000)]
            if not ready:
                raise TimeoutError(f"no event in {self.options.timeout} s")
            for fd in ready:
                if fd in bridges:
                    self._from_bridge(bridges[fd])
            if self.sock.fileno() not in ready:
                return
        self._take(self.read_packet())

    def _from_bridge(self, channel: Channel) -> None:
        assert channel.bridge is not None
        try:
            data = channel.bridge.recv(min(channel.window, channel.max_packet))
        except ConnectionError:
            data = b""
        if data:
            channel.send_data(data)
        else:
            self._unbridge(channel)
            channel.send_eof()
            channel.send_close()

    def _unbridge(self, channel: Channel) -> None:
        if channel.bridge is not None:
            channel.bridge.close()
            channel.bridge = None

    def _to_bridge(self, channel: Channel) -> None:
        if channel.bridge is None:
            return
        try:
            channel.bridge.settimeout(self._patience())
            channel.bridge.sendall(channel.inbox)
            if channel.eof:
                channel.bridge.shutdown(socket.SHUT_WR)
        except ConnectionError:
            pass  # its end of stream is noticed by reading
        channel.inbox.clear()

    def _take(self, payload: bytes) -> None:
        number, fields = payload[0], Fields(payload[1:])
        if number == Msg.CHANNEL_OPEN:
            request = OpenRequest(fields.text(), fields.rest)
            self.opens.append(request)
            self._work.append(request)
        elif number == Msg.GLOBAL_REQUEST:
            name, want_reply = fields.text(), fields.boolean()
            self.global_requests.append((name, fields.rest))
            if want_reply:
                good = self._answered(name, fields.rest) if self._answered else False
                more = good if isinstance(good, bytes) else b""
                self.send(Msg.REQUEST_SUCCESS if good else Msg.REQUEST_FAILURE, more)
        elif number in _ANSWERS:
            self.answers.append(payload)
        elif Msg.CHANNEL_WINDOW_ADJUST <= number <= Msg.CHANNEL_FAILURE:
            own = fields.u32()
            if own not in self.channels:
                raise PeerError(f"client sent message {number} for unknown channel {own}")
            self._take_for(self.channels[own], number, fields)
        else:
            raise PeerError(f"client sent message {number} after authentication")

    def _take_for(self, channel: Channel, number: int, fields: Fields) -> None:
        channel.touched = True
        if channel.closed:
            raise PeerError(f"client sent message {number} after CLOSE")
        if number == Msg.CHANNEL_WINDOW_ADJUST:
            channel.window += fields.u32()
            if channel.window > 0xFFFFFFFF:
                raise PeerError("client let our window overflow")
        elif number in (Msg.CHANNEL_DATA, Msg.CHANNEL_EXTENDED_DATA):
            self._take_data(channel, number, fields)
        elif number == Msg.CHANNEL_EOF:
            channel.eof = True
            self._to_bridge(channel)
        elif number == Msg.CHANNEL_CLOSE:
            channel.closed = True
            self._unbridge(channel)
            if self.auto_close:
                if not channel.sent_close:
                    channel.send_close()
                if channel.running is None:
                    del self.channels[channel.id]
        elif number == Msg.CHANNEL_REQUEST:
            name, want_reply = fields.text(), fields.boolean()
            channel.requests.append((name, fields.rest))
            self._work.append(ChannelRequest(channel, name, want_reply, fields.rest))

    def _take_data(self, channel: Channel, number: int, fields: Fields) -> None:
        if number == Msg.CHANNEL_EXTENDED_DATA:
            fields.u32()
        data = fields.string()
        if channel.eof:
            raise PeerError("client sent data after EOF")
        if len(data) > self.options.max_packet:
            raise PeerError(f"client sent {len(data)} bytes, maximum {self.options.max_packet}")
        channel.in_window -= len(data)
        if channel.in_window < 0:
            raise PeerError("client sent more than its window")
        channel.inbox += data
        self._to_bridge(channel)
        low = channel.in_window < self.options.window // 2
        if low and self.auto_adjust and not channel.sent_close:
            channel.adjust(self.options.window - channel.in_window)

    def close(self) -> None:
        for channel in self.channels.values():
            self._unbridge(channel)
        super().close()
