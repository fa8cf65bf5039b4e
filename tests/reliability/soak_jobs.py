"""What ``scripts/soak`` does over and over: one job for each way to use hussh.

A job is a context that yields a coroutine function: one round with the number that it is given.
Every round checks its answer. All jobs run on each API (``tests/conformance/apis.py``).
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.to_thread

from hussh.multi_conn import MultiConnection
from tests.conformance.apis import Api, Session
from tests.conformance.awaited import Awaited
from tests.support.tunnel_peers import read_all

__all__ = ["JOBS", "Job", "Site"]

Round = Callable[[int], Coroutine[Any, Any, None]]
#: Hosts of a MultiConnection.
HOSTS = 3
LIMIT = 60  # seconds; far more than any round takes
_RELAY = [
    sys.executable, "-I", "-S", str(Path(__file__).parents[1] / "proxy/relay.py"), "%h", "%p",
]  # fmt: skip
PROXY: str | list[str] = "nc %h %p" if shutil.which("nc") else _RELAY


class Site(NamedTuple):
    """Where a slice of rounds happens.

    Attributes:
        bastion, target: host and port of two servers.
        echo: the address of an echo server.
        options: how to log in to either server.
    """

    bastion: tuple[str, int]
    target: tuple[str, int]
    echo: tuple[str, int]
    options: dict[str, Any]


Job = Callable[[Api, Site], AbstractAsyncContextManager[Round]]


@asynccontextmanager
async def _login(
    api: Api, site: Site, place: tuple[str, int], **options: Any
) -> AsyncIterator[Session]:
    host, port = place
    session = await api.connect(host, port, timeout=LIMIT, **site.options, **options)
    try:
        yield session
    finally:
        await session.close()


async def _check(session: Session, number: int) -> None:
    result = await session.execute("cat; exit 3", input=f"{number}")
    if (result.stdout, result.status) != (f"{number}", 3):
        raise AssertionError(f"{number} gave {result!r}")


@asynccontextmanager
async def connect(api: Api, site: Site) -> AsyncIterator[Round]:
    """Connect, execute, close."""

    async def one(number: int) -> None:
        async with _login(api, site, site.target) as session:
            await _check(session, number)

    yield one


@asynccontextmanager
async def jump(api: Api, site: Site) -> AsyncIterator[Round]:
    """Do the same behind a bastion that stays connected; every eighth round with its own."""
    async with _login(api, site, site.bastion) as bastion:

        async def one(number: int) -> None:
            if number % 8:
                async with _login(api, site, site.target, proxy_jump=bastion) as session:
                    await _check(session, number)
                return
            host, port = site.bastion
            way = f"{host}:{port}"
            async with _login(api, site, site.target, proxy_jump=way) as session:
                await _check(session, number)

        yield one


@asynccontextmanager
async def proxy(api: Api, site: Site) -> AsyncIterator[Round]:
    """Do the same over a proxy command."""

    async def one(number: int) -> None:
        async with _login(api, site, site.target, proxy_command=PROXY) as session:
            await _check(session, number)

    yield one


@asynccontextmanager
async def sftp(api: Api, site: Site) -> AsyncIterator[Round]:
    """Open an SFTP session of a new connection; write, read, list and remove a file."""

    async def one(number: int) -> None:
        name = f"soak-{number % 64}-{os.getpid()}"
        data = os.urandom(5000 + number % 5000)
        async with _login(api, site, site.target) as session:
            files = Awaited(session.real)
            await files.sftp_write_data(data, name)
            if await files.sftp_read(name, encoding=None) != data:
                raise AssertionError(f"{name} came back changed")
            if name not in await files.sftp.listdir("."):
                raise AssertionError(f"{name} is not in its folder")
            await files.sftp.remove(name)

    yield one


@asynccontextmanager
async def tunnel(api: Api, site: Site) -> AsyncIterator[Round]:
    """Carry bytes to an echo server and back: by a stream, and by each kind of forward."""
    async with _login(api, site, site.bastion) as session:
        ways = Awaited(session.real)

        async def one(number: int) -> None:
            data = os.urandom(3000) + f"{number}".encode()
            kind = number % 4
            if kind == 0:
                got = await _through_stream(ways, site.echo, data)
            elif kind == 1:
                async with ways.forward_local(0, site.echo) as forward:
                    got = await _away(api, lambda: _exchange(forward.address, data))
            elif kind == 2:
                async with ways.forward_socks() as forward:
                    request = _socks4(site.echo)
                    got = await _away(api, lambda: _exchange(forward.address, data, request, 8))
            else:
                async with ways.forward_remote(0, site.echo) as forward:
                    there = ("127.0.0.1", forward.port)
                    got = await _away(api, lambda: _exchange(there, data))
            if got != data:
                raise AssertionError(f"a tunnel of kind {kind} gave {got!r}")

        yield one


@asynccontextmanager
async def multi(api: Api, site: Site) -> AsyncIterator[Round]:
    """Connect to some hosts at once, run a command on each, close."""
    host, port = site.target
    hosts = [host] * HOSTS
    options = {**site.options, "port": port, "timeout": LIMIT}

    def verify(number: int, results: Any) -> None:
        got = [(result.stdout, result.status) for result in results.values()]
        if got != [(f"{number}", 3)] * HOSTS:
            raise AssertionError(f"{number} gave {results.values()!r}")

    async def one(number: int) -> None:
        described = MultiConnection.from_shared_auth(hosts, **options)
        if api.name == "sync":
            with described as group:
                verify(number, group.execute("cat; exit 3", input=f"{number}"))
        else:
            async with described as others:
                verify(number, await others.execute("cat; exit 3", input=f"{number}"))

    yield one


JOBS: dict[str, Job] = {
    "connect": connect, "jump": jump, "multi": multi, "proxy": proxy, "tunnel": tunnel,
    "sftp": sftp,
}  # fmt: skip


# -- tunnels ---------------------------------------------------------------------------------------


async def _through_stream(ways: Awaited, to: tuple[str, int], data: bytes) -> bytes:
    stream = (await ways.open_connection(*to)).real
    if hasattr(stream, "recv"):
        with stream:
            stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
            return read_all(stream)
    got = b""
    async with stream:
        await stream.send(data)
        await stream.send_eof()
        async for part in stream:
            got += part
    return got


async def _away(api: Api, call: Callable[[], bytes]) -> bytes:
    """Make a call that blocks: not in the thread of an event loop, which serves it."""
    if api.name == "sync":
        return call()
    return await anyio.to_thread.run_sync(call)


def _exchange(address: Any, data: bytes, request: bytes = b"", answer: int = 0) -> bytes:
    with socket.create_connection(address, LIMIT) as sock:
        sock.sendall(request)
        while answer:
            answer -= len(sock.recv(answer)) or answer
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def _socks4(to: tuple[str, int]) -> bytes:
    return b"\x04\x01" + to[1].to_bytes(2, "big") + socket.inet_aton(to[0]) + b"\0"
