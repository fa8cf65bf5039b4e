"""`AsyncProcess` and `AsyncShell`: commands and shells that run while tasks talk with them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from time import monotonic
from types import TracebackType
from typing import TypeVar

from .._drive.loop_connect import AsyncSession
from .._native.link import Channel
from .._policy.result import SSHResult
from .._policy.wire import string
from .._protocol import process as ops
from .._protocol.core import DeadlineExceeded, Op
from ..errors import CommandTimeout, HusshError
from .arguments import check_number

__all__ = ["AsyncProcess", "AsyncReader", "AsyncShell", "AsyncWriter"]

T = TypeVar("T")

CHUNK = 1 << 16
#: Seconds that `AsyncShell.read` waits for the first bytes, and then for more.
FIRST, QUIET = 2.0, 0.05


class _Running:
    """What a process and a shell have in common."""

    def __init__(self, session: AsyncSession, channel: Channel, timeout: float) -> None:
        self._session = session
        self._channel = channel
        self._timeout = timeout
        self._input_ended = False

    async def _run(self, op: Op[T], phase: str, seconds: float | None = None) -> T:
        limit = self._timeout if seconds is None else seconds
        return await self._session.call(op, limit or None, phase)

    def _end_input(self) -> None:
        if not self._input_ended:
            self._input_ended = True
            with self._session.tree.mine() as root:
                if not root.freed and not self._channel.link.dead:
                    if not self._channel.look().closed:
                        self._channel.eof()
                    root.flush()

    def _free(self) -> None:
        with self._session.tree.mine() as root:
            self._channel.free()
            if not root.freed:
                root.flush()


class AsyncReader:
    """stdout or stderr of an `AsyncProcess`; one task at a time may read it."""

    def __init__(self, process: AsyncProcess, stream: int) -> None:
        self._process = process
        self._stream = stream
        self._buffer = bytearray()
        self._ended = False

    async def read(self, size: int = -1) -> bytes:
        """What is there, at least one byte and at most `size`; -1: everything to the end.

        Empty at the end of the stream.
        """
        while (size < 0 or not self._buffer) and size and await self._fill():
            pass
        return self._take(len(self._buffer) if size < 0 else size)

    async def readline(self) -> bytes:
        """A line with its end; the last one may lack that; empty at the end of the stream."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if not await self._fill():
                return self._take(searched)
        return self._take(end + 1)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while line := await self.readline():
            yield line

    async def _fill(self) -> bool:
        if not self._ended:
            process = self._process
            part = await process._run(ops.read(process._channel, self._stream, CHUNK), "exec")
            self._buffer += part
            self._ended = not part
        return not self._ended

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class AsyncWriter:
    """stdin of an `AsyncProcess`."""

    def __init__(self, process: AsyncProcess) -> None:
        self._process = process

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Hand over all of `data`, waiting for the command to read; returns its length.

        Raises:
            ChannelError: the command has ended and reads no more.
        """
        return await self._process._run(ops.write(self._process._channel, data), "exec")

    def close(self) -> None:
        """End of file for the command."""
        self._process._end_input()


class AsyncProcess(_Running):
    """A running command; made by `AsyncConnection.popen`, best used in ``async with``.

    Its streams are binary.  stdout and stderr share one flow-control window:
    who reads only one of them must expect the command to stop once 2 MiB of the
    other are unread.

    Attributes:
        stdin: `write`, and `close` for end of file.
        stdout, stderr: `read`, `readline` and ``async for``.
        returncode: the exit status, as far as `poll` or `wait` saw it; None: it
            runs; -1: a signal ended it, or the server never said.
        signal: the name of that signal without "SIG", or None.
    """

    def __init__(self, session: AsyncSession, channel: Channel, timeout: float) -> None:
        super().__init__(session, channel, timeout)
        self.returncode: int | None = None
        self.signal: str | None = None
        self.stdin = AsyncWriter(self)
        self.stdout = AsyncReader(self, 0)
        self.stderr = AsyncReader(self, 1)

    def _note(self, ended: ops.Exit | None) -> int | None:
        if ended is not None:
            self.returncode, self.signal = ended.status, ended.signal
        return self.returncode

    def poll(self) -> int | None:
        """The exit status if the command has ended, as far as its messages were read."""
        if self.returncode is None:
            with self._session.tree.my_fresh():
                self._note(ops.exit_of(self._channel))
        return self.returncode

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards.

        Args:
            timeout: **seconds**; None: the connection's; 0: no limit.

        Raises:
            CommandTimeout: it still runs; nothing was done to it.
        """
        if self.returncode is None:
            limit = None if timeout is None else check_number(timeout, "seconds")
            self._note(await self._run(ops.wait(self._channel), "exec", limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    def send_signal(self, name: str) -> None:
        """Ask the server to send a signal, named without "SIG" (RFC 4254 section 6.9)."""
        with self._session.tree.mine() as root:
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
        self._free()

    async def __aenter__(self) -> AsyncProcess:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """As `subprocess.Popen`: end of input, wait for the end, close; on an error, kill."""
        try:
            if kind is None:
                self.stdin.close()
                await self.wait()
        finally:
            self.close()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<AsyncProcess on {self._session.hop}: {state}>"


class AsyncShell(_Running):
    """A shell on a channel of its own; made by `AsyncConnection.shell`, a context manager.

    Attributes:
        result: after the block, everything that came and was not read before; status
            -1 if the shell had not ended when the time was over.
    """

    def __init__(
        self, session: AsyncSession, channel: Channel, pty: ops.Pty | None, timeout: float
    ) -> None:
        super().__init__(session, channel, timeout)
        self._pty = pty
        self._out = bytearray()
        self._err = bytearray()
        self.result: SSHResult | None = None

    async def send(self, data: str | bytes, add_newline: bool = True) -> None:
        """Type a line.

        Raises:
            ChannelError: the shell has ended.
        """
        raw = data.encode() if isinstance(data, str) else bytes(data)
        line = raw + b"\n" if add_newline and not raw.endswith(b"\n") else raw
        await self._run(ops.write(self._channel, line), "shell")

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its new size, in characters (RFC 4254 section 6.7)."""
        with self._session.tree.mine() as root:
            self._channel.request(b"window-change", ops.Pty("", columns, rows).window_change())
            root.flush()

    async def read(self) -> SSHResult:
        """What has arrived: waits 2 s for the first bytes, then until 50 ms pass without more.

        May be called again and again; the status is -1 until the shell has ended.
        """
        patience = FIRST
        with contextlib.suppress(DeadlineExceeded):
            while await self._session.run(
                ops.read_any(self._channel, self._out, self._err), monotonic() + patience, "shell"
            ):
                patience = QUIET
        return self._take(ops.exit_of(self._channel))

    async def close(self) -> None:
        """Close the channel; the server ends the shell; idempotent."""
        self._free()

    async def __aenter__(self) -> AsyncShell:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say ``exit`` to a terminal's shell, read to the end into `result`, close."""
        try:
            if kind is None:
                if self._pty is not None:
                    with contextlib.suppress(HusshError):  # it may have ended by itself
                        await self.send("exit")
                ended = None
                with contextlib.suppress(CommandTimeout):
                    ended = await self._run(self._drain(), "shell")
                self.result = self._take(ended)
        finally:
            self._free()

    def _drain(self) -> Op[ops.Exit]:
        self._end_input()
        while (yield from ops.read_any(self._channel, self._out, self._err)):
            pass
        return (yield from ops.wait(self._channel))

    def _take(self, ended: ops.Exit | None) -> SSHResult:
        out, err = bytes(self._out), bytes(self._err)
        self._out.clear()
        self._err.clear()
        status, signal = (-1, None) if ended is None else (ended.status, ended.signal)
        return SSHResult(out, err, status, signal)
