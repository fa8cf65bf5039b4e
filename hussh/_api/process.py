"""`Process`: a command that runs while you read and write, like `subprocess.Popen`."""

from __future__ import annotations

import contextlib
import io
from typing import Any, TypeVar

from .._drive.connect import Session
from .._native.link import Channel
from .._protocol import process as ops
from .._protocol.core import Op
from .arguments import check_number
from .closing import Closing
from .running import Command

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
        return self._process._run(ops.write(self._process._channel, data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._process._end_input()


class Process(Command[Session], Closing):
    """A running command; made by `Connection.popen`, best used in a ``with`` block.

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
        super().__init__(session, channel)
        self._timeout = timeout
        self.stdin = io.BufferedWriter(_Input(self))
        self.stdout = io.BufferedReader(_Output(self, 0))
        self.stderr = io.BufferedReader(_Output(self, 1))

    def _run(self, op: Op[T], seconds: float | None = None) -> T:
        limit = self._timeout if seconds is None else seconds
        return self._session.call(op, limit or None, "exec")

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards.

        Args:
            timeout: **milliseconds**; None: the connection's; 0: no limit.

        Raises:
            CommandTimeout: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            limit = None if timeout is None else check_number(timeout, "milliseconds") / 1000
            self._note(self._run(ops.wait(self._channel), limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    def _let_go(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.close()

    def _leave(self) -> None:
        """As `subprocess.Popen`: end of input, then wait for the end."""
        if self._closed:
            return
        with contextlib.suppress(OSError):  # it may read no more
            self.stdin.close()
        self.wait()
