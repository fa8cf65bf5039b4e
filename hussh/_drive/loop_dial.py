"""Opening a TCP connection in an event loop; what `dial` says of addresses holds here, too."""

from __future__ import annotations

import os
import socket
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread

from .dial import (
    ATTEMPT_DELAY,
    CONNECTED,
    Address,
    SocketStream,
    begin,
    in_turns,
    unreachable,
    unresolved,
)
from .loop import until

__all__ = ["dial"]


async def dial(host: str, port: int, deadline: float | None) -> SocketStream:
    """Connect to a host; the same errors as the sync driver's `dial`."""
    addresses = _numeric(host, port)
    if addresses is None:
        with until(deadline, "dns"):
            addresses = await _resolve(host, port)
    attempts = _Attempts()
    try:
        with until(deadline):
            await attempts.run(addresses)
    except BaseException:
        if attempts.won is not None:
            attempts.won.close()
        raise
    if attempts.won is None:
        raise unreachable(host, port, attempts.failures)
    return SocketStream(attempts.won)


def _numeric(host: str, port: int) -> list[Address] | None:
    """The address that a host is given as; None: it is a name."""
    flags = socket.AI_NUMERICHOST
    try:
        return in_turns(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except (OSError, UnicodeError):
        return None


async def _resolve(host: str, port: int) -> list[Address]:
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        # A resolver cannot be interrupted: its thread may outlive us.
        return in_turns(await anyio.to_thread.run_sync(ask, abandon_on_cancel=True))
    except (OSError, UnicodeError) as error:
        raise unresolved(host, error) from error


class _Attempts:
    """Connecting to several addresses in turns (RFC 8305 section 5); the first one wins."""

    def __init__(self) -> None:
        self.won: socket.socket | None = None
        self.failures: list[str] = []

    async def run(self, addresses: list[Address]) -> None:
        if len(addresses) == 1:
            await self._try(addresses[0])
            return
        async with anyio.create_task_group() as group:
            for address in addresses:
                failed = anyio.Event()
                group.start_soon(self._compete, address, failed, group.cancel_scope)
                with anyio.move_on_after(ATTEMPT_DELAY):
                    await failed.wait()

    async def _compete(
        self, address: Address, failed: anyio.Event, race: anyio.CancelScope
    ) -> None:
        await self._try(address)
        if self.won is not None:
            race.cancel()
        failed.set()

    async def _try(self, address: Address) -> None:
        begun = begin(address, self.failures)
        if begun is None:
            return
        sock = begun.sock
        try:
            if begun.there:
                await anyio.lowlevel.checkpoint()  # others shall have their turn all the same
            else:
                await anyio.wait_writable(sock)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code not in CONNECTED:
                self.failures.append(f"{address[1][0]}: {os.strerror(code)}")
            elif self.won is None:
                self.won = sock
        finally:
            if self.won is not sock:
                sock.close()
