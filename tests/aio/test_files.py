"""Files over SFTP and scp from tasks: the same operations as the sync API's, awaited."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest

from hussh import NotText, SFTPTimeout
from tests.aio.conftest import Make
from tests.aio.steps import Stepped
from tests.support.sshd import Sshd


async def test_sftp_contents(loop: str, target: Sshd, make: Make) -> None:
    """Text and bytes come back as they went; what is no text is never changed in silence."""
    alice = target.alice
    async with make(target) as connection:
        await connection.sftp_write_data("grüße\n", alice.path("text"))
        assert await connection.sftp_read(alice.path("text")) == "grüße\n"
        await connection.sftp_write_data(b"\xff\x00", alice.path("bytes"))
        with pytest.raises(NotText):
            await connection.sftp_read(alice.path("bytes"))
        assert await connection.sftp_read(alice.path("bytes"), encoding=None) == b"\xff\x00"
        assert {"text", "bytes"} <= set(await connection.sftp_list(alice.path(".")))
        with pytest.raises(FileNotFoundError):
            await connection.sftp_read(alice.path("missing"))
        assert (await connection.execute("echo a")).stdout == "a\n"


@pytest.mark.parametrize("way", ["sftp", "scp"])
async def test_files(
    loop: str, way: str, bastion: Sshd, target: Sshd, make: Make, tmp_path: Path
) -> None:
    """Local files go there and back through a bastion, whole, with their permissions."""
    alice, data = target.alice, os.urandom(3_000_000)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(data)
    async with make(target, proxy_jump=f"{bastion.host}:{bastion.port}") as connection:
        if way == "sftp":
            await connection.sftp_write(source, alice.path("there"))
            assert await connection.sftp_read(alice.path("there"), back) == "Ok"
        else:
            await connection.scp_write(source, alice.path("there"))
            assert await connection.scp_read(alice.path("there"), back) == "Ok"
            await connection.scp_write_data("a\n", alice.path("text"))
            assert await connection.scp_read(alice.path("text")) == "a\n"
    assert back.read_bytes() == data


async def test_directories(loop: str, target: Sshd, make: Make, tmp_path: Path) -> None:
    """A tree goes there and back."""
    for name in ("a", "b/c", "b/d/e"):
        file = tmp_path / "out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    there = target.alice.path("aio-tree")
    async with make(target) as connection:
        sent, failed = await connection.sftp_put_dir(tmp_path / "out", there)
        assert (len(sent), failed) == (3, [])
        got, failed = await connection.sftp_get_dir(there, tmp_path / "back")
        assert (len(got), failed) == (3, [])
    assert (tmp_path / "back/b/d/e").read_text() == "b/d/e"


async def test_transfers_at_once(loop: str, target: Sshd, make: Make) -> None:
    """Twenty tasks write and read on one connection, and each gets its own."""
    async with make(target) as connection:

        async def work(number: int) -> None:
            path = target.alice.path(f"file-{number}")
            data = bytes([number]) * 100_000
            await connection.sftp_write_data(data, path)
            assert await connection.sftp_read(path, encoding=None) == data

        async with anyio.create_task_group() as group:
            for number in range(20):
                group.start_soon(work, number)


async def test_cancelled_everywhere(loop: str, target: Sshd, make: Make, tmp_path: Path) -> None:
    """A transfer can be given up anywhere; the connection and its SFTP stay usable."""
    source = tmp_path / "source"
    source.write_bytes(bytes(2_000_000))
    path = target.alice.path("cancelled")
    async with make(target) as connection:
        for at in range(1, 200):
            with anyio.CancelScope() as scope:
                await Stepped(connection.sftp_write(source, path), scope, at)
                await Stepped(connection.sftp_read(path, tmp_path / "back"), scope, at)
            assert await connection.sftp_list(target.alice.path("."))
            if not scope.cancel_called:
                break
        assert at > 3
        assert await connection.sftp_read(path, encoding=None) == bytes(2_000_000)


async def test_time_limit(loop: str, target: Sshd, make: Make) -> None:
    """A transfer's limit is in seconds."""
    async with make(target) as connection:
        await connection.sftp_list()
        with pytest.raises(SFTPTimeout, match=r"after 0\.001 s"):
            await connection.sftp_write_data(bytes(50_000_000), "/dev/null", timeout=0.001)
        assert await connection.sftp_list()
