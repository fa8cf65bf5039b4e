"""Commands and shells that run while tasks talk with them."""

from __future__ import annotations

import anyio
import pytest

from hussh import CommandTimeout, ConnectionClosed
from tests.aio.conftest import Make
from tests.aio.steps import Stepped
from tests.support.sshd import Sshd

ON_UVLOOP = True


async def test_talking(loop: str, target: Sshd, make: Make) -> None:
    """A command answers line by line, and ends at the end of its input."""
    async with make(target) as connection:
        async with await connection.popen("cat; echo end >&2; exit 3") as process:
            for line in (b"one\n", b"two\n"):
                await process.stdin.write(line)
                assert await process.stdout.readline() == line
            assert process.poll() is None
            await process.stdin.write(b"x\ny")
            process.stdin.close()
            assert [line async for line in process.stdout] == [b"x\n", b"y"]
            assert await process.stderr.read() == b"end\n"
            assert await process.wait() == 3
        assert process.returncode == 3
        with pytest.raises(ConnectionClosed):
            await process.stdin.write(b"more")


async def test_signals_and_limits(loop: str, target: Sshd, make: Make) -> None:
    """Waiting has a limit in seconds, and a signal ends the command."""
    async with make(target) as connection:
        process = await connection.popen("exec sleep 60")
        with pytest.raises(CommandTimeout, match=r"after 0\.1 s"):
            await process.wait(timeout=0.1)
        process.terminate()
        assert await process.wait() == -1
        assert process.signal == "TERM"
        process.close()
        process.close()


async def test_much_both_ways(loop: str, bastion: Sshd, target: Sshd, make: Make) -> None:
    """One task writes what another reads, many times what fits into the window."""
    data = bytes(range(256)) * 40_000
    got = bytearray()
    async with make(target, proxy_jump=make(bastion)) as connection:
        process = await connection.popen("cat")

        async def write() -> None:
            assert await process.stdin.write(data) == len(data)
            process.stdin.close()

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            while part := await process.stdout.read(100_000):
                got += part
        assert await process.wait() == 0
        process.close()
    assert bytes(got) == data


async def test_cancelled(loop: str, target: Sshd, make: Make) -> None:
    """Starting and reading can be given up anywhere; the connection stays usable."""
    async with make(target) as connection:

        async def talk() -> None:
            async with await connection.popen("echo a; exec sleep 60") as process:
                assert await process.stdout.readline() == b"a\n"
                process.kill()

        for at in range(1, 50):
            with anyio.CancelScope() as scope:
                await Stepped(talk(), scope, at)
            if not scope.cancel_called:
                break
        assert at >= 3
        assert (await connection.execute("echo a")).stdout == "a\n"


@pytest.mark.parametrize("pty", [True, False])
async def test_shell(loop: str, pty: bool, target: Sshd, make: Make) -> None:
    """A shell answers again and again, and leaving it collects the rest."""
    async with make(target) as connection:
        async with await connection.shell(pty=pty) as shell:
            for number in range(3):
                await shell.send(f"echo $(({number} + 40))")
                seen = ""
                while f"{number + 40}" not in seen:
                    seen += (await shell.read()).stdout
            await shell.send("echo la''st; exit 7")
        assert shell.result is not None
        assert "last" in shell.result.stdout
        assert shell.result.status == 7


async def test_a_shell_that_does_not_end(loop: str, target: Sshd, make: Make) -> None:
    """When the time is over the result has what came, and status -1."""
    async with make(target, timeout=2) as connection:
        async with await connection.shell() as shell:
            await shell.send("echo begun; exec sleep 60")
        assert shell.result is not None
        assert (shell.result.stdout, shell.result.status) == ("begun\n", -1)
