"""`AsyncProcess` and `AsyncInteractiveShell`: what runs while tasks talk with it."""

from __future__ import annotations

import contextlib
from time import monotonic

from .._connect.async_connect import AsyncSession
from .._native.link import Channel
from .._policy.result import SSHResult
from .._protocol import process as ops
from .._protocol.core import DeadlineExceeded
from .._runtime.anyio_streams import ByteStream, stapled
from ..errors import CommandTimeout
from .arguments import check_number
from .async_streams import AsyncFlow, AsyncReader, AsyncWriter
from .closing import AsyncClosing
from .documented import details_of
from .process import Process
from .remote_process import Command, Shell, typed

__all__ = ["AsyncInteractiveShell", "AsyncProcess"]

#: Seconds that `AsyncInteractiveShell.read` waits for the first bytes, and then for more.
FIRST, QUIET = 2.0, 0.05
#: Seconds that leaving its block waits for the shell to end.
LEAVING = 2.0


class AsyncProcess(Command[AsyncFlow], AsyncClosing):
    """A running command; made by `AsyncConnection.popen`, best used in an ``async with`` block.

    Leaving the block ends the command, as for `Process`.

    Its streams are binary.  stdout and stderr share one flow-control window:
    who reads only one of them must expect the command to stop once 2 MiB of the
    other are unread; a stream that was closed (`aclose`) counts as read.

    Attributes:
        stdin: `write`, and `close` for end of file; an `anyio.abc.ByteSendStream`.
        stdout, stderr: `read`, `readline` and ``async for`` over lines; each an
            `anyio.abc.ByteReceiveStream`.
        stream: stdin and stdout as one `anyio.abc.ByteStream`.
        returncode: the exit status, as far as `poll` or `wait` saw it; None: it
            runs; -1: a signal ended it, or the server never said.
        signal: the name of that signal without "SIG", or None.
    """

    def __init__(self, session: AsyncSession, channel: Channel, timeout: float) -> None:
        flow = AsyncFlow(session, channel, timeout)
        super().__init__(flow)
        self.stdin = AsyncWriter(flow)
        self.stdout = AsyncReader(flow, 0)
        self.stderr = AsyncReader(flow, 1)
        self.stream: ByteStream = stapled(self.stdin, self.stdout)

    @details_of(Process.wait)
    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards."""
        if self.returncode is None:
            limit = None if timeout is None else check_number(timeout, "seconds")
            self._note(await self._flow.run(ops.wait(self._channel, self._flow.unread), limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    async def aclose(self) -> None:
        """`close` for ``async with``."""
        self.close()

    async def _leave(self) -> None:
        """End the command: see `Command._endings`."""
        if self._closed:
            return
        self.stdin.close()
        for seconds in self._endings():
            with contextlib.suppress(CommandTimeout):
                await self.wait(seconds)
                return


class AsyncInteractiveShell(Shell[AsyncSession], AsyncClosing):
    """A shell on a channel of its own; made by `AsyncConnection.shell`, a context manager.

    Leaving the block says ``exit`` to a terminal's shell, ends the input of any other,
    and waits up to 2 s (the connection's time limit, if that is shorter) for its end.

    Attributes:
        result: after the block, everything that came and was not read before; status
            -1 if the shell had not ended when the time was over, or was closed in it.
    """

    def __init__(
        self, session: AsyncSession, channel: Channel, pty: ops.Pty | None, timeout: float
    ) -> None:
        super().__init__(session, channel, pty)
        self._timeout = timeout

    async def send(self, data: str | bytes, add_newline: bool | None = True) -> None:
        """Type a line.

        Raises:
            ChannelError: the shell has ended.
        """
        line = typed(data, add_newline)
        await self._session.call(ops.write(self._channel, line), self._timeout or None, "shell")

    async def read(self) -> SSHResult:
        """What has arrived: waits 2 s for the first bytes, then until 50 ms pass without more.

        May be called again and again; the status is -1 until the shell has ended.
        Where no more can come, the same time is given to its end.
        """
        patience = FIRST
        with contextlib.suppress(DeadlineExceeded):
            while await self._session.run(
                ops.read_any(self._channel, self._out, self._err), monotonic() + patience, "shell"
            ):
                patience = QUIET
            # A server sends the status after the end of output.
            await self._session.run(ops.wait(self._channel), monotonic() + patience, "shell")
        return self._taken(ops.exit_of(self._channel))

    async def close(self) -> None:
        """Close the channel; the server ends the shell; idempotent."""
        self._free()

    aclose = close

    async def _leave(self) -> None:
        if self._closed:
            self.result = self._taken(None)
            return
        ended = None
        with contextlib.suppress(CommandTimeout):
            limit = min(self._timeout or LEAVING, LEAVING)
            ended = await self._session.call(self._goodbye(), limit, "shell")
        self.result = self._taken(ended)
