"""Hosts with several addresses (RFC 8305): dead ones cost little, and an error lists them all."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from time import monotonic
from typing import Any

import pytest

from hussh._connect import owned_sockets
from hussh.errors import ConnectError, ConnectTimeout, ServerBusy
from tests.conformance.apis import Api
from tests.support.hostile import HostileServer, polite
from tests.support.listeners import FullBacklog
from tests.support.sshd import Sshd

FAMILIES = {"127.0.0.1": socket.AF_INET, "::1": socket.AF_INET6}
Resolve = Callable[[list[tuple[str, int]]], None]


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Give the name ``many.test`` these addresses and ports."""
    real = socket.getaddrinfo

    def set_to(places: list[tuple[str, int]]) -> None:
        def answer(host: Any, port: Any, *given: Any, **named: Any) -> Any:
            if host != "many.test" or named.get("flags", 0) & socket.AI_NUMERICHOST:
                return real(host, port, *given, **named)
            return [
                (
                    FAMILIES[address],
                    socket.SOCK_STREAM,
                    socket.IPPROTO_TCP,
                    "",
                    (address, number) if address == "127.0.0.1" else (address, number, 0, 0),
                )
                for address, number in places
            ]

        monkeypatch.setattr(socket, "getaddrinfo", answer)

    return set_to


@pytest.fixture(params=FAMILIES)
def dead(request: pytest.FixtureRequest) -> Iterator[FullBacklog]:
    """Return an address of one family where ``connect`` hangs."""
    with FullBacklog(request.param) as listener:
        yield listener


@pytest.fixture
def refused_port() -> int:
    """Return a port of both families where nobody listens."""
    with ExitStack() as stack:
        probe = stack.enter_context(socket.socket(socket.AF_INET6))
        probe.bind(("::", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize("address", FAMILIES)
async def test_a_dead_first_address(
    api: Api,
    resolve: Resolve,
    dead: FullBacklog,
    sshd_factory: Callable[..., Sshd],
    address: str,
) -> None:
    """A first address that drops packets costs a fraction of a second, not the time limit."""
    server = sshd_factory(address=address)
    resolve([(dead.host, dead.port), (server.host, server.port)])
    begin = monotonic()
    session = await api.connect(
        "many.test",
        22,
        username=server.alice.name,
        private_key=server.alice.key.path,
        timeout=20,
    )
    assert 0.2 <= monotonic() - begin < 10
    assert (await session.execute("echo there")).stdout == "there\n"
    await session.close()


async def test_dead_addresses_of_one_family_first(api: Api, resolve: Resolve) -> None:
    """Families take turns: three dead IPv6 addresses in front of a live IPv4 one cost one turn."""
    with ExitStack() as stack:
        dead = [stack.enter_context(FullBacklog("::1")) for _ in range(3)]
        server = stack.enter_context(HostileServer(polite()))
        resolve([*((one.host, one.port) for one in dead), server.address])
        begin = monotonic()
        session = await api.connect("many.test", 22, username="u", password="p", timeout=20)
        assert monotonic() - begin < 10
        await session.close()


async def test_a_refused_first_address(api: Api, resolve: Resolve, refused_port: int) -> None:
    """Refused addresses are passed over at once, however many they are."""
    with HostileServer(polite()) as server:
        resolve([("::1", refused_port), ("127.0.0.1", refused_port)] * 20 + [server.address])
        begin = monotonic()
        session = await api.connect("many.test", 22, username="u", password="p", timeout=20)
        assert monotonic() - begin < 8  # in turns of 250 ms it would be ten seconds
        await session.close()


async def test_all_addresses_refuse(api: Api, resolve: Resolve, refused_port: int) -> None:
    """The error lists every address with the reason of each."""
    resolve([("::1", refused_port), ("127.0.0.1", refused_port)])
    with pytest.raises(ConnectError) as caught:
        await api.connect("many.test", 22, username="u", password="p", timeout=20)
    reason = os.strerror(errno.ECONNREFUSED)
    for address in FAMILIES:
        assert f"{address}: {reason}" in str(caught.value)
    assert (caught.value.hop, caught.value.phase) == ("u@many.test:22", "connect")


async def test_all_addresses_drop_packets(api: Api, resolve: Resolve, dead: FullBacklog) -> None:
    """With nothing but dead addresses the time limit ends the attempt."""
    resolve([(dead.host, dead.port)] * 3)
    begin = monotonic()
    with pytest.raises(ConnectTimeout) as caught:
        await api.connect("many.test", 22, username="u", password="p", timeout=0.6)
    assert 0.6 <= monotonic() - begin < 10
    assert (caught.value.hop, caught.value.phase) == ("u@many.test:22", "connect")


async def test_dead_and_refused(
    api: Api, resolve: Resolve, dead: FullBacklog, refused_port: int
) -> None:
    """A refusal does not end the wait for an address that may still answer."""
    resolve([(dead.host, dead.port), ("127.0.0.1", refused_port)])
    with pytest.raises(ConnectTimeout):
        await api.connect("many.test", 22, username="u", password="p", timeout=0.6)


async def test_a_name_that_does_not_exist(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name without an address is an error of the phase dns, with the resolver's reason."""

    def fail(*given: Any, **named: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(ConnectError, match="Name or service not known") as caught:
        await api.connect("no-such-name.test", 22, username="u", password="p")
    assert (caught.value.hop, caught.value.phase) == ("u@no-such-name.test:22", "dns")


async def test_a_reset_after_words(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server says before it resets the connection is heard, however early that comes."""
    at_once = struct.pack("ii", 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        class Refused(socket.SocketType):
            def connect_ex(self, place: Any) -> int:
                code = super().connect_ex(place)
                with suppress(BlockingIOError):
                    accepted, _ = listener.accept()
                    with accepted:
                        accepted.sendall(b"Exceeded MaxStartups\r\n")
                        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
                return code

        monkeypatch.setattr(owned_sockets, "Socket", Refused)
        port = listener.getsockname()[1]
        with pytest.raises(ServerBusy) as caught:
            await api.connect("127.0.0.1", port, username="u", password="p")
    assert caught.value.server_text == "Exceeded MaxStartups"


async def test_no_address(api: Api, resolve: Resolve) -> None:
    """A resolver that finds nothing and does not say so is an error, too."""
    resolve([])
    with pytest.raises(ConnectError, match="cannot connect to many"):
        await api.connect("many.test", 22, username="u", password="p")
