"""`AsyncTunnel`: a byte stream from the last hop to any address, with the interface of anyio.

`async_port_forwarding.py` makes one. Its methods run operations of `_protocol/process.py`, and
never block the loop.
"""

from __future__ import annotations

import contextlib

from .._connect.async_connect import AsyncSession
from .._native.channel import Channel
from .._policy.forwarding import Address
from .._protocol import process as ops
from .._runtime.anyio_streams import ByteStream, Receiver, Sender
from ..errors import HusshError, Phase
from .tunnel import give_up

__all__ = ["AsyncTunnel"]


class AsyncTunnel(Receiver, Sender, ByteStream):
    """A connection that the server has made for us; `AsyncConnection.open_connection` returns it.

    It is an `anyio.abc.ByteStream`: `receive`, `send`, `send_eof` and `aclose`, which raise the
    errors of anyio. One task at a time may receive, and one send. Leaving its ``async with`` block
    closes it.
    """

    closed: bool = False  # not the property of a sender

    def __init__(
        self,
        connection: object,
        session: AsyncSession,
        channel: Channel,
        to: Address,
        timeout: float,
    ) -> None:
        Receiver.__init__(self)
        Sender.__init__(self)
        self._connection = connection  # lives as long as this
        self._session = session
        self._channel = channel
        self._to = to
        self._timeout = timeout
        self._input_ended = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<AsyncTunnel to {self._to} by {self._session.hop}, {state}>"

    async def read(self, size: int = -1) -> bytes:
        """Return what is there, at least one byte and at most `size`; empty at the end.

        It raises the errors of hussh, as `write` does; `receive` and `send` raise anyio's.
        """
        self.check()
        with self.reading:
            most = size if size > 0 else ops.READ_SIZE
            op = ops.read(self._channel, 0, most)
            part = await self._session.call(op, self._timeout or None, Phase.CHANNEL)
            self.check()  # another task may have closed it meanwhile
            return bytes(part)

    async def write(self, data: bytes | bytearray | memoryview) -> int:
        """Send all of `data`; return its length."""
        self.check()
        op = ops.write(self._channel, data)
        return await self._session.call(op, self._timeout or None, Phase.CHANNEL)

    async def send_eof(self) -> None:
        """Send end of file after what was sent before; reading goes on."""
        self.check()
        if not self._input_ended:
            self._input_ended = True
            with contextlib.suppress(HusshError):  # it has ended anyway
                self._session.call_at_once(self._channel.send_eof)

    def close(self) -> None:
        """End both directions, after what was sent; waits for nothing, and may be repeated."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(HusshError):  # the connection has gone
                self._session.call_at_once(lambda: give_up(self._session, self._channel))

    async def aclose(self) -> None:
        """Close, under anyio's name."""
        self.close()
        await Receiver.aclose(self)
