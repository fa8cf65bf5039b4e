"""`communicate` of `popen`, and iteration over its lines, in every API."""

from __future__ import annotations

import hashlib
import random

import pytest

from hussh import CommandTimeout, SSHResult
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE

MIB = 1 << 20


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_all_at_once(client: Client) -> None:
    """All input is sent while both outputs are read, whatever fills which buffer."""
    data = random.Random(4).randbytes(6 * MIB)
    async with client.awaited.popen("tee /dev/stderr; exit 3") as process:
        out, err = await process.communicate(data, timeout=120)
        assert process.returncode == 3
    for part in (out, err):
        assert hashlib.sha256(part).digest() == hashlib.sha256(data).digest()


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_after_other_calls(client: Client) -> None:
    """It sends what was written before, and returns what nobody has read, from buffers, too."""
    script = "cat; echo one >&2; echo two >&2"
    async with client.awaited.popen(script) as process:
        await process.stdin.write(b"first\nsecond\n")
        if client.api.name == "sync":
            process.real.stdin.flush()
        assert await process.stdout.readline() == b"first\n"
        await process.stdin.write(b"third\n")
        assert await process.communicate("fourth €\n") == (
            "second\nthird\nfourth €\n".encode(),
            b"one\ntwo\n",
        )
        assert await process.communicate() == (b"", b"")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_command_that_reads_nothing(client: Client) -> None:
    """Input that the command does not read is no error."""
    async with client.awaited.popen("echo done; exit 4") as process:
        assert await process.communicate(bytes(8 * MIB), timeout=60) == (b"done\n", b"")
        assert process.returncode == 4


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_limit(client: Client) -> None:
    """When its time is over the error has what came, and the next call returns all of it."""
    gate = client.account.path("gate")
    script = f"cat; mkfifo {gate}; echo ready; read x <{gate}; rm {gate}; echo end"
    async with client.awaited.popen(script) as process:
        with pytest.raises(CommandTimeout) as caught:
            await process.communicate("in\n", timeout=1)
        assert caught.value.result == SSHResult(b"in\nready\n")
        assert process.returncode is None
        await client.execute(f"echo go >{gate}")
        assert await process.communicate() == (b"in\nready\nend\n", b"")
        assert process.returncode == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_iteration(client: Client) -> None:
    """A process is iterated line by line, while it runs; the last line may lack its end."""
    async with client.awaited.popen("echo a; read x; echo $x; printf c") as process:
        lines = []
        async for line in process:
            lines.append(line)
            if line == b"a\n":
                await process.say(b"b\n")
        assert lines == [b"a\n", b"b\n", b"c"]
