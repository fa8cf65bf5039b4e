"""Commands on servers with settings of their own, and very many commands on one connection."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable

import pytest

from hussh.errors import ChannelError, ChannelRefused
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR
from tests.conformance.memory import allocated
from tests.support.hostile import ChannelRequest, HostileServer, Services, polite
from tests.support.sshd import Sshd, openssh_version

LONG = os.environ.get("HUSSH_LONG") == "1"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_refused_exec(client: Client) -> None:
    """A refused exec request is an error of that call only."""
    verdicts = [False, True]

    def requested(request: ChannelRequest) -> bool | None:
        return None if request.name != "exec" or verdicts.pop(0) else False

    with HostileServer(polite(services=Services(requested=requested))) as server:
        session = await client.connect(*server.address, username="u", password="p")
        with pytest.raises(ChannelError, match="refused to run a command") as caught:
            await session.execute("echo no")
        assert caught.value.hop == f"u@{server.host}:{server.port}"
        assert (await session.execute("echo yes")).stdout == "yes\n"
        await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_no_sessions_allowed(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """`MaxSessions 0` refuses the channel: a typed error, each time, and no lost connection."""
    server = sshd_factory(options={"MaxSessions": 0})
    session = await client.connect_to(server)
    for _ in range(3):
        with pytest.raises(ChannelRefused, match="refused a session") as caught:
            await session.execute("true")
        assert caught.value.phase == "channel"
    await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_more_commands_at_once_than_the_server_takes(
    client: Client, sshd_factory: Callable[..., Sshd]
) -> None:
    """Beyond `MaxSessions` commands take turns; each runs once."""
    session = await client.connect_to(sshd_factory(options={"MaxSessions": 2}))

    async def one() -> str:
        return (await session.execute("sleep 0.1; echo ran", timeout=60)).stdout

    assert await client.together(*[one] * 5) == ["ran\n"] * 5
    assert (await session.execute("echo after")).stdout == "after\n"
    await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_one_session_at_a_time(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """With `MaxSessions 1` commands one after the other never meet their predecessor's place."""
    session = await client.connect_to(sshd_factory(options={"MaxSessions": 1}))
    for _ in range(100 if LONG else 12):
        assert (await session.execute("echo ran", timeout=60)).stdout == "ran\n"
    await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_forced_command(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """With `ForceCommand` the server's command runs, and knows which one we asked for."""
    server = sshd_factory(options={"ForceCommand": 'echo "not: $SSH_ORIGINAL_COMMAND"; exit 7'})
    session = await client.connect_to(server)
    result = await session.execute("rm -rf x")
    assert (result.stdout, result.status) == ("not: rm -rf x\n", 7)
    await session.close()


@pytest.mark.skipif(openssh_version() < (9, 2), reason="ChannelTimeout came with OpenSSH 9.2")
@pytest.mark.parametrize("client", FOUR, indirect=True)  # a second of sshd's for each
async def test_channel_timeout(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """A session that the server closes for idleness has no status and is no success."""
    for seconds in (1, 4, 16):  # a shell may need longer than the first, on a busy machine
        server = sshd_factory(options={"ChannelTimeout": f"session:command={seconds}s"})
        session = await client.connect_to(server)
        result = await session.execute("echo begin; exec sleep 60", timeout=60)
        if result.stdout:
            break
    assert (result.stdout, result.status, result.signal) == ("begin\n", -1, None)
    assert (await session.execute("echo next")).stdout == "next\n"
    await session.close()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_channel_numbers_are_used_again(client: Client) -> None:
    """Commands one after the other need one or two channel numbers, however many they are."""
    with HostileServer(polite()) as server:
        session = await client.connect(*server.address, username="u", password="p")
        for number in range(1000 if LONG else 60):
            assert (await session.execute(f"exit {number % 7}")).status == number % 7
        await session.close()
        numbers = {request.data[:4] for request in server.wait().opens}
    assert len(numbers) <= 2


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_memory_stays_flat(client: Client) -> None:
    """Hundreds of commands leave no memory behind, neither in C nor in Python."""
    rounds = 2000 if LONG else 80

    async def run(count: int) -> None:
        for _ in range(count):
            assert (await client.execute(":")).status == 0

    async def growth() -> tuple[int, int]:
        gc.collect()
        c_before, python_before = allocated()
        await run(rounds)
        gc.collect()
        c_after, python_after = allocated()
        return c_after - c_before, python_after - python_before

    await run(30)
    grown = await growth()
    if grown[0] >= rounds * 200:  # a buffer may have become larger, once
        grown = await growth()
    # One lost channel per command would be 600 bytes and more in C, some blocks in Python.
    assert grown[0] < rounds * 200
    assert grown[1] < rounds


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_commands_from_many_tasks_in_turns(client: Client) -> None:
    """Several threads or tasks that each run many short commands never mix up the answers."""
    count = 100 if LONG else 12

    async def work(name: int) -> bool:
        for turn in range(count):
            result = await client.execute(f"echo {name} {turn}; exit {turn}")
            if (result.stdout, result.status) != (f"{name} {turn}\n", turn):
                return False
        return True

    jobs = [lambda name=name: work(name) for name in range(4)]
    assert await client.together(*jobs) == [True] * 4
