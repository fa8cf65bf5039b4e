"""Helpers of the sharing tests: many threads at once, and a driver that the test steps by hand.

For tests in this directory only.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from hussh._native.constants import EVENTS, MORE, WANT_WRITE
from hussh._native.link import Link
from hussh._policy.connection_options import add_defaults
from hussh._policy.options import Options
from hussh._policy.wire import string
from hussh._protocol.core import Op, RunBlocking
from hussh._protocol.handshake import HopAttempt, establish
from hussh._protocol.host_key_check import read_recorded
from tests.support import idle_thread

T = TypeVar("T")
LONG = bool(os.environ.get("HUSSH_LONG"))
PATIENCE = 60.0  # seconds until something counts as hung


def together(count: int, job: Callable[[int], T], patience: float = PATIENCE) -> list[T]:
    """Run `job(0)` … `job(count - 1)` in threads that start at once; their results in order.

    Raises what the first of them raised, or TimeoutError if one hangs.
    """
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def work(number: int) -> None:
        try:
            start.wait(patience)
            results[number] = job(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    join(threads, patience)
    if errors:
        raise errors[0]
    return [results[number] for number in range(count)]


def join(threads: Sequence[threading.Thread], patience: float = PATIENCE) -> None:
    """Join all; TimeoutError if one still runs after `patience` seconds."""
    deadline = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    hung = [thread.name for thread in threads if thread.is_alive()]
    if hung:
        raise TimeoutError(f"still running: {', '.join(hung)}")


class Job(threading.Thread):
    """One call in a thread; `result()` waits for it."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Start it."""
        super().__init__(daemon=True)
        self._call = call
        self._arguments = arguments
        self._value: Any = None
        self._error: BaseException | None = None
        self.ended = 0.0  # of time.monotonic()
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._value = self._call(*self._arguments)
        except BaseException as error:
            self._error = error
        self.ended = time.monotonic()

    def result(self, patience: float = PATIENCE) -> Any:
        """What the call returned, or raise what it raised."""
        join([self], patience)
        if self._error is not None:
            raise self._error
        return self._value


def descriptors() -> int:
    """Return how many file descriptors this process holds, once the idle thread's are closed."""
    idle_thread.settle()
    return len(os.listdir("/proc/self/fd"))


def listeners() -> set[str]:
    """Return the local addresses on which this very process listens for TCP."""
    held = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # other threads close theirs meanwhile
            held.add(os.readlink(f"/proc/self/fd/{name}"))
    found = set()
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        rows = [row.split() for row in Path(table).read_text().splitlines()[1:]]
        found |= {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}
    return found


class Stepper:
    """One link over a socket, and operations on it that move only when the test says so."""

    def __init__(self, fd: int, username: str, **options: Any) -> None:
        """Over a non-blocking, connected socket, which stays the caller's."""
        self.fd = fd
        self.link = Link.over_fds(fd, fd)
        self.options = Options(
            host="127.0.0.1",
            username=username,
            settings=add_defaults(host_key_policy="ignore", agent=False),
            **options,
        )

    def login(self) -> Stepper:
        """Key exchange and authentication."""
        hop = HopAttempt.to(self.options, 0)
        hop.known = read_recorded(self.options)
        hop.begin(self.link)
        self.finish(establish(hop, _no_agent))
        return self

    def pump(self, patience: float = PATIENCE) -> None:
        """Wait until something happened to the link or a channel of it; take the events."""
        deadline = time.monotonic() + patience
        while True:
            flags = self.link.pump(1 << 20)
            if flags & EVENTS:
                self.link.take_events()
                return
            if flags & MORE:
                continue
            poll = select.poll()
            poll.register(self.fd, select.POLLIN | (select.POLLOUT if flags & WANT_WRITE else 0))
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise TimeoutError(f"nothing happened in {patience} s")

    def pump_until_idle(self) -> None:
        """Let everything that was said arrive: a question that the server must answer."""
        replies = self.link.get_info().replies
        self.link.send(b"\x50" + string(b"keepalive@openssh.com") + b"\1")
        while self.link.get_info().replies == replies:
            self.pump()

    def step(self, op: Op[T]) -> list[T]:
        """Resume an operation until it waits; its result, if that was the end."""
        answer: Any = None
        try:
            while isinstance(need := op.send(answer), RunBlocking):
                answer = need.call(None)
        except StopIteration as done:
            return [done.value]
        return []

    def finish(self, op: Op[T]) -> T:
        """Step one operation to its end."""
        while not (done := self.step(op)):
            self.pump()
        return done[0]


def _no_agent(
    path: str, request: bytes, note: str, touch: bool = False, bind: bytes = b""
) -> RunBlocking:
    raise OSError("no agent in these tests")
