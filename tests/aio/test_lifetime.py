"""Connecting, closing, sharing: who opens a connection, and when it ends."""

from __future__ import annotations

import gc
import inspect
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from hussh import (
    AuthenticationError,
    CommandTimeout,
    ConnectionClosed,
    ConnectTimeout,
    PromptRequest,
)
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.conformance.apis import LOOPS, run_in
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd

ON_UVLOOP = True
ROOMY = {"MaxSessions": 100, "MaxStartups": "200:30:200"}


def logins(server: Sshd) -> int:
    """Return how many logins the server has accepted."""
    return sum(attempt.accepted for attempt in server.authentications())


@pytest.mark.parametrize("way", ["await", "with", "connect"])
async def test_ways_to_connect(loop: str, way: str, target: Sshd, make: Make) -> None:
    """Awaiting, entering and connecting lead to the same; closing is idempotent."""
    connection = make(target)
    if way == "await":
        assert await connection is connection
    elif way == "with":
        async with connection as entered:
            assert entered is connection
            assert (await entered.execute("echo a")).stdout == "a\n"
    else:
        await connection.connect(timeout=30)
        await connection.connect()
    if way != "with":
        assert (await connection.execute("echo a")).stdout == "a\n"
    await connection.close()
    await connection.close()
    with pytest.raises(ConnectionClosed):
        await connection.execute("true")
    assert logins(target) == 1


async def test_connect_again(loop: str, target: Sshd, make: Make) -> None:
    """A closed connection can be connected again."""
    connection = make(target)
    for _ in range(2):
        async with connection:
            assert (await connection.execute("echo a")).stdout == "a\n"


async def test_times_are_seconds(loop: str, target: Sshd, make: Make) -> None:
    """A command's limit is in seconds; afterwards the connection is usable."""
    async with make(target) as connection:
        with pytest.raises(CommandTimeout, match=r"Command timed out after 0\.3 s") as caught:
            await connection.execute("echo begun; sleep 60", timeout=0.3)
        assert isinstance(caught.value, TimeoutError)
        assert (await connection.execute("echo a")).stdout == "a\n"


async def test_connect_timeout(loop: str, mute_listener: MuteListener) -> None:
    """A server that never speaks costs the time limit and no more."""
    where: dict[str, Any] = {"port": mute_listener.port, "username": "u", "password": "p"}
    with pytest.raises(ConnectTimeout, match=r"Connection timed out after 0\.3 s") as caught:
        await AsyncConnection(mute_listener.host, timeout=0.3, **where)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.phase == "banner"
    with pytest.raises(ConnectTimeout, match=r"Connection timed out after 0\.2 s"):
        await AsyncConnection(mute_listener.host, timeout=9, **where).connect(timeout=0.2)


async def test_jump_forms(loop: str, bastion: Sshd, target: Sshd, make: Make) -> None:
    """String, tuple and list lead the same way, through a bastion of our own."""
    place = f"{bastion.host}:{bastion.port}"
    pair = (bastion.host, bastion.port)
    for jump in (place, f"ssh://{place}", pair, [pair], [place]):
        async with make(target, proxy_jump=jump) as connection:
            assert (await connection.execute("echo a")).stdout == "a\n"


async def test_many_targets_share_an_unconnected_bastion(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make
) -> None:
    """Twenty targets at once log in on their bastion once, and it is closed after the last."""
    gate, target = sshd_factory(options=ROOMY), sshd_factory(options=ROOMY)
    bastion = make(gate)
    targets = [make(target, proxy_jump=bastion) for _ in range(20)]

    async def work(connection: AsyncConnection) -> None:
        async with connection:
            assert (await connection.execute("echo a")).stdout == "a\n"

    async with anyio.create_task_group() as group:
        for connection in targets:
            group.start_soon(work, connection)
    assert logins(target) == 20
    assert logins(gate) == 1
    with pytest.raises(ConnectionClosed):
        await bastion.execute("true")


async def test_a_connected_bastion_stays_open(
    loop: str, bastion: Sshd, target: Sshd, make: Make
) -> None:
    """A bastion that the caller connected outlives its targets; one that it did not, does not."""
    async with make(bastion) as first:
        async with make(target, proxy_jump=first) as second:
            assert (await second.execute("echo a")).stdout == "a\n"
        assert (await first.execute("echo b")).stdout == "b\n"
    nested = make(target, proxy_jump=make(bastion, proxy_jump=None))
    async with nested as second:
        assert (await second.execute("echo a")).stdout == "a\n"
        assert nested._plan.bastion is not None
    with pytest.raises(ConnectionClosed):
        await nested._plan.bastion.execute("true")


async def test_nested_unconnected_bastions(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make
) -> None:
    """A chain of connections is connected from its outer end and closed from the inner one."""
    servers = [sshd_factory() for _ in range(3)]
    outer = make(servers[0])
    middle = make(servers[1], proxy_jump=outer)
    async with make(servers[2], proxy_jump=middle) as last:
        assert (await last.execute("echo a")).stdout == "a\n"
        assert (await middle.execute("echo b")).stdout == "b\n"
    assert [logins(server) for server in servers] == [1, 1, 1]
    for connection in (outer, middle):
        with pytest.raises(ConnectionClosed):
            await connection.execute("true")


async def test_a_bastion_that_fails(loop: str, bastion: Sshd, target: Sshd, make: Make) -> None:
    """The bastion's refusal reaches every target that needed it, after one attempt, by its name."""
    jump = make(bastion, private_key=None)
    errors: list[AuthenticationError] = []

    async def work() -> None:
        with pytest.raises(AuthenticationError) as refused:
            await make(target, proxy_jump=jump)
        errors.append(refused.value)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(work)
    assert {(error.hop_index, error.phase) for error in errors} == {(0, "auth")}
    assert bastion.connections() == 1


async def test_the_bastion_goes_first(loop: str, bastion: Sshd, target: Sshd, make: Make) -> None:
    """Closing the bastion ends what it carries, with an error that says so."""
    jump = await make(bastion)
    connection = await make(target, proxy_jump=jump)
    await jump.close()
    with pytest.raises(ConnectionClosed, match="bastion"):
        await connection.execute("true")
    await connection.close()


async def test_closing_under_a_command(loop: str, target: Sshd, make: Make) -> None:
    """Closing while commands run ends these with ConnectionClosed, and leaves nothing."""
    connection = await make(target)
    ended: list[type[BaseException]] = []

    async def work() -> None:
        with pytest.raises(ConnectionClosed) as closed:
            await connection.execute("sleep 60")
        ended.append(closed.type)

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(work)
        await connection.execute("true")
        await connection.close()
    assert len(ended) == 3


async def test_closed_while_it_opens(
    loop: str, sshd_factory: Callable[..., Sshd], make: Make
) -> None:
    """Whoever is opening a connection that another closes gets an error with a place."""
    server = sshd_factory()

    async def prompt(asked: Any) -> list[str]:
        await connection.close()
        return [server.alice.password] * len(asked.prompts)

    connection = make(server, private_key=None, prompt=prompt)
    with pytest.raises(ConnectionClosed, match="closed while it was being opened") as caught:
        await connection.connect()
    assert caught.value.hop == f"alice@{server.host}:{server.port}"
    assert caught.value.phase


@pytest.mark.parametrize("other", LOOPS)
async def test_another_loop(loop: str, other: str, target: Sshd, make: Make) -> None:
    """Every method of a connection and of its streams is refused in a loop that is not its own."""
    async with make(target) as connection:
        process = await connection.popen("cat")
        shell = await connection.shell()
        path = str(target.alice.path("a"))
        calls: list[Callable[[], Any]] = [
            connection.close,
            connection.connect,
            lambda: connection.execute("true"),
            lambda: connection.popen("true"),
            connection.shell,
            connection.sftp_list,
            lambda: connection.sftp_read(path),
            lambda: connection.sftp_write_data("a", path),
            lambda: connection.scp_read(path),
            lambda: connection.scp_write_data("a", path),
            make(target, host="h", proxy_jump=connection).connect,
            process.wait,
            process.poll,
            process.terminate,
            process.stdin.close,
            lambda: process.stdin.write(b"a"),
            process.stdout.read,
            process.stderr.readline,
            process.close,
            lambda: shell.send("a"),
            lambda: shell.resize(10, 10),
            shell.read,
            shell.close,
        ]
        refused: list[str] = []

        async def main() -> None:
            for call in calls:
                try:
                    result = call()
                    if inspect.isawaitable(result):
                        await result
                except RuntimeError as error:
                    refused.append(str(error))
                else:
                    refused.append(f"{call} was allowed")

        thread = threading.Thread(target=lambda: run_in(other, main))
        thread.start()
        thread.join()
        belongs = "this connection belongs to another event loop, the one that opened it"
        assert refused == [belongs] * len(calls)
        await process.stdin.write(b"b\n")
        assert await process.stdout.readline() == b"b\n"
        process.close()
        await shell.close()
        assert (await connection.execute("echo a")).stdout == "a\n"


async def test_collected_while_open(loop: str, bastion: Sshd, target: Sshd, make: Make) -> None:
    """What is dropped while open warns, and leaves nothing behind; nor does its hidden bastion."""
    dropped = [await make(target, proxy_jump=make(bastion))]
    await dropped[0].execute("true")
    with pytest.warns(ResourceWarning, match="unclosed AsyncConnection"):
        dropped.clear()
    gc.collect()
    ended = r"^(Received disconnect|Disconnected from|Connection closed by)|Broken pipe"
    await anyio.to_thread.run_sync(bastion.wait_for_log, ended)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
async def test_prompts(loop: str, kind: str, sshd_factory: Callable[..., Sshd], make: Make) -> None:
    """A prompt callback may be a function or a coroutine function of the same loop."""
    options = {"AuthenticationMethods": "publickey,keyboard-interactive"}
    server = sshd_factory(pam="password+otp", options=options)
    answers = [server.alice.password, server.alice.otp]

    def prompt(request: PromptRequest) -> list[str]:
        return [answers.pop(0) for _ in request.prompts]

    async def prompt_later(request: PromptRequest) -> list[str]:
        await anyio.sleep(0.01)
        return prompt(request)

    callback = prompt if kind == "function" else prompt_later
    async with make(server, prompt=callback) as connection:
        assert (await connection.execute("echo a")).stdout == "a\n"
