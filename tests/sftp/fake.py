"""An SFTP server in memory, and a driver without a network, for tests of operations.

`FakeServer` speaks version 3 with a dict of files; its fields make it a poor one.
`Bench` joins it to an `SftpState` and runs operations to their end.  Nothing waits:
an operation that waits for what will never come fails with `Stuck`.
"""

from __future__ import annotations

import random
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack, unpack_from
from typing import Any, TypeVar

from hussh._protocol.core import Checkpoint, Op, RunBlocking, Wait
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.machine import LONGEST
from hussh._protocol.sftp.session import Pipe, SftpState

T = TypeVar("T")
OPENSSH = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fsync@openssh.com": b"1",
    b"limits@openssh.com": b"1",
}


class Stuck(Exception):
    """An operation waits, and the server has nothing to say."""


def text(value: bytes) -> bytes:
    """Return a string of the wire."""
    return pack(">I", len(value)) + value


def packet(kind: int, *parts: bytes) -> bytes:
    """Return a whole message."""
    body = bytes([kind]) + b"".join(parts)
    return pack(">I", len(body)) + body


@dataclass
class FakeServer:
    """A server and what it gets wrong; `twist` may change or replace any reply it would give."""

    files: dict[bytes, bytearray] = field(default_factory=dict)
    folders: dict[bytes, list[tuple[bytes, int]]] = field(default_factory=dict)  # names, modes
    links: dict[bytes, bytes] = field(default_factory=dict)
    extensions: dict[bytes, bytes] = field(default_factory=lambda: dict(OPENSSH))
    most: int = 1 << 30  # bytes that one READ gives
    shuffle: random.Random | None = None  # replies in any order
    limits: tuple[int, int, int, int] = (262144, 261120, 261120, 1000)
    full_at: int | None = None  # bytes of a file at which the disk is full
    twist: Callable[[int, bytes, bytes], bytes | None] = lambda kind, request, reply: reply
    inbox: bytearray = field(default_factory=bytearray)
    waiting: list[bytes] = field(default_factory=list)
    handles: dict[bytes, bytes] = field(default_factory=dict)
    seen: list[tuple[int, bytes]] = field(default_factory=list)
    listed: set[bytes] = field(default_factory=set)  # handles of which all names were given
    opened: int = 0

    def feed(self, data: bytes) -> None:
        """Take bytes of the client."""
        self.inbox += data
        while len(self.inbox) >= 4:
            (length,) = unpack_from(">I", self.inbox)
            if len(self.inbox) < 4 + length:
                return
            message = bytes(self.inbox[4 : 4 + length])
            del self.inbox[: 4 + length]
            kind, body = message[0], message[1:]
            self.seen.append((kind, body))
            reply = self.twist(kind, body, self.reply(kind, body))
            if reply is not None:
                self.waiting.append(reply)

    def drain(self) -> bytes:
        """Return what is to be said now."""
        if self.shuffle is not None:
            self.shuffle.shuffle(self.waiting)
        sent, self.waiting = b"".join(self.waiting), []
        return sent

    def reply(self, kind: int, body: bytes) -> bytes:
        """Return the right answer."""
        if kind == wire.INIT:
            pairs = [text(name) + text(value) for name, value in self.extensions.items()]
            return packet(wire.VERSION, pack(">I", 3), *pairs)
        number, rest = body[:4], body[4:]
        first, at = wire.take_string(rest, 0)
        if kind == wire.EXTENDED:
            if first == b"limits@openssh.com":
                return packet(wire.EXTENDED_REPLY, number, pack(">4Q", *self.limits))
            if first == b"statvfs@openssh.com":
                free = 0 if self.full_at is not None else 9
                numbers = (512, 512, 100, free, free, 9, 9, 9, 1, 0, 255)
                return packet(wire.EXTENDED_REPLY, number, pack(">11Q", *numbers))
            return self.status(number, 0)
        if kind == wire.OPEN:
            (flags,) = unpack_from(">I", rest, at)
            if first not in self.files and not flags & wire.FXF_CREAT:
                return self.status(number, 2)
            if flags & wire.FXF_TRUNC or first not in self.files:
                self.files[first] = bytearray()
            self.opened += 1
            handle = b"h%d" % self.opened
            self.handles[handle] = first
            return packet(wire.HANDLE, number, text(handle))
        if kind == wire.CLOSE:
            return self.status(number, 0 if self.handles.pop(first, None) is not None else 4)
        if kind in (wire.READ, wire.WRITE):
            data = self.files[self.handles[first]]
            offset, size = unpack_from(">QI", rest, at)
            if kind == wire.READ:
                part = bytes(data[offset : offset + min(size, self.most)])
                return packet(wire.DATA, number, text(part)) if part else self.status(number, 1)
            if self.full_at is not None and offset + size > self.full_at:
                return self.status(number, 4)
            data[len(data) :] = bytes(max(0, offset + size - len(data)))
            data[offset : offset + size] = rest[at + 12 :]
            return self.status(number, 0)
        if kind == wire.OPENDIR and first not in self.folders:
            return self.status(number, 2)
        if kind == wire.OPENDIR:
            self.opened += 1
            handle = b"d%d" % self.opened
            self.handles[handle] = first
            return packet(wire.HANDLE, number, text(handle))
        if kind == wire.READDIR:
            entries, self.listed = self.folders[self.handles[first]], self.listed ^ {first}
            if first not in self.listed:
                return self.status(number, 1)
            return self.names(number, entries)
        if kind in (wire.READLINK, wire.REALPATH):
            return self.names(number, [(self.links.get(first, first), 0)])
        if kind in (wire.STAT, wire.LSTAT) and first in self.folders:
            return packet(wire.ATTRS, number, wire.encode_setting(mode=stat.S_IFDIR | 0o755))
        if kind in (wire.STAT, wire.LSTAT, wire.FSTAT):
            name = self.handles.get(first, first) if kind == wire.FSTAT else first
            if name not in self.files:
                return self.status(number, 2)
            mode = stat.S_IFREG | 0o644
            return packet(
                wire.ATTRS, number, wire.encode_setting(size=len(self.files[name]), mode=mode)
            )
        return self.status(number, 0)

    def names(self, number: bytes, entries: list[tuple[bytes, int]]) -> bytes:
        """Return a NAME reply; files are said to have one byte."""
        parts = [
            text(name) + text(b"") + wire.encode_setting(size=1, mode=mode or None)
            for name, mode in entries
        ]
        return packet(wire.NAME, number, pack(">I", len(parts)), *parts)

    def status(self, number: bytes, code: int) -> bytes:
        """Return a STATUS reply."""
        return packet(wire.STATUS, number, pack(">I", code), text(b""), text(b""))


class FakePipe:
    """The stream between machine and server; `limit` bytes move at a time."""

    def __init__(self, server: FakeServer, limit: int) -> None:
        """Join a server."""
        self.server = server
        self.limit = limit
        self.incoming = bytearray()
        self.delayed = b""
        self.eof = self.is_eof_seen = False
        self.closed = False
        self.rest: int | None = None
        self.turns = 0  # times that something arrived: without a limit, round trips

    def open_further(self) -> bool:
        """At once."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Hand bytes over."""
        part = bytes(data[: self.limit])
        self.server.feed(part)
        return len(part)

    def read_into(self, buffer: memoryview) -> int:
        """Give bytes."""
        part = bytes(self.incoming[: len(buffer)])
        del self.incoming[: len(part)]
        buffer[: len(part)] = part
        self.rest = None
        return len(part)

    def await_message(self, rest: int) -> None:
        """Wake nobody for less."""
        self.rest = rest

    def worth_reading(self) -> bool:
        """Whether the channel in C would make an event now."""
        if self.rest is None:
            return True
        need, have = self.rest, len(self.incoming)
        if not need and have >= 4:
            need = 4 + int.from_bytes(self.incoming[:4], "big")
        return have >= (need or 4) or need > LONGEST

    def explain_end(self) -> str | None:
        """After EOF."""
        return "the server ended the SFTP session" if self.eof and not self.incoming else None

    def check(self) -> None:
        """Never the connection's fault."""

    def get_wait(self) -> Wait:
        """`Bench` knows what to do with it."""
        return self  # type: ignore[return-value]

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def move(self) -> bool:
        """Let some of what the server says arrive; whether there was anything."""
        sent = self.server.drain()
        self.delayed += sent
        part, self.delayed = self.delayed[: self.limit], self.delayed[self.limit :]
        self.incoming += part
        self.turns += bool(part)
        return bool(part)

    def wake(self) -> bool:
        """Let so much arrive that who waits is woken; whether he is."""
        while self.move():
            if self.worth_reading():
                return True
        return False


class Bench:
    """Runs operations against a fake server."""

    def __init__(self, server: FakeServer, limit: int = 1 << 30) -> None:
        """Prepare; every session is with the same server."""
        self.server = server
        self.pipes: list[FakePipe] = []
        self.now = 0.0

        self.limit = limit
        self.sftp = SftpState(self)

    def open(self) -> Op[Pipe]:
        """Open another pipe, at once."""
        self.pipes.append(FakePipe(self.server, self.limit))
        return self.pipes[-1]
        yield

    def get_wait(self) -> Wait:
        """Nobody else opens one."""
        raise Stuck("waits for another's opening")

    def notify(self) -> None:
        """Nobody waits."""

    def clock(self) -> float:
        """Return a time that passes a little with every look."""
        self.now += 0.001
        return self.now

    def run(self, op: Op[T], steps: int = 100_000) -> T:
        """Run an operation to its end; raises Stuck if it waits for nothing."""
        answer: Any = None
        error: BaseException | None = None
        for _ in range(steps):
            try:
                need = op.send(answer) if error is None else op.throw(error)
            except StopIteration as done:
                value: T = done.value
                return value
            answer = error = None
            if isinstance(need, Checkpoint):
                continue
            if isinstance(need, RunBlocking):
                try:
                    answer = need.call(None)
                except BaseException as raised:
                    error = raised
            elif not self.pipes[-1].wake():
                if self.pipes[-1].eof:
                    if self.pipes[-1].is_eof_seen:
                        error = Stuck("waits after the end")
                    self.pipes[-1].is_eof_seen = True
                else:
                    # One more look: what it waits for may be room for its own bytes.
                    before = len(self.server.seen), len(self.server.inbox)
                    op_waits = self.pipes[-1]
                    if self.sftp._current is not None:
                        self.sftp._current.step()
                    after = len(self.server.seen), len(self.server.inbox)
                    if before == after and not op_waits.wake():
                        error = Stuck("nothing will come")
        raise Stuck(f"not done after {steps} steps")
