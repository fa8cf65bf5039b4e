"""The SFTP state machine: requests become bytes, bytes become replies; it does no I/O.

Theory of operation. Requests may be made at any time and in any number. Each has an id, and replies
find their request by it, in whatever order they come. A reply is taken apart here and checked
against its request. So a server that breaks the protocol is found out where its bytes are fed, by
the code that feeds them (`Malformed`; the machine is of no use afterwards). The maker of a request
looks at `done`, or gets it put into a `box` that several requests share.

Bytes come in by two calls, so that bulk data is copied once, to where it is wanted: `get_buffer()`
tells where the next bytes belong, `take_received(n)` says that n of them are there. Bytes to send
are in `out`. The code that moves them must not reorder or drop any. A payload in `out` must not be
changed while it is there.

A request may be abandoned: its reply is dropped when it comes, and a handle in it is closed. A
request that was not sent yet is not sent at all.

No more requests are sent than the server allows (`ServerLimits`). The others are held back in their
order until replies come. OPENs have their own queue before that one, see `sftp.open_files`. Nothing
here waits, and nothing knows files.

`SftpSession` (`session.py`) owns one machine and moves its bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..._policy.sftp import FX_OK, SFTPLimits
from ..._policy.sftp_server import ServerLimits
from ...errors import printable
from . import wire
from .open_files import OpenFiles, refuse_lost
from .request import OPENS, Buffer, FileHandle, Request
from .wire import HEAD, RANGE, U32, Malformed, string

__all__ = ["LONGEST", "Machine"]

#: Longest message that is accepted: OpenSSH sends 256 KiB, and we ask for no more data than that.
LONGEST = SFTPLimits.MOST + 64 * 1024
STAGE = 32 * 1024


class Machine:
    """One SFTP session, from INIT on.

    Attributes:
        out: what is to be sent, in this order.
        ready: whether the server has said which version it speaks.
        extensions: what it offers beyond version 3, by name.
        limits: how large requests may be.
        server: how many requests and files the server allows.
        files: the open files, and the OPENs that wait until one is closed.
        parsed: bytes of all messages so far, data excepted; taking these apart takes long.
    """

    def __init__(self, server: ServerLimits | None = None) -> None:
        self.out: deque[Buffer] = deque([U32.pack(5) + bytes([wire.INIT]) + U32.pack(3)])
        self.ready: bool = False
        self.parsed: int = 0
        self.version: int = 0
        self.extensions: dict[bytes, bytes] = {}
        self.limits: SFTPLimits = SFTPLimits()
        self.server: ServerLimits = server or ServerLimits()
        self._most = self.server.most_requests
        self.files: OpenFiles = OpenFiles(self.server)
        self._handles_limit: int | None = None  # files that limits@openssh.com says may be open
        self._held: deque[Request] = deque()  # to be sent when replies have come
        self._pending: dict[int, Request] = {}
        self._next = 0
        self._ask_limits: Request | None = None
        self._stage = bytearray(STAGE)
        self._view = memoryview(self._stage)
        self._have = 0
        # What is filled directly when it is too large for the stage, and what to do then.
        self._direct: memoryview | None = None
        self._filled = 0
        self._then: Callable[[memoryview], None] = self._take_message

    @property
    def in_flight(self) -> int:
        """Number of requests that were sent and not answered."""
        return len(self._pending)

    @property
    def backlog(self) -> int:
        """Number of pieces of messages that wait to be sent; unless it is 0, more should wait."""
        return len(self.out) + len(self._held)

    # -- requests

    def request(
        self,
        kind: int,
        body: bytes,
        box: deque[Request] | None = None,
        tag: Any = None,
        *,
        lasting: bool = False,
    ) -> Request:
        """Queue a request. With `box` it is also put there when it is done.

        Args:
            lasting: for an OPEN or OPENDIR, that a user decides how long it stays open, so that
                nothing else may wait for its end.
        """
        request = Request(kind, body, box, tag)
        request.lasting = lasting
        return self._submit(request)

    def queue_about(
        self,
        kind: int,
        handle: bytes,
        more: bytes = b"",
        box: deque[Request] | None = None,
        tag: Any = None,
    ) -> Request:
        """Queue a request about an open file or directory, such as FSTAT or READDIR."""
        return self._submit(Request(kind, string(handle) + more, box, tag, handle=handle))

    def queue_extended(
        self,
        name: bytes,
        body: bytes,
        parse: Callable[[bytes], Any] | None = None,
        *,
        handle: bytes | None = None,
        reply: int = wire.EXTENDED_REPLY,
        box: deque[Request] | None = None,
        tag: Any = None,
    ) -> Request:
        """Queue a request of an extension; `parse` makes its value, None means a mere status.

        `reply` is the type of the message that has the value.
        """
        request = Request(wire.EXTENDED, string(name) + body, box, tag, handle=handle)
        request.expects = parse is not None
        request.parse = parse
        request.reply = reply
        return self._submit(request)

    def read(
        self,
        handle: bytes,
        offset: int,
        size: int,
        box: deque[Request] | None = None,
        tag: Any = None,
        pool: list[bytearray] | None = None,
    ) -> Request:
        """Ask for `size` bytes; they arrive in a buffer of `pool`, if there is one."""
        body = string(handle) + RANGE.pack(offset, size)
        request = Request(wire.READ, body, box, tag, handle=handle)
        request.size = size
        request.pool = pool
        return self._submit(request)

    def write(
        self,
        handle: bytes,
        offset: int,
        data: Buffer,
        box: deque[Request] | None = None,
        tag: Any = None,
    ) -> Request:
        """Write data, which is not copied: do not change it while there is a `backlog`."""
        size = len(data)
        body = string(handle) + RANGE.pack(offset, size)
        request = Request(wire.WRITE, body, box, tag, data=data, handle=handle)
        request.size = size
        return self._submit(request)

    def close(self, handle: bytes, box: deque[Request] | None = None, tag: Any = None) -> Request:
        return self.queue_about(wire.CLOSE, handle, b"", box, tag)

    def abandon(self, request: Request) -> None:
        """Drop the reply when it comes; a handle that it brought or will bring is closed."""
        if request.abandoned:
            return
        request.abandoned = True
        request.box = request.pool = None
        if request.done and request.kind in (wire.OPEN, wire.OPENDIR) and request.value is not None:
            self.forget(request.value)

    def forget(self, handle: bytes) -> None:
        """Close a handle, without looking at the answer."""
        self.close(handle).abandoned = True

    def _submit(self, request: Request) -> Request:
        handle = request.handle
        if request.kind in OPENS:
            if self.files.has_room(self._handles_limit):
                self._queue(request)
            else:
                self.files.add(request)
                self._open_more()
        elif handle is not None and handle.is_lost:
            self._end_request(request, None)
        else:
            if handle is not None and request.kind == wire.CLOSE:
                handle.closes += 1
            self._queue(request)
        return request

    def _queue(self, request: Request) -> None:
        if not self._held and len(self._pending) < self._most:
            self._send(request)
        else:
            self._held.append(request)
            self._send_held()

    def _send_held(self) -> None:
        """Send what may be sent now."""
        held = self._held
        while held and len(self._pending) < self._most:
            request = held.popleft()
            if request.abandoned and request.kind != wire.CLOSE:
                if request.kind in OPENS:
                    self.files.note_not_sent()
            elif request.done:  # failed meanwhile: its handle is lost
                pass
            else:
                self._send(request)

    def _send(self, request: Request) -> None:
        number = self._next
        while number in self._pending:  # after 2**32 of them
            number = (number + 1) & 0xFFFFFFFF
        self._next = (number + 1) & 0xFFFFFFFF
        request.id = number
        self._pending[number] = request
        body, data = request.body, request.data
        if request.kind not in OPENS:  # those may have to be sent again
            request.body = b""
        if data is None:
            self.out.append(HEAD.pack(len(body) + 5, request.kind, number) + body)
            return
        request.data = None
        # In one step: an interrupt must not leave a head without its data.
        self.out.extend((HEAD.pack(len(body) + 5 + len(data), request.kind, number) + body, data))

    def _open_more(self) -> None:
        """Send the OPENs for which there is room now; fail those for which there will be none."""
        while (request := self.files.take(self._handles_limit)) is not None:
            if request.status:
                self._end_request(request, None)
            else:
                self._queue(request)

    def _close_both(self, handle: FileHandle) -> None:
        """Close a lost handle, and the file that has it, too."""
        for held in self._held:
            if held.handle is handle and held.kind != wire.CLOSE:
                self._end_request(held, None)
        for _ in range(1 if handle.closes else 2):
            request = Request(wire.CLOSE, string(handle), None, None, handle=handle)
            request.abandoned = True
            handle.closes += 1
            self._queue(request)

    # -- bytes of the server

    def get_buffer(self) -> memoryview:
        """Return the place for the next bytes; it is never empty."""
        if self._direct is not None:
            return self._direct[self._filled :]
        return self._view[self._have :]

    def count_missing(self) -> int:
        """Number of bytes that are missing of a message that has begun; 0 if none has."""
        if self._direct is not None:
            return len(self._direct) - self._filled
        if self._have < 4:
            return 4 - self._have if self._have else 0
        return int(U32.unpack_from(self._stage)[0]) + 4 - self._have

    def take_received(self, count: int) -> None:
        """Take the first `count` bytes of `get_buffer()`, which are there now.

        Raises:
            Malformed: the server broke the protocol.
        """
        if self._direct is not None:
            self._filled += count
            if self._filled == len(self._direct):
                body, self._direct = self._direct, None
                self._then(body)
            return
        self._have += count
        at = 0
        while self._have - at >= 4:
            (length,) = U32.unpack_from(self._stage, at)
            if not 5 <= length <= LONGEST:
                raise Malformed(f"a message of {length} bytes{self._show_heard()}")
            end = at + 4 + length
            if end <= self._have:
                self._take_message(self._view[at + 4 : end])
                at = end
            elif length > STAGE - 4 and self._have - at >= 13:
                self._begin(at, length)
                return
            else:
                break
        if at:
            left = self._have - at
            self._view[:left] = self._view[at : self._have]
            self._have = left

    def note_end(self) -> None:
        """Note that no more bytes will come.

        Raises:
            Malformed: that is in the middle of a message.
        """
        if self._direct is not None or self._have:
            raise Malformed(f"the end of the stream within a message{self._show_heard()}")

    def _show_heard(self) -> str:
        """Return the first text of a server that may speak something else, such as a greeting."""
        if self.ready:
            return ""
        shown = printable(bytes(self._stage[: min(self._have, 200)]).decode("utf-8", "replace"))
        return f"; it says {shown!r} (do the login scripts there print something?)" if shown else ""

    def _begin(self, at: int, length: int) -> None:
        """Begin a message that the stage cannot hold: the rest of it goes where it belongs."""
        kind = self._stage[at + 4]
        first = at + 4
        self._then = self._take_message
        target = None
        if kind == wire.DATA:
            (number,) = U32.unpack_from(self._stage, at + 5)
            (size,) = U32.unpack_from(self._stage, at + 9)
            request = self._pending.get(number)
            fits = request is not None and request.kind == wire.READ and not request.abandoned
            if request is not None and fits and size == length - 9 and size <= request.size:
                target = self._make_room(request, size)
                first = at + 13
                self._then = lambda data: self._end_request(request, data)
                del self._pending[number]
        if target is None:
            target = memoryview(bytearray(length))
        part = self._have - first
        target[:part] = self._view[first : self._have]
        self._have = 0
        self._direct = target
        self._filled = part

    def _make_room(self, request: Request, size: int) -> memoryview:
        pool = request.pool
        if pool is None:
            return memoryview(bytearray(size))
        buffer = pool.pop() if pool else bytearray(request.size)
        if len(buffer) < size:
            buffer = bytearray(size)
        return memoryview(buffer)[:size]

    def _take_message(self, message: memoryview) -> None:
        kind = message[0]
        if kind != wire.DATA:
            self.parsed += len(message)
        if not self.ready:
            self._take_greeting(kind, message)
            return
        (number,) = U32.unpack_from(message, 1)
        request = self._pending.pop(number, None)
        if request is None:
            raise Malformed(f"a reply to request {number}, which is not open")
        if kind == wire.STATUS:
            request.status, request.text = wire.parse_status(bytes(message[5:]))
            if request.status == FX_OK and request.expects:
                raise Malformed("success, but not what was asked for")
            self._end_request(request, None)
        elif kind != request.reply or not request.expects:
            raise Malformed(f"a reply of type {kind} to a request of type {request.kind}")
        elif kind == wire.DATA:
            self._take_data(request, message)
        else:
            self._end_request(request, self._parse_value(request, kind, bytes(message[5:])))

    def _parse_value(self, request: Request, kind: int, body: bytes) -> Any:
        if kind == wire.HANDLE:
            handle, _ = wire.take_string(body, 0)
            if len(handle) > 256:
                raise Malformed(f"a handle of {len(handle)} bytes")
            return handle
        if kind == wire.NAME:
            request.size = len(body)
            return wire.name_list(body)
        if kind == wire.ATTRS:
            return wire.parse_attributes(body)[0]
        return request.parse(body) if request.parse is not None else body

    def _take_data(self, request: Request, message: memoryview) -> None:
        size = U32.unpack_from(message, 5)[0] if len(message) >= 9 else -1
        if not 0 <= size <= len(message) - 9:
            raise Malformed("data that ends before its length")
        if size > request.size:
            raise Malformed(f"{size} bytes of data where {request.size} were asked for")
        if request.abandoned:
            self._send_held()
            return
        room = self._make_room(request, size)
        room[:] = message[9 : 9 + size]
        self._end_request(request, room)

    def _end_request(self, request: Request, value: Any) -> None:
        """End a request that was answered, or failed without having been sent."""
        request.value = value
        handle = request.handle
        if request.kind in OPENS and self._is_to_be_sent_again(request):
            request.id = -1
            self._open_more()
            self._send_held()
            return
        if handle is not None and handle.is_lost:
            refuse_lost(request)
        value = request.value
        request.done = True
        if request is self._ask_limits:
            self._ask_limits = None
            if value is not None:
                self.limits.learn(*value)
                limits = self.limits
                self._handles_limit = limits.open_handles if limits.tells_handles else None
        if request.abandoned:
            if request.kind in OPENS and value is not None:
                self.forget(value)
        elif request.box is not None:
            request.box.append(request)
        if request.id >= 0:
            if handle is not None and request.kind == wire.CLOSE:
                self.files.note_closed(handle)
            if self.files.anybody_waits:
                self._open_more()
            if self._held:
                self._send_held()

    def _is_to_be_sent_again(self, request: Request) -> bool:
        """Note the answer to an OPEN; return whether it waits once more, unknown to its maker."""
        if request.id < 0:  # refused here
            return False
        if request.value is None:
            return self.files.note_refused(request)
        handle, is_lost = self.files.note_opened(request, request.value)
        if not is_lost:
            request.value = handle
            return False
        request.value = None
        self._close_both(handle)
        return self.files.again(request)

    def _take_greeting(self, kind: int, message: memoryview) -> None:
        if kind != wire.VERSION:
            raise Malformed(f"a message of type {kind} instead of its version{self._show_heard()}")
        self.version, self.extensions = wire.parse_version(bytes(message[1:]))
        if self.version != 3:
            raise Malformed(f"version {self.version} of the protocol, we speak 3")
        self.ready = True
        self.server.note_greeting(self.extensions)
        self._most = self.server.most_requests
        if self.extensions.get(b"limits@openssh.com") == b"1":
            self._ask_limits = self.queue_extended(b"limits@openssh.com", b"", wire.parse_limits)
