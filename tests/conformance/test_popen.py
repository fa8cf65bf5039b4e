"""`popen` in every API: a command that runs while we talk with it."""

from __future__ import annotations

import hashlib
import random
import signal
from array import array
from collections.abc import Callable
from typing import Any

import pytest

from hussh import ChannelError, CommandTimeout, ConnectionClosed, Pty, SSHResult
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, NINE, THREE
from tests.support.sshd import Sshd

MIB = 1 << 20


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_talking(client: Client) -> None:
    """Lines go to a command and come back while it runs; its streams stay apart."""
    script = "while read line; do echo got $line; done; echo end >&2; exit 7"
    async with client.awaited.popen(script) as process:
        for word in (b"one", b"two", b"three"):
            await process.say(word + b"\n")
            assert await process.stdout.readline() == b"got " + word + b"\n"
            assert await process.poll() is None
        await process.say(b"x\ny\n")
        await process.stdin.close()
        await process.stdin.close()
        assert [line async for line in process.stdout] == [b"got x\n", b"got y\n"]
        assert await process.stderr.read() == b"end\n"
        assert await process.stderr.read() == b""
        assert await process.wait() == 7
    assert (process.returncode, process.signal) == (7, None)
    assert "returncode=7" in repr(process.real)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_items_larger_than_bytes(client: Client) -> None:
    """Of a buffer whose items are not bytes every byte is written, and counted."""
    samples = memoryview(array("i", range(1000)))
    async with client.awaited.popen("cat") as process:
        assert await process.stdin.write(samples) == samples.nbytes
        await process.stdin.close()
        assert await process.stdout.read() == samples.tobytes()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_much_both_ways(client: Client) -> None:
    """One thread or task writes what another reads, many times what fits into the window."""
    data = random.Random(5).randbytes(5 * MIB)
    digest = hashlib.sha256()
    async with client.awaited.popen("cat") as process:

        async def write() -> None:
            await process.say(data)
            await process.stdin.close()

        async def read() -> None:
            while part := await process.read_some("stdout", 65536):
                digest.update(part)

        await client.together(write, read)
    assert digest.digest() == hashlib.sha256(data).digest()
    assert process.returncode == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_signals_and_limits(client: Client) -> None:
    """`wait` gives up after its own limit and does nothing; a signal ends the command."""
    async with client.awaited.popen("echo ready; exec sleep 1000") as process:
        assert await process.stdout.readline() == b"ready\n"
        with pytest.raises(CommandTimeout, match=r"after (100 ms|0\.1 s)") as caught:
            await process.wait(timeout=0.1)
        assert caught.value.result == SSHResult()
        assert await process.poll() is None
        await process.terminate()
        assert await process.wait(timeout=0) == -1
    assert process.signal == "TERM"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_signals_to_commands_that_just_begin(client: Client) -> None:
    """sshd loses signals that come before a command has begun, and is asked again."""
    for number in range(10):
        async with client.awaited.popen("exec sleep 1000") as process:
            await process.send_signal("USR1" if number % 2 else "KILL")
            assert await process.wait(timeout=20) == -1
        assert process.signal == ("USR1" if number % 2 else "KILL")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_signals_of_every_form(client: Client) -> None:
    """A signal may be a member of `signal.Signals` or a name; what is neither is refused."""
    for form in (signal.SIGINT, "SIGINT", "INT"):
        async with client.awaited.popen("echo ready; exec sleep 1000") as process:
            assert await process.stdout.readline() == b"ready\n"
            for wrong in (None, b"INT", 2):
                with pytest.raises(TypeError, match="signal must be a string"):
                    await process.send_signal(wrong)
            await process.send_signal(form)
            assert await process.wait() == -1
        assert process.signal == "INT"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_error_in_the_block_kills(client: Client) -> None:
    """An exception in the block ends the command at once; the connection stays usable."""
    pids: list[int] = []
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the block is what is tested)
        async with client.awaited.popen("echo $$; exec sleep 1000") as process:
            pids.append(int(await process.stdout.readline()))
            raise ZeroDivisionError
    gone = f"while kill -0 {pids[0]} 2>/dev/null; do sleep 0.02; done; echo gone"
    assert (await client.execute(gone)).stdout == "gone\n"


ENDLESS = "trap '' PIPE; echo ready; while :; do echo more; sleep 0.05; done"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_left_while_it_runs(client: Client) -> None:
    """Leaving the block ends a command that runs: by TERM, or by KILL where that does nothing."""
    async with client.awaited.popen(ENDLESS) as process:
        assert await process.stdout.readline() == b"ready\n"
    assert (process.returncode, process.signal) == (-1, "TERM")
    async with client.awaited.popen("trap '' TERM; " + ENDLESS) as process:
        assert await process.stdout.readline() == b"ready\n"
    assert (process.returncode, process.signal) == (-1, "KILL")
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_left_while_it_may_end(client: Client) -> None:
    """A command that may be about to end gets a moment: nothing that it was given is lost."""
    async with client.awaited.popen("sleep 0.3; exit 3") as process:
        pass  # nothing was wanted of it but what it does
    assert process.returncode == 3
    async with client.awaited.popen("echo a; exec >&- 2>&-; sleep 0.3; exit 4") as process:
        assert await process.stdout.read() == b"a\n"
    assert process.returncode == 4
    async with client.awaited.popen("cat; sleep 0.3; exit 5") as process:
        await process.say(b"x" * 100_000)
        assert await process.stdout.read(1) == b"x"
    assert process.returncode == 5
    async with client.awaited.popen("head -c 5000000 /dev/zero; exit 6") as process:
        pass  # more than fits into its window
    assert process.returncode == 6


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_command_that_reads_nothing(client: Client) -> None:
    """Writing to a command that has ended is an error, not a hang."""
    async with client.awaited.popen("true") as process:
        await process.wait()
        with pytest.raises(OSError, match="closed"):  # noqa: PT012 (the first may fit)
            for _ in range(100):
                await process.say(b"x" * 100_000)
    assert process.returncode == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_terminal(client: Client) -> None:
    """A terminal has the size that was asked for."""
    async with client.awaited.popen("stty size; tty", pty=Pty("vt100", 132, 43)) as process:
        answer = await process.stdout.read()
    assert answer.startswith(b"43 132\r\n/dev/")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_environment(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """Variables reach the command where the server accepts them."""
    server = sshd_factory(options={"AcceptEnv": "LC_*"})
    real: Any = (await client.connect_to(server)).real
    async with type(client.awaited)(real).popen("echo $LC_A", env={"LC_A": "set äö"}) as process:
        assert await process.stdout.read() == "set äö\n".encode()


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_use_after_close(client: Client) -> None:
    """A closed process refuses to be used, and closing twice is fine."""
    process = await client.awaited.popen("sleep 1000")
    await process.close()
    await process.close()
    with pytest.raises(ConnectionClosed):
        await process.wait()
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_refused(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """A server that runs no commands and gives no shells is a ChannelError."""
    real: Any = (await client.connect_to(sshd_factory(options={"MaxSessions": 0}))).real
    conn = type(client.awaited)(real)
    for call in (conn.popen("true"), conn.shell()):
        with pytest.raises(ChannelError, match="refused"):
            await call
