"""What only tasks have of running commands: cancellation, and streams in anyio's terms.

`tests/conformance` has the rest, for every API.
"""

from __future__ import annotations

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.text import TextStream

from hussh import ConnectionClosed
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.steps import Stepped
from tests.support.hostile import Channel, HostileServer, polite
from tests.support.sshd import Sshd

ON_UVLOOP = True


async def test_cancelled(loop: str, distant: Sshd, make: Make) -> None:
    """Starting and reading can be given up anywhere; the connection stays usable."""
    async with make(distant) as connection:

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


async def test_streams_of_anyio(loop: str, target: Sshd, make: Make) -> None:
    """The streams are anyio's, alone and as one, and anyio's own wrappers take them."""
    async with make(target) as connection:
        async with await connection.popen("cat; echo end >&2; exit 3") as process:
            assert isinstance(process.stdin, anyio.abc.ByteSendStream)
            assert isinstance(process.stdout, anyio.abc.ByteReceiveStream)
            assert isinstance(process.stderr, anyio.abc.ByteReceiveStream)
            assert isinstance(process.stream, anyio.abc.ByteStream)
            text = TextStream(process.stream)
            await text.send("grüße\n")
            assert await text.receive() == "grüße\n"
            await process.stdin.send(b"abc")
            assert await process.stdout.receive(2) == b"ab"
            assert await process.stdout.read(1) == b"c", "files and streams share one buffer"
            await process.stream.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await process.stdin.send(b"more")
            with pytest.raises(anyio.EndOfStream):
                await process.stream.receive()
            errors = BufferedByteReceiveStream(process.stderr)
            assert await errors.receive_until(b"\n", 100) == b"end"
            with pytest.raises(ValueError, match="max_bytes"):
                await process.stderr.receive(0)
        assert process.returncode == 3
        with pytest.raises(ConnectionClosed):
            await process.stdin.write(b"more")


async def test_one_reader_at_a_time(loop: str, target: Sshd, make: Make) -> None:
    """A second task that reads is told so, and one that waits hears that the process was closed."""
    async with make(target) as connection:
        process = await connection.popen("exec sleep 60")
        errors: list[type[BaseException]] = []

        async def wait() -> None:
            try:
                await process.stdout.receive()
            except anyio.ClosedResourceError as error:
                errors.append(type(error))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await process.stdout.receive()
            process.close()
        assert errors == [anyio.ClosedResourceError]


async def test_a_closed_stream(loop: str, target: Sshd, make: Make) -> None:
    """What comes on a stream that was closed is thrown away; it blocks nothing."""
    script = "head -c 5000000 /dev/zero; echo done >&2; head -c 5000000 /dev/zero; exit 4"
    async with make(target) as connection:
        async with await connection.popen(script) as process:
            await process.stdout.aclose()
            await process.stdout.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await process.stdout.receive()
            assert await process.stderr.readline() == b"done\n"
            assert await process.wait() == 4
        async with await connection.popen("cat") as process:
            async with process.stream:
                await process.stream.send(b"x")
            assert await process.wait() == 0, "closing both ends is end of file"


async def test_a_lost_connection(loop: str, target: Sshd, make: Make) -> None:
    """In anyio's terms a lost connection is a broken resource; a command that ended is one, too."""
    async with make(target) as connection:
        process = await connection.popen("true")
        assert await process.wait() == 0
        with pytest.raises(anyio.BrokenResourceError, match="closed"):
            await process.stdin.send(b"x" * 5_000_000)
        process.close()
        process = await connection.popen("exec sleep 60")
        target.kill_sessions()
        with pytest.raises(anyio.BrokenResourceError):
            await process.stream.receive()
        process.close()


async def test_leaving_a_busy_shell(loop: str, target: Sshd, make: Make) -> None:
    """Without any time limit leaving a shell that runs something takes two seconds."""
    async with make(target, timeout=0) as connection:
        shell = await connection.shell(pty=True)
        with anyio.fail_after(60):
            async with shell:
                await shell.send("cat")
        assert shell.result is not None
        assert shell.result.status == -1


async def test_a_status_after_the_end_of_output(loop: str) -> None:
    """A read at the end of a shell's output waits for the status, which comes after it."""

    def ends(channel: Channel, command: str) -> None:
        channel.send_eof()
        channel.read()
        channel.exit_status(5)
        channel.send_close()

    results = []

    async def read() -> None:
        results.append(await shell.read())

    with HostileServer(polite(execute=ends)) as server:
        host, port = server.address
        async with AsyncConnection(host, "u", "p", port=port, timeout=20) as connection:
            shell = await connection.shell()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read)
                while not shell._channel.get_info().eof:
                    await anyio.lowlevel.checkpoint()
                await anyio.wait_all_tasks_blocked()
                await shell.send("now")
            assert [result.status for result in results] == [5]
            await shell.close()
