"""A driver that steps operations by hand: no thread, no clock, and over memory no socket either.

For ``tests/streams`` and ``scripts/fuzz``. It wakes an operation only for an event of the link or
channel that it waits for, so that an event that the code under test forgets shows as a hang: the
tree has settled, the operation has not ended, and nothing more will come (``Hang``).

Where the bytes come from and go to is the business of ``streams_peers``.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import select
import socket
import struct
import termios
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from hussh._native._libssh2 import lib
from hussh._native.constants import MORE
from hussh._native.link import Link
from hussh._policy.options import Options
from hussh._protocol.channel import open_direct
from hussh._protocol.core import Checkpoint, Op, RunBlocking, WaitFor
from hussh._protocol.execute import Execution, execute
from hussh._protocol.handshake import HopAttempt, establish
from hussh._protocol.host_key_check import read_recorded
from hussh._results.ssh_result import SSHResult
from hussh._runtime.thread_driver import BUDGET

__all__ = [
    "Command",
    "Hang",
    "Memory",
    "Pipes",
    "SocketPair",
    "Task",
    "Tree",
    "Wire",
    "heap_in_use",
    "live_objects",
    "session",
]

T = TypeVar("T")


class _Mallinfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = (
        *((f"other{number}", ctypes.c_size_t) for number in range(7)),
        ("used", ctypes.c_size_t),
        ("free", ctypes.c_size_t),
        ("keepcost", ctypes.c_size_t),
    )


def heap_in_use(*, collect: bool = True) -> int:
    """Bytes that malloc has given out in this process: OpenSSL's, libssh2's and ours.

    Python's own small objects do not count, and its garbage is collected first unless that takes
    too long. Always 0 where the C library cannot tell.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if mallinfo is None:
        return 0
    mallinfo.restype = _Mallinfo
    if collect:
        gc.collect()
    return int(mallinfo().used)


class Hang(AssertionError):
    """An operation waits for something that will never happen."""


def live_objects() -> int:
    """Links and channels that C holds in this process, and blocks that libssh2 leaked."""
    return int(lib.hussh_live())


class Task(Generic[T]):
    """One running operation; `value` or `error` once it is `done`."""

    def __init__(self, op: Op[T]) -> None:
        self._op = op
        self.token: int | None = None
        self.done = False
        self.value: T | None = None
        self.error: BaseException | None = None
        self.step()

    def step(self) -> None:
        """Run until the operation waits for a link or a channel, or ends."""
        answer: Any = None
        raised: BaseException | None = None
        try:
            while True:
                need = self._op.send(answer) if raised is None else self._op.throw(raised)
                if isinstance(need, WaitFor):
                    self.token = need.of.token
                    return
                if isinstance(need, Checkpoint):
                    answer = raised = None
                    continue
                answer, raised = _call(need)
        except StopIteration as done:
            self.value = done.value
        except BaseException as error:
            self.error = error.with_traceback(None)  # frames would keep C objects alive
        self.done = True

    def drop(self) -> None:
        """Cancel the operation if it still runs."""
        self._op.close()

    def outcome(self) -> T:
        """The value, or the error raised; Hang if there is neither."""
        if not self.done:
            raise Hang("the operation waits, and nothing more will come")
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]


def _call(need: RunBlocking) -> tuple[Any, BaseException | None]:
    try:
        return need.call(None), None
    except Exception as error:
        return None, error


class Wire(Protocol):
    """What carries a root link, seen from the peer's end; nothing here ever blocks."""

    root: Link

    def feed(self, data: bytes | memoryview) -> int:
        """Give bytes to the client; returns how many went in. None at all: end of stream."""

    def drain(self, size: int) -> bytes:
        """Take at most size bytes of what the client said."""

    def pending(self) -> bool:
        """Whether the client said more than was taken."""

    def arrived(self) -> bool:
        """Whether the kernel holds bytes for the client, or the end of the stream."""

    def close(self) -> None:
        """Let go of what is not the link's own."""


class Memory:
    """A memory link."""

    def __init__(self) -> None:
        self.root = Link.over_memory()

    def feed(self, data: bytes | memoryview) -> int:
        self.root.feed(data)
        return len(data)

    def drain(self, size: int) -> bytes:
        return self.root.drain(size) if size else b""

    def pending(self) -> bool:
        return bool(self.root.get_info().queued)  # a dead link, too, says what it has said

    def arrived(self) -> bool:
        return False

    def close(self) -> None:
        return


class _Descriptors:
    """A link over file descriptors, the other ends held here."""

    root: Link

    def __init__(self, read_fd: int, write_fd: int, peer_read: int, peer_write: int) -> None:
        for fd in (read_fd, write_fd, peer_read, peer_write):
            os.set_blocking(fd, False)
        self._peer_read, self._peer_write = peer_read, peer_write
        self.root = Link.over_fds(read_fd, write_fd)
        self._poll = select.poll()
        self._poll.register(read_fd, select.POLLIN)

    def feed(self, data: bytes | memoryview) -> int:
        try:
            return os.write(self._peer_write, data)
        except BlockingIOError:
            return 0

    def drain(self, size: int) -> bytes:
        try:
            return os.read(self._peer_read, size) if size else b""
        except BlockingIOError:
            return b""

    def pending(self) -> bool:
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._peer_read, termios.FIONREAD, b"\0" * 4))
        return bool(waiting) or bool(self.root.get_info().queued and not self.root.dead)

    def arrived(self) -> bool:
        return not self.root.dead and bool(self._poll.poll(0))


class SocketPair(_Descriptors):
    """A link over a socket with the smallest buffer there is: most writes are short."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        ours, theirs = self._ours.fileno(), self._theirs.fileno()
        super().__init__(ours, ours, theirs, theirs)

    def feed(self, data: bytes | memoryview) -> int:
        if len(data):
            return super().feed(data)
        self._theirs.shutdown(socket.SHUT_WR)
        return 0

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class Pipes(_Descriptors):
    """A link over two pipes of one page each."""

    def __init__(self) -> None:
        self._in, self._out = os.pipe(), os.pipe()
        fcntl.fcntl(self._out[1], fcntl.F_SETPIPE_SZ, 4096)
        self._open = {*self._in, *self._out}
        super().__init__(self._in[0], self._out[1], self._out[0], self._in[1])

    def feed(self, data: bytes | memoryview) -> int:
        if len(data):
            return super().feed(data)
        self._open.discard(self._in[1])
        os.close(self._in[1])
        return 0

    def close(self) -> None:
        while self._open:
            os.close(self._open.pop())


class Tree:
    """A root link, the links over it, and the operations that run on them."""

    def __init__(self, wire: Callable[[], Wire] = Memory) -> None:
        self.wire = wire()
        self.root = self.wire.root
        self.links = [self.root]  # outer before inner
        self._tasks: list[Task[Any]] = []

    def start(self, op: Op[T]) -> Task[T]:
        task = Task(op)
        self._tasks.append(task)
        return task

    def settle(self) -> None:
        """Pump and step until nothing moves any more."""
        while True:
            flags = self.root.pump(BUDGET)
            awake = set(self.root.take_events())
            ready = [task for task in self._tasks if not task.done and task.token in awake]
            for task in ready:
                task.step()
            if not ready and not flags & MORE and not self.wire.arrived():
                return

    @property
    def busy(self) -> bool:
        return not all(task.done for task in self._tasks)

    def disconnect(self) -> None:
        """Say goodbye on every link, inside out, as a driver does."""
        for link in reversed(self.links):
            link.disconnect()
            self.root.flush()
            if link.outer is not None:
                link.kill()
                link.outer.free()
        self.settle()

    def close(self) -> None:
        """Cancel what runs and free every C object now."""
        for task in self._tasks:
            task.drop()
        for link in reversed(self.links):
            link.free()
            if link.outer is not None:
                link.outer.free()
        self.wire.close()

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


Command = tuple[bytes, bytes]  # the command and its stdin


def _no_agent(
    path: str, request: bytes, note: str, touch: bool = False, bind: bytes = b""
) -> RunBlocking:
    raise OSError("these tests have no agent")


def session(
    tree: Tree,
    hops: Sequence[Options],
    commands: Sequence[Command],
    before_hop: Callable[[int], None] | None = None,
) -> Op[list[SSHResult]]:
    """Connect hop by hop over the root, run commands one after the other on the last hop.

    ``before_hop`` is called with the hop's number before its link speaks.
    """
    link = tree.root
    for index, options in enumerate(hops):
        hop = HopAttempt.to(options, index)
        if index:
            channel = yield from open_direct(link, options.host, options.port, "the bastion")
            link = Link.over_channel(channel)
            tree.links.append(link)
        if before_hop is not None:
            before_hop(index)
        hop.known = read_recorded(options)
        hop.begin(link)
        yield from establish(hop, _no_agent)
    results = []
    for command, stdin in commands:
        results.append((yield from execute(link, command, Execution(stdin=stdin))))
    return results
