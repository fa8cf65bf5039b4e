"""The async twin of `MultiConnection`, in the loops of asyncio and trio."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from hussh.aio import AsyncConnection
from hussh.errors import ConnectionClosed
from hussh.multi_conn import AsyncMultiConnection, HostResult, MultiConnection
from tests.multi.conftest import HOSTS, MINE, Multi
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd


async def test_the_block_connects_and_closes(loop: str, multi: Multi) -> None:
    """``async with`` gives the twin, connected; after it everything is closed."""
    async with multi() as connected:
        assert isinstance(connected, AsyncMultiConnection)
        assert repr(connected) == "AsyncMultiConnection(3 hosts, batch_size=100)"
        result = await connected.execute("echo $SSH_CONNECTION; exit 3")
    assert result.keys() == connected.hosts == HOSTS[:3]
    assert [one.status for one in result.values()] == [3] * 3
    closed = await connected.execute("true")
    assert {type(one.error) for one in closed.values()} == {ConnectionClosed}


async def test_awaiting_connects(loop: str, multi: Multi) -> None:
    """``await MultiConnection(…)`` gives the twin, to be closed by hand."""
    connected = await multi()
    assert (await connected.execute("true")).failed is None
    await connected.close()
    await connected.close()


async def test_all_methods(loop: str, multi: Multi, tmp_path: Path) -> None:
    """Maps, files, pruning, callbacks of both kinds: as in the blocking API."""
    seen: list[str] = []

    async def note(host: str, result: HostResult) -> None:
        await anyio.lowlevel.checkpoint()
        seen.append(host)

    async with multi([*HOSTS[:2], {"host": HOSTS[2], "port": 1}]) as connected:
        assert len((await connected.connect(prune_failures=True)).failed or ()) == 1
        result = await connected.execute_map({HOSTS[1]: "echo one"}, on_result=note)
        assert result[HOSTS[1]].stdout == "one\n"
        await connected.sftp_write_data("data", "file", on_result=lambda *got: seen.append(got[0]))
        local = tmp_path / "local"
        local.write_text("mine")
        assert (await connected.sftp_write(local, "other")).failed is None
        read = await connected.sftp_read("other")
        assert [one.stdout for one in read.values()] == ["mine", "mine"]
    assert sorted(seen) == [HOSTS[0], HOSTS[1], HOSTS[1]]


async def test_a_stream(loop: str, multi: Multi, mute_listener: MuteListener) -> None:
    """Results come as hosts finish; leaving the block gives up the one that hangs."""
    mute = {"host": mute_listener.host, "port": mute_listener.port, "timeout": 600}
    twin = AsyncMultiConnection(multi([mute, *HOSTS[1:4]])._group, False)
    seen = []
    async with twin.stream("echo here") as stream:
        async for host, result in stream:
            seen.append((host, result.stdout))
            if len(seen) == 3:
                break
    assert sorted(seen) == [(host, "here\n") for host in HOSTS[1:4]]
    await twin.close()


async def test_the_loop_goes_on(loop: str, multi: Multi) -> None:
    """While a call waits for its hosts, other tasks of the loop run."""
    async with multi(2) as connected:
        turns = 0

        async def count() -> None:
            nonlocal turns
            while True:
                turns += 1
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as group:
            group.start_soon(count)
            await connected.execute("sleep 0.3")
            group.cancel_scope.cancel()
    assert turns >= 5


async def test_calls_side_by_side(loop: str, multi: Multi) -> None:
    """Several tasks may have calls under way at once."""
    answers: dict[int, list[str]] = {}
    async with multi() as connected:

        async def ask(number: int) -> None:
            result = await connected.execute(f"echo {number}")
            answers[number] = [one.stdout for one in result.values()]

        async with anyio.create_task_group() as group:
            for number in range(6):
                group.start_soon(ask, number)
    assert answers == {number: [f"{number}\n"] * 3 for number in range(6)}


async def test_cancelling_stops_the_hosts(loop: str, multi: Multi) -> None:
    """A cancelled call ends at once, its commands are told to stop, and all stays usable."""
    async with multi(2) as connected:
        with anyio.move_on_after(0.3) as scope:
            await connected.execute(f"exec sleep 62.{MINE}")
        assert scope.cancelled_caught
        found = f"while pgrep -f '^sleep 62.{MINE}' >/dev/null; do sleep 0.02; done; echo gone"
        assert (await connected.execute(found, timeout=20)).values()[0].stdout == "gone\n"


async def test_cancelling_while_connecting(
    loop: str, multi: Multi, mute_listener: MuteListener
) -> None:
    """The block is not entered, and nothing is left."""
    mute = {"host": mute_listener.host, "port": mute_listener.port}
    connection = multi([HOSTS[0], mute])
    with anyio.move_on_after(0.5) as scope:
        async with connection:
            raise AssertionError("it never connects")
    assert scope.cancelled_caught


async def test_an_exception_of_the_callback(loop: str, multi: Multi) -> None:
    """It comes out as it is, and the rest is stopped."""

    def fail(host: str, result: HostResult) -> None:
        raise LookupError(host)

    async with multi(2) as connected:
        commands = {HOSTS[0]: "echo", HOSTS[1]: "exec sleep 60"}
        with pytest.raises(LookupError, match=HOSTS[0]):
            await connected.execute_map(commands, on_result=fail)


async def test_a_bastion_of_this_loop(loop: str, multi: Multi, bastion: Sshd) -> None:
    """Hosts behind a bastion that the caller connected use that very session, and leave it open."""
    async with AsyncConnection(
        bastion.host, "alice", key_path=bastion.alice.key.path, port=bastion.port
    ) as way:
        behind = [{"host": host, "proxy_jump": way} for host in HOSTS[:3]]
        async with multi([*behind, *HOSTS[3:5]]) as connected:
            result = await connected.execute("echo $SSH_CONNECTION")
            assert result.failed is None
            async with connected.stream("echo x") as stream:
                assert len([host async for host, _ in stream]) == 5
        assert (await way.execute("true")).status == 0
    assert len(bastion.authentications()) == 1


async def test_cancelling_in_this_loop(loop: str, multi: Multi, bastion: Sshd) -> None:
    """Also what runs in the caller's own loop is stopped."""
    async with AsyncConnection(
        bastion.host, "alice", key_path=bastion.alice.key.path, port=bastion.port
    ) as way:
        async with multi(2, proxy_jump=way) as connected:
            with anyio.move_on_after(0.3) as scope:
                await connected.execute("exec sleep 60")
            assert scope.cancelled_caught
            assert (await connected.execute("true")).failed is None
            with pytest.raises(ZeroDivisionError):
                await connected.execute("true", on_result=lambda *_: 1 / 0)
        assert (await way.execute("true")).status == 0


async def test_the_blocking_api_refuses_a_bastion_of_this_loop(
    loop: str, multi: Multi, bastion: Sshd
) -> None:
    """Blocking the loop that drives the bastion could only hang; the error says what to do."""
    async with AsyncConnection(
        bastion.host, "alice", key_path=bastion.alice.key.path, port=bastion.port
    ) as way:
        connection: MultiConnection = multi(2, proxy_jump=way)
        with pytest.raises(RuntimeError, match="async with MultiConnection"):
            connection.connect()
