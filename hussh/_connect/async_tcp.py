"""Opens a TCP connection in an event loop; what `tcp` says of addresses holds here, too.

`async_connect.py` calls `dial`. It never blocks the loop: a worker resolves names.
"""

from __future__ import annotations

import os
import socket
from functools import partial

import anyio
import anyio.lowlevel

from .._protocol.story import HopStory
from .._runtime.async_workers import run_in_thread
from .._runtime.loop_tools import this_loop, until
from ..errors import Phase
from .owned_sockets import Socket, close_socket
from .tcp import (
    ANYWHERE,
    ATTEMPT_DELAY,
    CONNECTED,
    Address,
    Begun,
    Origin,
    SocketStream,
    begin,
    interleave,
    make_unreachable_error,
    make_unresolved_error,
    note_addresses,
)

__all__ = ["dial"]


async def dial(
    host: str,
    port: int,
    deadline: float | None,
    story: HopStory | None = None,
    origin: Origin = ANYWHERE,
) -> SocketStream:
    """Connect to a host; raise the same errors as the sync driver's `dial`."""
    if story is not None:
        story.begin(Phase.DNS)
    addresses = _parse_address(host, port)
    if addresses is None:
        with until(deadline, Phase.DNS):
            addresses = await _resolve(host, port)
    addresses = origin.filter_usable(host, addresses)
    if story is not None:
        note_addresses(story, addresses)
    stream = SocketStream()  # it owns each socket from its first moment on
    attempts = _Attempts(origin, stream.opened)
    try:
        if not attempts.at_once(addresses):
            with until(deadline):
                await attempts.run(addresses)
        if story is not None:
            attempts.tell(story, port)
        if attempts.won is None:
            raise make_unreachable_error(host, port, attempts.failures)
        return stream
    except BaseException:
        stream.close()
        raise


def _parse_address(host: str, port: int) -> list[Address] | None:
    """Return a host that is given as an address; None if it is a name."""
    try:
        # Of every host getaddrinfo() makes a name in Punycode first, which takes longer than this.
        socket.inet_pton(socket.AF_INET, host)
        return [(socket.AF_INET, (host, port))]
    except (OSError, ValueError):
        pass
    flags = socket.AI_NUMERICHOST
    try:
        return interleave(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags))
    except (OSError, UnicodeError):
        return None


async def _resolve(host: str, port: int) -> list[Address]:
    ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        # A resolver cannot be interrupted: its thread may outlive us.
        return interleave(await run_in_thread(this_loop(), ask, is_slow=True))
    except (OSError, UnicodeError) as error:
        raise make_unresolved_error(host, error) from error


class _Attempts:
    """Connects to several addresses in turns (RFC 8305 section 5); the first to answer wins."""

    def __init__(self, origin: Origin, opened: list[Socket]) -> None:
        self._origin = origin
        self._opened = opened
        self.won: Socket | None = None
        self.address = ""
        self.failures: list[str] = []
        self._first: Begun | None = None  # begun by `at_once`

    def at_once(self, addresses: list[Address]) -> bool:
        """Begin, if there is one address only; return whether that has ended, well or not."""
        if len(addresses) != 1:
            return False
        self._first = begin(addresses[0], self._opened, self.failures, self._origin)
        if self._first is not None and self._first.there:
            self.won, self.address = self._first.sock, str(addresses[0][1][0])
        return self._first is None or self._first.there

    def tell(self, story: HopStory, port: int) -> None:
        """Note in the story which address answered, and which did not."""
        if self.won is None:
            story.note_no_answer(self.failures)
        else:
            story.note_answer(self.address, self.failures, port)

    async def run(self, addresses: list[Address]) -> None:
        if self._first is not None:
            await self._finish(self._first, addresses[0])
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
        begun = begin(address, self._opened, self.failures, self._origin)
        if begun is not None:
            await self._finish(begun, address)
        if self.won is not None:
            race.cancel()
        failed.set()

    async def _finish(self, begun: Begun, address: Address) -> None:
        sock = begun.sock
        try:
            if begun.there:
                await anyio.lowlevel.checkpoint()  # others shall have their turn all the same
                code = 0
            else:
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code not in CONNECTED:
                self.failures.append(f"{address[1][0]}: {os.strerror(code)}")
            elif self.won is None:
                self.won, self.address = sock, str(address[1][0])
        finally:
            if self.won is not sock:
                close_socket(sock, self._opened)
