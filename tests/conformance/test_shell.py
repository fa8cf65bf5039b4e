"""`shell` in every API: what hussh 0.3.3's interactive shells do, and how they end.

`read` differs, as in 0.3.3: the sync one ends the shell's input and waits for its end, the async
one gives what has arrived and can be called again and again.
"""

from __future__ import annotations

from typing import Any

import pytest

from hussh import ChannelError, SSHResult
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import NINE, THREE


async def ended(shell: Awaited) -> None:
    """Read until the shell has ended, where reading does not end it."""
    if hasattr(shell.real, "__aenter__"):
        while (await shell.read()).status == -1:
            pass


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_result_after_the_block(client: Client) -> None:
    """What the shell said and how it ended is in `result`; its state lives on between lines."""
    async with client.awaited.shell() as shell:
        assert shell.result is None
        await shell.send("word=kept", None)
        await shell.send("echo $wo", add_newline=False)
        await shell.send(b"rd\n")
        await shell.send("echo oops >&2; exit 5")
    assert shell.result == SSHResult(b"kept\n", b"oops\n", 5)


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_terminal(client: Client) -> None:
    """With a terminal the block says exit; the terminal has the sizes that it is told."""
    async with client.awaited.shell(pty=True) as shell:
        await shell.send("stty size")
        await shell.resize(100, 50)
        await shell.send("stty size")
    assert shell.result is not None
    assert "50 100" in shell.result.stdout
    assert shell.result.status == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_ended_shell(client: Client) -> None:
    """Sending to a shell that has ended is a ChannelError; leaving tells how it ended."""
    async with client.awaited.shell(True) as shell:
        await shell.send("exit 2")
        await ended(shell)
        with pytest.raises(ChannelError):  # noqa: PT012 - until the news has come
            while True:
                await shell.send("echo never")
    assert shell.result is not None
    assert shell.result.status == 2


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_closed_in_its_block(client: Client) -> None:
    """A shell or command that was closed in its block is left without an error, as in 0.3.3."""
    async with client.awaited.shell() as shell:
        await shell.close()
    assert shell.result == SSHResult(b"", b"", -1)
    async with client.awaited.popen("exec sleep 1000") as process:
        await process.close()
    assert process.returncode is None


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_shell_that_does_not_end(client: Client) -> None:
    """When the time is over the result has what came, and status -1; the connection goes on."""
    real: Any = (await client.connect_to(client.server, timeout=1)).real

    async def leave(pty: bool | None) -> SSHResult | None:
        async with Awaited(real).shell(pty) as shell:
            await shell.send("echo beg''un; exec sleep 1000")
        left: SSHResult | None = shell.result
        return left

    for result in await client.together(lambda: leave(None), lambda: leave(True)):
        assert isinstance(result, SSHResult), result
        assert "begun" in result.stdout
        assert result.status == -1
    assert (await Awaited(real).execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_errors_and_close(client: Client) -> None:
    """An error in the block closes at once and sets no result; `close` alone is enough, twice."""
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the block is what is tested)
        async with client.awaited.shell() as shell:
            await shell.send("exec sleep 1000")
            raise ZeroDivisionError
    assert shell.result is None
    shell = await client.awaited.shell()
    with pytest.raises(TypeError, match="bytes-like"):
        await shell.send(3)
    await shell.close()
    await shell.close()
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_reading(client: Client) -> None:
    """The sync `read` ends the input; the async one answers again and again."""
    async with client.awaited.shell() as shell:
        await shell.send("echo one")
        if client.api.name == "sync":
            assert await shell.read() == SSHResult(b"one\n", b"", 0)
        else:
            said = await shell.read()
            while not said.stdout:
                said = await shell.read()
            assert said == SSHResult(b"one\n", b"", -1)
            await shell.send("echo two; exit 3")
            said = await shell.read()
            while said.status == -1:
                more = await shell.read()
                said = SSHResult(said.stdout_bytes + more.stdout_bytes, b"", more.status)
            assert said == SSHResult(b"two\n", b"", 3)
    assert shell.result is not None
    assert shell.result.stdout == ""
