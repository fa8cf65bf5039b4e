"""What only tasks have of files: cancellation, sharing, and a connection that is opened again.

`tests/conformance` has the rest, for every API.
"""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import ConnectionClosed
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.steps import Stepped
from tests.support.sshd import Sshd


async def test_cancelled_everywhere(loop: str, distant: Sshd, make: Make, tmp_path: Path) -> None:
    """A transfer can be given up anywhere; the connection and its SFTP stay usable."""
    source = tmp_path / "source"
    source.write_bytes(bytes(600_000))
    path = distant.alice.path("cancelled")
    async with make(distant) as connection:

        async def transfer() -> None:
            await connection.sftp_write(source, path)
            await connection.sftp_read(path, tmp_path / "back")

        await _cancel(connection, transfer)
        assert await connection.sftp_read(path, encoding=None) == bytes(600_000)


async def test_files_cancelled_everywhere(loop: str, distant: Sshd, make: Make) -> None:
    """So can open files, listings, copies and tails; nothing stays open on the server."""
    folder = distant.alice.files / "given-up"
    async with make(distant) as connection:
        sftp = connection.sftp
        await sftp.makedirs("given-up/inner")

        async def files() -> None:
            async with await sftp.open("given-up/a", "w+b") as file:
                await file.write(bytes(300_000))
                await file.seek(0)
                assert len(await file.read()) == 300_000
            await connection.remote_copy("given-up/a", connection, "given-up/b")

        async def listings() -> None:
            async with sftp.scandir("given-up") as entries:
                async for entry in entries:
                    assert entry.name
            async for _ in sftp.walk("given-up"):
                pass

        async def tail() -> None:
            async with connection.tail("given-up/a") as tail:
                assert await tail.read() == ""

        await _cancel(connection, files)
        await _cancel(connection, listings)
        await _cancel(connection, tail)
        held = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c 'given-up'"
        while (await connection.execute(held)).stdout != "0\n":
            await sftp.listdir()
    shutil.rmtree(folder)


async def _cancel(connection: AsyncConnection, job: Callable[[], Awaitable[None]]) -> None:
    """Give a job up at its first, second ... place; the connection must go on each time."""
    for at in range(1, 200):
        with anyio.CancelScope() as scope:
            await Stepped(job(), scope, at)
        assert await connection.sftp.exists(".")
        if not scope.cancel_called:
            break
    assert at > 3


async def test_a_cancelled_tail_loses_nothing(loop: str, distant: Sshd, make: Make) -> None:
    """A read that was given up, also in the middle of a rotation, is made up for by the next."""
    log = distant.alice.files / "kept.log"
    async with make(distant) as connection:
        for at in range(1, 100):
            log.write_text("before\n")
            log.chmod(0o644)
            async with connection.tail("kept.log") as tail:
                with log.open("a") as file:
                    file.write("old\n")
                log.rename(log.with_suffix(".1"))
                log.write_text("new, and longer than the old one\n")
                log.chmod(0o644)
                with anyio.CancelScope() as scope:
                    await Stepped(tail.read(), scope, at)
                if scope.cancelled_caught:
                    assert await tail.read() == "old\nnew, and longer than the old one\n"
            assert tail.contents == "old\nnew, and longer than the old one\n"
            if not scope.cancel_called:
                break
        assert at > 3
    log.unlink()
    log.with_suffix(".1").unlink()


async def test_tasks_share_a_file(loop: str, target: Sshd, make: Make) -> None:
    """Calls of several tasks on one file come one after the other, and are whole."""
    async with make(target) as connection:
        async with await connection.sftp.open("shared", "wb", buffering=1000) as file:

            async def write(letter: str) -> None:
                for _ in range(20):
                    await file.write(letter.encode() * 3000 + b"\n")

            async with anyio.create_task_group() as group:
                for letter in "abc":
                    group.start_soon(write, letter)
        lines: list[bytes] = []
        async with await connection.sftp.open("shared", "rb") as file:

            async def read() -> None:
                async for line in file:
                    lines.append(line)

            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(read)
    assert sorted(lines) == sorted([letter * 3000 + b"\n" for letter in (b"a", b"b", b"c")] * 20)
    (target.alice.files / "shared").unlink()


async def test_opened_again(loop: str, target: Sshd, make: Make) -> None:
    """`sftp` goes on after the connection was opened again; files and tails of before do not."""
    connection = make(target)
    with pytest.raises(ConnectionClosed, match="Not connected"):
        _ = connection.sftp
    await connection
    sftp = connection.sftp
    await sftp.put_bytes(b"x", "again")
    file = await sftp.open("again", "rb")
    written = await sftp.open("again", "r+b")
    tail = connection.tail("again")
    await tail.__aenter__()
    await connection.close()
    await connection
    assert await sftp.get_bytes("again") == b"x"
    for call in (file.read, tail.read):
        with pytest.raises(ConnectionClosed):
            await call()
    with pytest.raises(ConnectionClosed):
        await written.close()
    await file.close()
    await tail.close()
    await sftp.remove("again")
    await connection.close()


async def test_collected_with_data(loop: str, target: Sshd, make: Make) -> None:
    """A file that is collected with bytes that were never sent says so, and is closed."""
    async with make(target) as connection:
        files: list[Any] = [await connection.sftp.open("lost", "w")]
        await files[0].write("lost")
        with pytest.warns(ResourceWarning, match="4 bytes were never written"):
            files.clear()
        await connection.sftp.remove("lost")
