"""Many tasks on one connection, and many connections through one bastion."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream

from hussh._protocol.session_slots import SessionSlots
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.mute_peers import waited_so_far
from tests.aio.steps import Stepped
from tests.support.listeners import MuteListener
from tests.support.relay import Relay
from tests.support.sshd import Sshd

LONG = os.environ.get("HUSSH_LONG") == "1"
ON_UVLOOP = LONG
TARGETS = 200 if LONG else 50
COMMANDS = 200 if LONG else 80
#: Seconds to a bastion and back.
FAR = 0.1


@pytest.mark.one_loop
async def test_many_commands(loop: str, target: Sshd, make: Make) -> None:
    """Many times as many commands as the server takes at once all end with their own output.

    Every tenth is given up in between, which gives its place to another.
    """
    outputs: dict[int, str] = {}
    async with make(target) as connection:

        async def work(number: int) -> None:
            with anyio.CancelScope() as scope:
                command = connection.execute("cat", input=f"{number}")
                outputs[number] = (await Stepped(command, scope, 2 if is_cut(number) else 0)).stdout

        async with anyio.create_task_group() as group:
            for number in range(COMMANDS):
                group.start_soon(work, number)
        session: Any = connection._shared.session
        assert SessionSlots.of(session.link).used == 0
        assert (await connection.execute("echo a")).stdout == "a\n"
    for number in range(COMMANDS):
        assert outputs.get(number) in ([str(number), None] if is_cut(number) else [str(number)])


def is_cut(number: int) -> bool:
    """Whether this one of many is given up on the way."""
    return number % 10 == 3


async def test_fifty_transfers(loop: str, target: Sshd, make: Make) -> None:
    """Fifty tasks write and read on one SFTP channel, some give up, and each gets its own."""
    got: dict[int, bool] = {}
    async with make(target) as connection:
        await connection.sftp_list()

        async def work(number: int) -> None:
            path, data = target.alice.path(f"load-{number}"), os.urandom(50_000 + number)
            with anyio.CancelScope() as scope:

                async def copy() -> None:
                    await connection.sftp_write_data(data, path)
                    got[number] = await connection.sftp_read(path, encoding=None) == data

                await Stepped(copy(), scope, 3 if is_cut(number) else 0)

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(work, number)
    assert all(got.values())
    assert {number for number in range(50) if not is_cut(number)} <= got.keys()
    assert len(re.findall("request subsystem reply", target.log_text())) == 1


@pytest.mark.one_loop
async def test_many_targets_through_one_bastion(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make
) -> None:
    """Many targets share a bastion's one login; those that are cancelled do not disturb others."""
    room = {"MaxSessions": 1, "MaxStartups": f"{TARGETS}:30:{TARGETS}"}
    gate, target = sshd_factory(options=room), sshd_factory(options=room)
    outputs: dict[int, str] = {}
    async with make(gate) as bastion:

        async def work(number: int) -> None:
            with anyio.CancelScope() as scope:
                connect = make(target, proxy_jump=bastion).__aenter__()
                cut = 2 + number // 10 if is_cut(number) else 0  # somewhere within connecting
                async with await Stepped(connect, scope, cut) as connection:
                    result = await connection.execute("cat", input=f"{number}")
                    outputs[number] = result.stdout

        async with anyio.create_task_group() as group:
            for number in range(TARGETS):
                group.start_soon(work, number)
        assert (await bastion.execute("echo a")).stdout == "a\n"
    whole = {number: str(number) for number in range(TARGETS) if not is_cut(number)}
    assert {number: outputs[number] for number in whole} == whole
    assert sum(attempt.accepted for attempt in gate.authentications()) == 1


@pytest.mark.one_loop
async def test_opens_do_not_wait_for_one_another(
    loop: str,
    sshd_factory: Callable[..., Sshd],
    relay_factory: Callable[..., Relay],
    mute_listener: MuteListener,
    make: Make,
) -> None:
    """A hundred ways behind a bastion are asked for before the first answer has come.

    The way back from the bastion is frozen meanwhile, so that it cannot be otherwise; any delay
    of that way then counts once and not a hundred times.
    """
    gate = sshd_factory(options={"MaxSessions": 1})
    relay = relay_factory(gate)
    async with make(gate, host=relay.host, port=relay.port) as bastion:
        relay.freeze("to_client")

        async def work() -> None:
            await AsyncConnection(mute_listener.host, port=mute_listener.port, proxy_jump=bastion)

        async with anyio.create_task_group() as group:
            for _ in range(100):
                group.start_soon(work)
            with anyio.fail_after(30):
                while len(gate.forwards()) < 100:
                    await anyio.sleep(0.01)
            relay.thaw()
            group.cancel_scope.cancel()
        assert (await bastion.execute("echo a")).stdout == "a\n"


@pytest.mark.one_loop
async def test_opens_through_a_delay(
    loop: str, sshd_factory: Callable[..., Sshd], relay_factory: Callable[..., Relay], make: Make
) -> None:
    """A hundred ways behind a bastion 100 ms away are open after a few round trips."""
    gate = sshd_factory(options={"MaxSessions": 1})
    relay = relay_factory(gate, rtt=FAR)
    greeted = 0

    async def greet(stream: SocketStream) -> None:
        nonlocal greeted
        async with stream:
            assert (await stream.receive()).startswith(b"SSH-2.0-")  # so that way is open
            greeted += 1
            await anyio.sleep_forever()

    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    host, port = listener.extra(SocketAttribute.local_address)
    async with (
        make(gate, host=relay.host, port=relay.port) as bastion,
        listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, greet)
        start = waited_so_far()

        async def work() -> None:
            await AsyncConnection(host, port=port, proxy_jump=bastion)

        for _ in range(100):
            group.start_soon(work)
        with anyio.fail_after(60):
            while greeted < 100:
                await anyio.sleep(0.01)
        assert waited_so_far() - start < 20 * FAR
        group.cancel_scope.cancel()


@pytest.mark.one_loop
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
