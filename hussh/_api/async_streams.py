"""stdin, stdout and stderr of an `AsyncProcess`: streams of anyio, and files of a kind.

For `async_process`.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

from .._drive.loop_streams import Receiver, Sender
from .._native.link import Channel
from .._protocol import process as ops
from .._protocol.core import Op

__all__ = ["AsyncReader", "AsyncWriter"]

T = TypeVar("T")

CHUNK = 1 << 16


class Runs(Protocol):
    """What the streams need of their `AsyncProcess`, whose module imports this one."""

    _channel: Channel
    _unread: list[int]
    _input_ended: bool

    async def _run(self, op: Op[T]) -> T: ...

    def _end_input(self) -> None: ...


class AsyncReader(Receiver):
    """stdout or stderr of an `AsyncProcess`; one task at a time may read it.

    An `anyio.abc.ByteReceiveStream`.  Iterating gives lines.
    """

    def __init__(self, process: Runs, stream: int) -> None:
        super().__init__()
        self._process = process
        self._stream = stream
        self._buffer = bytearray()
        self._ended = False

    async def read(self, size: int = -1) -> bytes:
        """What is there, at least one byte and at most `size`; -1: everything to the end.

        Empty at the end of the stream.
        """
        with self.reading:
            while (size < 0 or not self._buffer) and size and await self._fill():
                pass
            return self._take(len(self._buffer) if size < 0 else size)

    async def readline(self) -> bytes:
        """A line with its end; the last one may lack that; empty at the end of the stream."""
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

    async def aclose(self) -> None:
        """Read no more: what the command still writes there is thrown away; idempotent."""
        if not self.closed:
            self._process._unread.append(self._stream)
            self._buffer.clear()
        await super().aclose()

    async def _fill(self) -> bool:
        self.check()
        if not self._ended:
            process = self._process
            op = ops.read(process._channel, self._stream, CHUNK, process._unread)
            part = await process._run(op)
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

    def __init__(self, process: Runs) -> None:
        super().__init__()
        self._process = process

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Hand over all of `data`, waiting for the command to read; returns its length.

        Raises:
            ChannelError: the command has ended and reads no more.
        """
        return await self._process._run(ops.write(self._process._channel, data))

    def close(self) -> None:
        """End of file for the command; idempotent."""
        self._process._end_input()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._process._input_ended
