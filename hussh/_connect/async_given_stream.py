"""The stream that a user gives (`stream=`) to an event loop; see also `given_stream.py`.

`async_connect` uses it.  An anyio `ByteStream`, or asyncio's pair of a reader and a writer, can
only be awaited.  So one task of the loop relays: it belongs to the connection and to no nursery of
the user's, and ends with it.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from .._runtime.loop_tools import this_loop
from ..errors import ConnectError
from .given_stream import LAST_MOMENT, PART, RelayedStream, wrap_given_stream
from .tcp import SocketStream

__all__ = ["close_async_given", "wrap_async_given_stream"]


def wrap_async_given_stream(given: Any) -> SocketStream:
    """Return the driver's stream for one that a user has given; raise as `wrap_given_stream`."""
    if isinstance(given, tuple):
        reader, writer = given

        async def send(data: bytes) -> None:
            writer.write(data)
            await writer.drain()

        return _start(given, lambda: reader.read(PART), send)
    if hasattr(given, "receive"):

        async def receive() -> bytes:
            try:
                return bytes(await given.receive(PART))
            except anyio.EndOfStream:
                return b""

        return _start(given, receive, given.send)
    return wrap_given_stream(given)


async def close_async_given(given: Any) -> None:
    """Close what a user has given, as `close_given`; also if this task is cancelled."""
    with (
        contextlib.suppress(Exception),  # the user's object may say anything
        anyio.move_on_after(LAST_MOMENT, shield=True),
    ):
        await _close(given)


async def _close(given: Any) -> None:
    if isinstance(given, tuple):
        given[1].close()
        await given[1].wait_closed()
    elif hasattr(given, "receive"):
        await given.aclose()
    else:
        given.close()


def _start(
    given: Any,
    receive: Callable[[], Awaitable[bytes]],
    send: Callable[[bytes], Awaitable[object]],
) -> RelayedStream:
    try:
        ours, theirs = socket.socketpair()
    except OSError as error:
        raise ConnectError(f"the stream given as stream= cannot be used: {error}") from error
    ours.setblocking(False)
    theirs.setblocking(False)
    return _AwaitedStream(ours, theirs, given, receive, send)


class _AwaitedStream(RelayedStream):
    """A stream that a task relays."""

    slow = True  # `close` waits for the task, in a worker

    def __init__(
        self,
        ours: socket.socket,
        theirs: socket.socket,
        given: Any,
        receive: Callable[[], Awaitable[bytes]],
        send: Callable[[bytes], Awaitable[object]],
    ) -> None:
        super().__init__(ours, theirs)
        self._given = given
        self._receive, self._send = receive, send
        self._loop = this_loop()
        self._scope = anyio.CancelScope()
        self._ended = threading.Event()
        if self._loop.is_trio:
            sys.modules["trio"].lowlevel.spawn_system_task(self._relay)
        else:
            self._task = self._loop.native.create_task(self._relay())

    async def _relay(self) -> None:
        try:
            with self._scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._carry_inward)
                    await self._carry_outward()
                    group.cancel_scope.cancel()
        except BaseException as failure:
            if not isinstance(failure, Exception) and not isinstance(failure, self._loop.cancelled):
                raise
        finally:
            try:
                await close_async_given(self._given)
            finally:
                self._theirs.close()
                self._ended.set()

    async def _carry_inward(self) -> None:
        try:
            while data := await self._receive():
                rest = memoryview(data)
                while rest:
                    try:
                        rest = rest[self._theirs.send(rest) :]
                    except BlockingIOError:
                        await anyio.wait_writable(self._theirs)
        except Exception as failure:
            self._fail(failure)
        with contextlib.suppress(OSError):
            self._theirs.shutdown(socket.SHUT_WR)

    async def _carry_outward(self) -> None:
        while True:
            try:
                data = self._theirs.recv(PART)
            except BlockingIOError:
                await anyio.wait_readable(self._theirs)
                continue
            except OSError:
                return
            if not data:
                return
            try:
                await self._send(data)
            except Exception as failure:
                self._fail(failure)
                return

    def _fail(self, failure: Exception) -> None:
        if self.failure is None and not isinstance(failure, BrokenPipeError):
            self.failure = failure

    def close(self) -> None:
        super().close()
        if self._ended.wait(LAST_MOMENT) or not self._loop.call_soon(self._scope.cancel):
            return
        self._ended.wait(LAST_MOMENT)

    def abandon(self) -> None:
        super().abandon()
        self._theirs.close()
