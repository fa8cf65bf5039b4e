"""Cancellation wherever an operation can wait: nothing is left, and nobody else is disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio

from hussh._protocol.session_slots import SessionSlots
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.mute_peers import Silence
from tests.aio.steps import Stepped
from tests.support.keys import Keys
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd


async def cancel_everywhere(begin: Callable[[], Awaitable[Any]], silence: Silence) -> int:
    """Cancel at the first place, the second … until one call gets through; return how many."""
    at = 0
    while True:
        at += 1
        with anyio.CancelScope() as scope:
            result = await Stepped(begin(), at=at, strike=silence.and_then(scope.cancel))
        cancelled = silence.is_over()
        if not scope.cancelled_caught and isinstance(result, AsyncConnection):
            await result.close()  # maybe it was just done when we cancelled
        if not cancelled:
            return at - 1


@pytest.mark.parametrize("way", ["socket", "jump", "string", "unconnected"])
async def test_connect(
    loop: str, way: str, bastion: Sshd, target: Sshd, make: Make, silence: Silence
) -> None:
    """Connecting can be given up anywhere; a bastion that others use stays usable."""
    gate = silence.before(bastion)
    muted = silence.before(target) if way == "socket" else target
    async with make(gate) as shared:
        jumps: dict[str, Callable[[], Any]] = {
            "socket": lambda: None,
            "jump": lambda: shared,
            "string": lambda: f"{gate.host}:{gate.port}",
            "unconnected": lambda: make(gate),
        }

        async def begin() -> AsyncConnection:
            return await make(muted, proxy_jump=jumps[way]())

        assert await cancel_everywhere(begin, silence) >= 3
        assert (await shared.execute("echo a")).stdout == "a\n"


async def test_connect_with_an_encrypted_key(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make, keys: Keys, silence: Silence
) -> None:
    """Also while a thread decrypts the key."""
    key = keys.get("ed25519", passphrase="correct horse 42", name="cancelled")
    target = sshd_factory()
    target.authorize(target.alice, key)
    muted = silence.before(target)

    async def begin() -> AsyncConnection:
        return await make(muted, key_path=key.path, password="correct horse 42")

    assert await cancel_everywhere(begin, silence) >= 3


@pytest.mark.parametrize("jump", [False, True])
async def test_execute(
    loop: str, jump: bool, bastion: Sshd, target: Sshd, make: Make, silence: Silence
) -> None:
    """A command can be given up anywhere; its neighbours end well, and the channel is free."""
    first = silence.before(bastion if jump else target)
    muted, way = (target, f"{first.host}:{first.port}") if jump else (first, None)
    async with make(muted, proxy_jump=way) as connection:
        text = "x" * 300_000
        wrong: list[str] = []
        done = anyio.Event()

        async def neighbour() -> None:
            while not done.is_set():
                result = await connection.execute("cat", input=text)
                if result.stdout != text:
                    wrong.append(result.stdout[:100])

        async with anyio.create_task_group() as group:
            group.start_soon(neighbour)
            count = await cancel_everywhere(lambda: connection.execute("cat", input=text), silence)
            done.set()
        assert count >= 1
        assert wrong == []
        session: Any = connection._shared.session
        assert SessionSlots.of(session.link).used == 0
        assert session.driver._waiters == {}
        assert session.driver._leader is None


async def test_proxy_command(loop: str, target: Sshd, make: Make, silence: Silence) -> None:
    """Connecting over a proxy command can be given up anywhere; its process is gone then."""
    muted = silence.before(target)

    async def begin() -> AsyncConnection:
        return await make(muted, proxy_command="nc %h %p")

    # The answers to our banner, key exchange and login; more waits come and go with the packets.
    assert await cancel_everywhere(begin, silence) >= 3


async def test_a_proxy_command_that_will_not_end(loop: str) -> None:
    """One that ignores SIGTERM is waited for and killed, while other tasks go on."""
    turns = 0
    done = anyio.Event()

    async def tick() -> None:
        nonlocal turns
        while not done.is_set():
            turns += scope.cancel_called
            await anyio.sleep(0.01)

    command = ["/bin/sh", "-c", "trap '' TERM; echo $$ >&2; while :; do sleep 1; done"]
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(0.3) as scope:
            group.start_soon(tick)
            await AsyncConnection("h", "u", "p", proxy_command=command)
        assert scope.cancelled_caught
        done.set()
    assert turns > 3


async def test_waiting_for_a_thread(loop: str, target: Sshd, make: Make) -> None:
    """Cancellation does not wait for a callback that a thread runs."""

    async def prompt(request: object) -> list[str]:
        await anyio.sleep_forever()
        return []

    with anyio.move_on_after(0.5) as scope:
        await make(target, private_key=None, prompt=prompt, agent=False)
    assert scope.cancelled_caught or loop


async def test_the_first_of_several_users(
    loop: str, bastion: Sshd, target: Sshd, make: Make
) -> None:
    """When the task that connects a shared bastion is cancelled, another one does it."""
    shared = make(bastion)
    second: list[str] = []

    async def first(scope: anyio.CancelScope) -> None:
        with scope:
            await Stepped(_connect(make(target, proxy_jump=shared)), scope, 3)

    async def other() -> None:
        async with make(target, proxy_jump=shared) as connection:
            second.append((await connection.execute("echo a")).stdout)

    async with anyio.create_task_group() as group:
        group.start_soon(first, anyio.CancelScope())
        group.start_soon(other)
        group.start_soon(other)
    assert second == ["a\n", "a\n"]


async def _connect(connection: AsyncConnection) -> None:
    await connection.connect()


def test_asyncio_cancellation(target: Sshd, make: Make) -> None:
    """asyncio's own time limits and cancelled tasks end commands and connecting at random times."""
    chance = random.Random(18)

    async def limited(connection: AsyncConnection) -> None:
        for _ in range(20):
            with contextlib.suppress(asyncio.TimeoutError):
                command = connection.execute("sleep 0.03; echo a")
                await asyncio.wait_for(command, chance.random() * 0.1)

    async def main() -> None:
        async with make(target) as connection:
            await asyncio.gather(*(limited(connection) for _ in range(4)))
            assert (await connection.execute("echo a")).stdout == "a\n"
        made = [make(target) for _ in range(10)]
        for connection in made:
            attempt = asyncio.create_task(_connect(connection))
            await asyncio.sleep(chance.random() * 0.05)
            attempt.cancel()
            outcome = (await asyncio.gather(attempt, return_exceptions=True))[0]
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        for connection in made:  # some may have been connected in time
            await connection.close()

    asyncio.run(main(), debug=True)


def test_trio_cancellation(target: Sshd, make: Make) -> None:
    """trio's scopes end commands at random times, in a nursery of several."""
    chance = random.Random(18)

    async def limited(connection: AsyncConnection) -> None:
        for _ in range(20):
            with trio.move_on_after(chance.random() * 0.1):
                await connection.execute("sleep 0.03; echo a")

    async def main() -> None:
        async with make(target) as connection:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(limited, connection)
            assert (await connection.execute("echo a")).stdout == "a\n"

    trio.run(main)


async def test_a_mute_server(loop: str, mute_listener: MuteListener, silence: Silence) -> None:
    """Giving up on a server that says nothing takes no time."""
    with anyio.CancelScope() as scope:
        connect = AsyncConnection(mute_listener.host, "u", "p", port=mute_listener.port).connect()
        await Stepped(connect, at=2, strike=silence.and_then(scope.cancel))
    assert silence.is_over()
