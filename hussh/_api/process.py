"""`Process`: a command that runs while you read and write, like `subprocess.Popen`.

`Connection.popen` makes one. `remote_process.py` has what it shares with `AsyncProcess`. Nothing
here knows the protocol.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any, TypeVar

from .._connect.connect import Session
from .._native.channel import Channel
from .._policy.connection_options import Milliseconds
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import ChannelError, CommandTimeout, HusshError, Phase
from .arguments import check_number
from .closing import Closing
from .remote_process import PATIENCE, Command, Flow

__all__ = ["Process"]

T = TypeVar("T")


class _Flow(Flow[Session]):
    #: Whether streams give only what they have in their buffers.
    only_buffered = False

    def run(self, op: Op[T], seconds: float | None = None) -> T:
        limit = self.timeout if seconds is None else seconds
        return self.session.call(op, limit or None, Phase.EXEC)


class _Output(io.RawIOBase):
    """stdout or stderr of the command; `readinto` waits for at least one byte."""

    def __init__(self, flow: _Flow, stream: int) -> None:
        self._flow = flow
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        flow = self._flow
        if flow.only_buffered:
            return 0
        flow.was_read = True
        part = flow.run(ops.read(flow.channel, self._stream, len(view)))
        view[: len(part)] = part
        return len(part)


class _Input(io.RawIOBase):
    """stdin of the command; closing it is its end of file."""

    def __init__(self, flow: _Flow) -> None:
        self._flow = flow

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._flow.was_written = True
        return self._flow.run(ops.write(self._flow.channel, data))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._flow.end_input()


class Process(Command[_Flow], Closing):
    """A running command; made by `Connection.popen`, best used in a ``with`` block.

    Leaving the block ends the command. It closes the command's stdin first. A command that may end
    by itself gets 2 s for that: you have written to it, or its output has ended, or you have read
    nothing of it. After that, and for any other command at once, TERM is sent, and KILL 2 s later.

    Its streams are binary. stdout and stderr share one flow-control window. A program that reads
    only one of them must expect the command to stop once 2 MiB of the other are unread.

    Attributes:
        stdin: writable; closing it is end of file for the command.
        stdout, stderr: readable while the command runs, also line by line.
        returncode: the exit status, as far as `poll` or `wait` saw it. It is None while the
            command runs, and -1 if a signal ended it or the server never told.
        signal: the name of that signal without "SIG", or None.
    """

    def __init__(self, session: Session, channel: Channel, timeout: float | None) -> None:
        flow = _Flow(session, channel, timeout)
        super().__init__(flow)
        self.stdin: io.BufferedWriter[_Input] = io.BufferedWriter(_Input(flow))
        self.stdout: io.BufferedReader[_Output] = io.BufferedReader(_Output(flow, 0))
        self.stderr: io.BufferedReader[_Output] = io.BufferedReader(_Output(flow, 1))

    def wait(self, timeout: Milliseconds | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards.

        Args:
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.

        Raises:
            CommandTimeout: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            limit = None if timeout is None else check_number(timeout, "milliseconds") / 1000
            self._note(self._flow.run(ops.wait(self._channel, self._flow.unread), limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    def communicate(
        self, input: str | bytes | None = None, timeout: Milliseconds | None = None
    ) -> tuple[bytes, bytes]:
        """Send all of `input`, end the command's stdin, and read until the command has ended.

        Args:
            input: text is sent as UTF-8; the command need not read it.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.

        Returns:
            What came on stdout and stderr and was not read before. `returncode` is set.

        Raises:
            CommandTimeout: it still runs, and nothing was done to it; `.result` has what came.
                Nothing is lost: the next call goes on where this one stopped, with its `input`.
        """
        limit = None if timeout is None else check_number(timeout, "milliseconds") / 1000
        with contextlib.suppress(ValueError, ChannelError):  # it is closed, or not read any more
            self.stdin.flush()
        flow = self._flow
        try:
            flow.only_buffered = True
            out, err = (_take_buffered(stream) for stream in (self.stdout, self.stderr))
        finally:
            flow.only_buffered = False
        try:
            self._note(flow.run(self._talk(input, out, err), limit))
        except HusshError as error:
            error.result = self._copy_output()
            raise
        return self._end_talk()

    def __iter__(self) -> Iterator[bytes]:
        """Return an iterator over the lines of stdout."""
        return iter(self.stdout)

    def _let_go(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.close()

    def _leave(self) -> None:
        """End the command: see `Command._end_command`."""
        if self._closed:
            return
        flow = self._flow
        flow.timeout = min(flow.timeout or PATIENCE, PATIENCE)
        with contextlib.suppress(OSError):  # it may read no more
            self.stdin.close()
        for seconds in self._end_command():
            with contextlib.suppress(CommandTimeout):
                self.wait(seconds * 1000)
                return


def _take_buffered(stream: io.BufferedReader[_Output]) -> bytes:
    return b"" if stream.closed else stream.read(len(stream.peek()))
