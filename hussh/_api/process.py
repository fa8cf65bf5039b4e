"""`Process`: a command that runs while you read and write, like `subprocess.Popen`."""

from __future__ import annotations

import contextlib
import io
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from .._native.link import Channel
from .._policy.wire import string
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import ConnectionClosed, HusshError

if TYPE_CHECKING:
    from .._drive.connect import Session

__all__ = ["Process"]

T = TypeVar("T")


class _Output(io.RawIOBase):
    """stdout or stderr of the command; `readinto` waits for at least one byte."""

    def __init__(self, process: Process, stream: int) -> None:
        self._process = process
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        part = self._process._run(ops.read(self._process._channel, self._stream, len(view)))
        view[: len(part)] = part
        return len(part)


class _Input(io.RawIOBase):
    """stdin of the command; closing it is its end of file."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        return self._process._run(ops.write(self._process._channel, view))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._process._end_input()


class Process:
    """A running command; made by `Connection.popen`.

    Its streams are binary.  stdout and stderr share one flow-control window:
    who reads only one of them must expect the command to stop once 2 MiB of the
    other are unread.

    Attributes:
        stdin: writable; closing it is end of file for the command.
        stdout, stderr: readable while the command runs, also line by line.
        returncode: the exit status, as far as `poll` or `wait` saw it; None: it
            runs; -1: a signal ended it, or the server never said.
        signal: the name of that signal without "SIG", or None.
    """

    def __init__(self, session: Session, channel: Channel, timeout: float | None) -> None:
        self._session = session
        self._channel = channel
        self._timeout = timeout
        self.returncode: int | None = None
        self.signal: str | None = None
        self.stdin = io.BufferedWriter(_Input(self))
        self.stdout = io.BufferedReader(_Output(self, 0))
        self.stderr = io.BufferedReader(_Output(self, 1))

    def _run(self, op: Op[T], seconds: float | None = None) -> T:
        return self._session.call(op, self._timeout if seconds is None else seconds, "exec")

    def _end_input(self) -> None:
        with contextlib.suppress(ConnectionClosed), self._session.tree.locked() as root:
            if not self._channel.link.dead and not self._channel.look().closed:
                self._channel.eof()
                root.flush()

    def _note(self, ended: ops.Exit | None) -> int | None:
        if ended is not None:
            self.returncode, self.signal = ended.status, ended.signal
        return self.returncode

    def poll(self) -> int | None:
        """The exit status if the command has ended, as far as its messages were read."""
        if self.returncode is None:
            with self._session.tree.locked() as root:
                if not root.freed:
                    root.pump(0)
                self._note(ops.exit_of(self._channel))
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards.

        Args:
            timeout: **milliseconds**; None: the connection's.

        Raises:
            CommandTimeout: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            limit = None if timeout is None else timeout / 1000
            self._note(self._run(ops.wait(self._channel), limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    def send_signal(self, name: str) -> None:
        """Ask the server to send a signal, named without "SIG" (RFC 4254 section 6.9)."""
        with self._session.tree.locked() as root:
            if ops.exit_of(self._channel) is None:
                self._channel.request(b"signal", string(name.removeprefix("SIG").encode()))
                root.flush()

    def terminate(self) -> None:
        """`send_signal("TERM")`."""
        self.send_signal("TERM")

    def kill(self) -> None:
        """`send_signal("KILL")`."""
        self.send_signal("KILL")

    def close(self) -> None:
        """Kill the command if it still runs, and close its channel; idempotent."""
        with contextlib.suppress(HusshError):  # there may be no connection any more
            if self.poll() is None:
                self.kill()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        with self._session.tree.locked() as root:
            self._channel.free()
            if not root.freed:
                root.flush()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As `subprocess.Popen`: end of input, wait for the end, close; on an error, kill."""
        try:
            if kind is None:
                with contextlib.suppress(OSError):  # it may read no more
                    self.stdin.close()
                self.wait()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<Process on {self._session.hop}: {state}>"
