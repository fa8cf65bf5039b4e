"""stdin, stdout and stderr of an `AsyncProcess`: streams of anyio with the methods of files.

`async_process.py` makes them. One task at a time may use a stream. Nothing here knows the protocol
or blocks the loop.
"""

from __future__ import annotations

from typing import TypeVar

from .._connect.async_connect import AsyncSession
from .._protocol import process as ops
from .._protocol.core import Op
from .._runtime.anyio_streams import Receiver, Sender
from ..errors import Phase
from .remote_process import Flow

__all__ = ["AsyncFlow", "AsyncReader", "AsyncWriter"]

T = TypeVar("T")

CHUNK = 1 << 16


class AsyncFlow(Flow[AsyncSession]):
    """What the streams of an `AsyncProcess` share with it."""

    async def run(self, op: Op[T], seconds: float | None = None) -> T:
        limit = self.timeout if seconds is None else seconds
        return await self.session.call(op, limit or None, Phase.EXEC)


class AsyncReader(Receiver):
    """stdout or stderr of an `AsyncProcess`; one task at a time may read it.

    It is an `anyio.abc.ByteReceiveStream`. Iterating gives lines.
    """

    def __init__(self, flow: AsyncFlow, stream: int) -> None:
        super().__init__()
        self._flow = flow
        self._stream = stream
        self._buffer = bytearray()
        self._ended = False

    async def read(self, size: int = -1) -> bytes:
        """Read what is there, at least one byte and at most `size`; -1 means all to the end.

        The result is empty at the end of the stream.
        """
        with self.reading:
            while (size < 0 or not self._buffer) and size and await self._fill():
                pass
            return self._take(len(self._buffer) if size < 0 else size)

    async def readline(self) -> bytes:
        """Read a line with its end, which the last one may lack; empty at the end of the stream."""
        with self.reading:
            searched = 0
            while (end := self._buffer.find(b"\n", searched)) < 0:
                searched = len(self._buffer)
                if not await self._fill():
                    return self._take(searched)
            return self._take(end + 1)

    def __aiter__(self) -> AsyncReader:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def take_buffered(self) -> bytes:
        """Return what has been received and nobody has read yet."""
        return self._take(len(self._buffer))

    async def aclose(self) -> None:
        """Stop reading: what the command still writes there is dropped; may be repeated."""
        if not self.closed:
            self._flow.unread.append(self._stream)
            self._buffer.clear()
        await super().aclose()

    async def _fill(self) -> bool:
        self.check()
        if not self._ended:
            flow = self._flow
            flow.was_read = True
            part = await flow.run(ops.read(flow.channel, self._stream, CHUNK, flow.unread))
            self.check()  # another task may have closed it meanwhile
            self._buffer += part
            self._ended = not part
        return not self._ended

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


class AsyncWriter(Sender):
    """stdin of an `AsyncProcess`; an `anyio.abc.ByteSendStream`."""

    def __init__(self, flow: AsyncFlow) -> None:
        super().__init__()
        self._flow = flow

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send all of `data`, and wait for the command to read it; return its length.

        Raises:
            ChannelError: the command has ended and reads no more.
        """
        self._flow.was_written = True
        return await self._flow.run(ops.write(self._flow.channel, data))

    def close(self) -> None:
        """Send end of file to the command; a second call does nothing."""
        self._flow.end_input()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._flow.input_ended
