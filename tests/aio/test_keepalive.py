"""`keepalive_interval` on event loops: nothing left, and a dead hop is named."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from hussh import ConnectionLost
from hussh._native.link import Link
from hussh._runtime import idle_thread
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.keepalive.test_keepalive import pass_an_hour, wait_for_no_thread
from tests.support.relay import Relay
from tests.support.sshd import Sshd

ON_UVLOOP = True
INTERVAL = 0.1  # seconds
RelayFactory = Callable[..., Relay]


def link(connection: AsyncConnection) -> Link:
    session = connection._shared.session
    assert session is not None
    return session.link


async def until(true: Callable[[], bool]) -> None:
    """Wait without using the connection; the test's own limit ends what never comes true."""
    with anyio.fail_after(30):
        while not true():
            await anyio.sleep(0.01)


@pytest.mark.parametrize("use", ["idle", "running"])
async def test_a_dead_peer(
    loop: str, use: str, target: Sshd, make: Make, relay_factory: RelayFactory
) -> None:
    """A frozen link is given up after three intervals, whether or not an operation runs."""
    relay = relay_factory(target)
    connection = await make(target, host=relay.host, port=relay.port, keepalive_interval=INTERVAL)
    relay.freeze()
    if use == "idle":
        await until(lambda: link(connection).dead)
    with pytest.raises(ConnectionLost, match=r"no answer to 3 keepalives in 0\.3 s") as lost:
        await connection.execute("sleep 1000", 0)
    assert lost.value.hop == f"{target.alice.name}@{relay.host}:{relay.port}"
    await connection.close()
    wait_for_no_thread()


async def test_a_peer_that_went(
    loop: str, target: Sshd, make: Make, relay_factory: RelayFactory
) -> None:
    """The end of an idle connection is seen at the next beat, not after three."""
    relay = relay_factory(target)
    connection = await make(target, host=relay.host, port=relay.port, keepalive_interval=INTERVAL)
    relay.drop()
    await until(lambda: link(connection).dead)
    with pytest.raises(ConnectionLost) as lost:
        await connection.execute("true")
    assert "keepalive" not in str(lost.value)
    await connection.close()


async def test_idle_connections_take_in_what_comes(loop: str, target: Sshd, make: Make) -> None:
    """While no operation runs the server's answers and a command's output are taken in."""
    async with make(target, keepalive_interval=0.2) as connection:
        process = await connection.popen("echo $((40 + 2))")
        await until(lambda: process._channel.get_info().rx > 0)
        await until(lambda: link(connection).get_info().replies > 2)
        assert await process.stdout.readline() == b"42\n"
        process.close()
        assert (await connection.execute("echo a")).stdout == "a\n"


async def test_each_hop_is_probed(
    loop: str, bastion: Sshd, target: Sshd, make: Make, relay_factory: RelayFactory
) -> None:
    """When the way behind the bastion dies, the target is lost and the bastion is not."""
    relay = relay_factory(target)
    async with make(bastion, keepalive_interval=0.4) as first:
        inner = make(target, host=relay.host, port=relay.port, proxy_jump=first,
                     keepalive_interval=INTERVAL)  # fmt: skip
        await inner
        relay.freeze()
        with pytest.raises(ConnectionLost, match="keepalives") as lost:
            await inner.execute("sleep 1000", 0)
        assert lost.value.hop_index == 1
        assert (await first.execute("echo usable")).stdout == "usable\n"
        await inner.close()
        probes = link(first).get_info().replies
        await until(lambda: link(first).get_info().replies > probes)  # it is still looked after


async def test_no_cost_without(loop: str, target: Sshd, make: Make) -> None:
    """Without an interval there is no timer; with one it ends with the connection."""
    async with make(target) as connection:
        tree: Any = connection._shared.session.driver  # type: ignore[union-attr]
        assert not has_timer(tree)
    async with make(target, keepalive_interval=1) as connection:
        tree = connection._shared.session.driver  # type: ignore[union-attr]
        assert has_timer(tree)
    await anyio.lowlevel.checkpoint()
    assert not has_timer(tree)


def has_timer(tree: Any) -> bool:
    """Whether somebody sends keepalives: a timer of asyncio's, or the thread for trio."""
    if hasattr(tree, "_timer"):
        return tree._timer is not None
    thread = idle_thread._current
    return thread is not None and thread.rounds.live()


@pytest.mark.one_loop
async def test_memory_of_an_hour(loop: str, target: Sshd, make: Make) -> None:
    """An idle connection that sends 3600 keepalives and takes in the answers does not grow."""
    async with make(target) as connection:
        pass_an_hour(connection._shared.session)


async def test_collected(loop: str, target: Sshd, make: Make) -> None:
    """A connection with keepalives is collected like any other, and its timer ends."""
    dropped = [await make(target, keepalive_interval=0.2)]
    tree: Any = dropped[0]._shared.session.driver  # type: ignore[union-attr]
    with pytest.warns(ResourceWarning, match="unclosed AsyncConnection"):
        dropped.clear()
    gc.collect()
    await until(lambda: not has_timer(tree))


@pytest.mark.parametrize("name", ["asyncio", "trio"])
def test_the_loop_ends_first(name: str, target: Sshd, make: Make) -> None:
    """A loop ends in silence while connections with keepalives live, and these close after it."""
    kept: list[AsyncConnection] = []

    async def main() -> None:
        kept.append(await make(target, keepalive_interval=0.2))
        await until(lambda: link(kept[0]).get_info().replies > 0)

    async def close() -> None:
        await kept[0].close()
        with pytest.raises(RuntimeError, match="another event loop"):
            await alive.execute("true")

    alive = make(target)
    runs: dict[str, Callable[[Callable[[], Awaitable[None]]], None]] = {
        "asyncio": lambda job: asyncio.run(job(), debug=True),  # type: ignore[arg-type]
        "trio": lambda job: trio.run(job),
    }
    runs[name](main)

    async def connect() -> None:
        await alive.connect()

    runs[name](connect)
    runs[name](close)
    runs[name](alive.close)
