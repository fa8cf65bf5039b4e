"""`AsyncProcess` and `AsyncInteractiveShell`: commands and shells that exchange data with tasks.

`AsyncConnection.popen` and `AsyncConnection.shell` make them. `remote_process.py` has what they
share with the classes for threads. Nothing here knows the protocol or blocks the loop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from time import monotonic

from .._connect.async_connect import AsyncSession
from .._native.channel import Channel
from .._policy.connection_options import Seconds
from .._policy.expect_match import ExpectMatch
from .._protocol import process as ops
from .._protocol.core import DeadlineExceeded
from .._protocol.expect import (
    MAX_BEFORE,
    AnyPattern,
    Compiled,
    check_max_before,
    check_patterns,
    expect,
)
from .._results.ssh_result import SSHResult
from .._runtime.anyio_streams import ByteStream, staple
from ..errors import CommandTimeout, HusshError, Phase
from .arguments import check_number
from .async_streams import AsyncFlow, AsyncReader, AsyncWriter
from .closing import AsyncClosing
from .documented import details_of
from .process import Process
from .remote_process import Command, Shell, encode_line
from .shell import InteractiveShell

__all__ = ["AsyncInteractiveShell", "AsyncProcess"]

#: Seconds that `AsyncInteractiveShell.read` waits for the first bytes, and then for more.
FIRST, QUIET = 2.0, 0.05
#: Seconds that leaving its block waits for the shell to end.
LEAVING = 2.0


class AsyncProcess(Command[AsyncFlow], AsyncClosing):
    """A running command; made by `AsyncConnection.popen`, best used in an ``async with`` block.

    Leaving the block ends the command, as for `Process`.

    Its streams are binary. stdout and stderr share one flow-control window. A program that reads
    only one of them must expect the command to stop once 2 MiB of the other are unread; a stream
    that was closed (`aclose`) counts as read.

    Attributes:
        stdin: has `write`, and `close` for end of file; an `anyio.abc.ByteSendStream`.
        stdout, stderr: have `read`, `readline` and ``async for`` over lines; each is an
            `anyio.abc.ByteReceiveStream`.
        stream: stdin and stdout as one `anyio.abc.ByteStream`.
        returncode: the exit status, as far as `poll` or `wait` saw it. It is None while the
            command runs, and -1 if a signal ended it or the server never told.
        signal: the name of that signal without "SIG", or None.
    """

    def __init__(self, session: AsyncSession, channel: Channel, timeout: float) -> None:
        flow = AsyncFlow(session, channel, timeout)
        super().__init__(flow)
        self.stdin: AsyncWriter = AsyncWriter(flow)
        self.stdout: AsyncReader = AsyncReader(flow, 0)
        self.stderr: AsyncReader = AsyncReader(flow, 1)
        self.stream: ByteStream = staple(self.stdin, self.stdout)

    @details_of(Process.wait)
    async def wait(self, timeout: Seconds | None = None) -> int:
        """Wait for the command to end; its output may still be read afterwards."""
        if self.returncode is None:
            limit = None if timeout is None else check_number(timeout, "seconds")
            self._note(await self._flow.run(ops.wait(self._channel, self._flow.unread), limit))
        assert self.returncode is not None  # noqa: S101  (wait ends with an exit)
        return self.returncode

    @details_of(Process.communicate)
    async def communicate(
        self, input: str | bytes | None = None, timeout: Seconds | None = None
    ) -> tuple[bytes, bytes]:
        """Send all of `input`, end the command's stdin, and read until the command has ended."""
        limit = None if timeout is None else check_number(timeout, "seconds")
        out, err = self.stdout.take_buffered(), self.stderr.take_buffered()
        try:
            self._note(await self._flow.run(self._talk(input, out, err), limit))
        except HusshError as error:
            error.result = self._copy_output()
            raise
        return self._end_talk()

    def __aiter__(self) -> AsyncReader:
        """Return an iterator over the lines of stdout."""
        return self.stdout.__aiter__()

    async def aclose(self) -> None:
        """Close, for ``async with``."""
        self.close()

    async def _leave(self) -> None:
        """End the command: see `Command._end_command`."""
        if self._closed:
            return
        self.stdin.close()
        for seconds in self._end_command():
            with contextlib.suppress(CommandTimeout):
                await self.wait(seconds)
                return


class AsyncInteractiveShell(Shell[AsyncSession], AsyncClosing):
    """A shell on its own channel; made by `AsyncConnection.shell`, a context manager.

    Leaving the block sends ``exit`` to a shell with a terminal, ends the input of any other, and
    waits up to 2 s (or the connection's time limit, if that is shorter) for its end.

    Attributes:
        result: after the block, all output that was not read before; the status is -1 if the
            shell had not ended when the time was over, or was closed in the block.
    """

    def __init__(
        self, session: AsyncSession, channel: Channel, pty: ops.Pty | None, timeout: float
    ) -> None:
        super().__init__(session, channel, pty)
        self._timeout = timeout

    async def send(self, data: str | bytes, add_newline: bool | None = True) -> None:
        """Send a line.

        Raises:
            ChannelError: the shell has ended.
        """
        line = encode_line(data, add_newline)
        await self._session.call(ops.write(self._channel, line), self._timeout or None, Phase.SHELL)

    @details_of(InteractiveShell.send_line)
    async def send_line(self, data: str | bytes = "") -> None:
        """Send a line, which an empty one may be."""
        await self.send(data)

    @details_of(InteractiveShell.expect)
    async def expect(
        self,
        pattern: AnyPattern | Sequence[AnyPattern],
        timeout: Seconds | None = None,
        *,
        max_before: int = MAX_BEFORE,
    ) -> ExpectMatch:
        """Wait until a pattern comes, and take the output up to its end."""
        return await self._expect(check_patterns(pattern), timeout, max_before)

    @details_of(InteractiveShell.expect_exact)
    async def expect_exact(
        self,
        text: str | bytes | Sequence[str | bytes],
        timeout: Seconds | None = None,
        *,
        max_before: int = MAX_BEFORE,
    ) -> ExpectMatch:
        """Wait until a text comes, as it is, and take the output up to its end."""
        return await self._expect(check_patterns(text, is_exact=True), timeout, max_before)

    async def _expect(
        self, patterns: Sequence[Compiled], timeout: Seconds | None, max_before: int
    ) -> ExpectMatch:
        most = check_max_before(max_before)
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        op = expect(self._channel, self._seen, patterns, most, f" within {seconds:g} s")
        match: ExpectMatch = await self._session.call(op, seconds or None, Phase.SHELL)
        return match

    @details_of(InteractiveShell.read_available)
    async def read_available(self, timeout: Seconds | None = None) -> SSHResult:
        """Return what has arrived and nobody has taken, both streams."""
        if timeout is not None and not self._seen:
            seconds = check_number(timeout, "seconds") or None
            with contextlib.suppress(CommandTimeout):
                op = ops.read_any(self._channel, self._seen)
                await self._session.call(op, seconds, Phase.SHELL)
        return self._take_what_came()

    async def read(self) -> SSHResult:
        """Return what has arrived: wait 2 s for the first bytes, then until none come for 50 ms.

        It may be called again and again. The status is -1 until the shell has ended. If no more can
        come, the same time is given to its end.
        """
        seconds = FIRST
        with contextlib.suppress(DeadlineExceeded):
            while await self._session.run(
                ops.read_any(self._channel, self._seen),
                monotonic() + seconds,
                Phase.SHELL,
            ):
                seconds = QUIET
            # A server sends the status after the end of output.
            await self._session.run(ops.wait(self._channel), monotonic() + seconds, Phase.SHELL)
        return self._take_result(ops.get_exit(self._channel))

    async def close(self) -> None:
        """Close the channel, so that the server ends the shell; a second call does nothing."""
        self._free()

    aclose = close

    async def _leave(self) -> None:
        if self._closed:
            self.result = self._take_result(None)
            return
        ended = None
        with contextlib.suppress(CommandTimeout):
            limit = min(self._timeout or LEAVING, LEAVING)
            ended = await self._session.call(self._say_goodbye(), limit, Phase.SHELL)
        self.result: SSHResult = self._take_result(ended)
