"""Gives our streams the interface of anyio: `receive`, `send` and its errors.

`async_streams.py` and the other async streams of `_api` build on it: they bring `read` and `write`.
It knows nothing of SSH.

The async streams of `_api` build on it.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import anyio
import anyio.lowlevel
from anyio.abc import ByteReceiveStream, ByteSendStream, ByteStream
from anyio.streams.stapled import StapledByteStream

from ..errors import ConnectionClosed, HusshError

__all__ = ["ByteStream", "Receiver", "Sender", "FairLock", "staple"]


class Receiver(ByteReceiveStream):
    """One end to read from; a subclass has the `read`.

    Attributes:
        reading: is held while a task reads; two tasks cannot.
        closed: whether `aclose` was called.
    """

    def __init__(self) -> None:
        self.reading: anyio.ResourceGuard = anyio.ResourceGuard("reading from")
        self.closed: bool = False

    async def read(self, size: int = -1) -> bytes:
        raise NotImplementedError

    def check(self) -> None:
        """Raise anyio.ClosedResourceError after `aclose`."""
        if self.closed:
            raise anyio.ClosedResourceError

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return what has come, at least one byte and at most `max_bytes`.

        Raises:
            anyio.EndOfStream: nothing will come any more.
            anyio.ClosedResourceError: the stream, the process or the connection was closed.
            anyio.BrokenResourceError: the connection was lost.
            anyio.BusyResourceError: another task reads.
            CommandTimeout: nothing came within the connection's time limit.
        """
        if max_bytes < 1:
            raise ValueError("max_bytes must be at least 1")
        await anyio.lowlevel.checkpoint()
        with _translate_errors():
            part = await self.read(max_bytes)
        if not part:
            raise anyio.EndOfStream
        return part

    async def aclose(self) -> None:
        """Stop reading; a second call does nothing."""
        self.closed = True
        await anyio.lowlevel.checkpoint()


class Sender(ByteSendStream):
    """One end to write to; a subclass has the `write`."""

    def __init__(self) -> None:
        self._sending = anyio.ResourceGuard("writing to")

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        raise NotImplementedError

    async def send(self, item: bytes) -> None:
        """Send all of `item`, and wait for the other side to read it.

        Raises:
            anyio.ClosedResourceError: the stream, the process or the connection was closed.
            anyio.BrokenResourceError: the other side reads no more, or the connection was lost.
            anyio.BusyResourceError: another task sends.
            CommandTimeout: the data was not taken within the connection's time limit.
        """
        await anyio.lowlevel.checkpoint()
        if self.closed:
            raise anyio.ClosedResourceError
        with self._sending, _translate_errors():
            await self.write(item)

    async def aclose(self) -> None:
        """Call `close`, under anyio's name."""
        self.close()
        await anyio.lowlevel.checkpoint()


@contextmanager
def _translate_errors() -> Generator[None, None, None]:
    try:
        yield
    except TimeoutError:
        raise
    except ConnectionClosed as error:
        raise anyio.ClosedResourceError from error
    except HusshError as error:
        raise anyio.BrokenResourceError(str(error)) from error


def staple(sender: Sender, receiver: Receiver) -> ByteStream:
    """Return two ends as one stream; its `send_eof` closes the first."""
    return StapledByteStream(sender, receiver)


class FairLock:
    """Lets one task in after another, and costs no wait if it is free."""

    def __init__(self) -> None:
        self._lock = anyio.Lock()

    @property
    def free(self) -> bool:
        """Whether no task holds it."""
        return not self._lock.locked()

    @staticmethod
    async def rest() -> None:
        """Let the other tasks of the loop run once."""
        await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> None:
        try:
            self._lock.acquire_nowait()
        except anyio.WouldBlock:
            await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()
