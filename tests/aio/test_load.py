"""Many tasks on one connection, and how long the event loop stands still."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import anyio

from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.steps import Stepped
from tests.support.keys import Keys
from tests.support.sshd import Sshd

#: CPU seconds; what a user may notice is 0.05, and a loaded machine gets some more.
STALL = 0.1


async def test_a_hundred_commands(loop: str, target: Sshd, make: Make) -> None:
    """A hundred commands at once, ten times what the server takes, all end with their output."""
    outputs: dict[int, str] = {}
    async with make(target) as connection:

        async def work(number: int) -> None:
            outputs[number] = (await connection.execute(f"echo {number}")).stdout

        async with anyio.create_task_group() as group:
            for number in range(100):
                group.start_soon(work, number)
    assert outputs == {number: f"{number}\n" for number in range(100)}


async def test_commands_run_side_by_side(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make
) -> None:
    """Thirty commands that wait for one another all end: none is held back by another."""
    server = sshd_factory(options={"MaxSessions": 40})
    meeting = server.alice.path("meeting")
    wait = f"while [ $(ls {meeting} | wc -l) -lt 30 ]; do sleep 0.05; done"
    async with make(server) as connection:

        async def work(number: int) -> None:
            command = f"mkdir -p {meeting}; touch {meeting}/{number}; {wait}; echo met"
            assert (await connection.execute(command, 60)).stdout == "met\n"

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(work, number)


async def test_no_step_is_long(
    loop: str, bastion: Sshd, sshd_factory: Callable[..., Sshd], make: Make, keys: Keys
) -> None:
    """No step of connecting, with an encrypted key and over a bastion, or of a transfer is long."""
    key = keys.get("ed25519", passphrase="correct horse 42", name="slow")
    target = sshd_factory()
    target.authorize(target.alice, key)

    async def connect() -> AsyncConnection:
        return await make(
            target, key_path=key.path, password="correct horse 42", proxy_jump=make(bastion)
        )

    first = Stepped(connect())
    connection = await first
    try:
        second = Stepped(connection.execute("head -c 30000000 /dev/zero"))
        assert len((await second).stdout_bytes) == 30_000_000
    finally:
        await connection.close()
    assert first.longest < STALL
    assert second.longest < STALL
    assert first.count > 5


async def test_others_get_turns_during_a_transfer(loop: str, target: Sshd, make: Make) -> None:
    """While much data comes, other tasks run often."""
    turns = 0
    done = anyio.Event()

    async def count() -> None:
        nonlocal turns
        while not done.is_set():
            turns += 1
            await anyio.sleep(0)

    async with make(target) as connection, anyio.create_task_group() as group:
        group.start_soon(count)
        result = await connection.execute("head -c 20000000 /dev/zero")
        done.set()
    assert len(result.stdout_bytes) == 20_000_000
    assert turns > 20


def test_many_loops_after_one_another(target: Sshd, make: Make) -> None:
    """Each asyncio.run has a loop of its own; connections of the last one do not disturb."""

    async def main() -> str:
        async with make(target) as connection:
            return (await connection.execute("echo a")).stdout

    assert [asyncio.run(main()) for _ in range(5)] == ["a\n"] * 5
