"""No call of ours blocks the event loop: `blockbuster` raises where one in it might."""

from __future__ import annotations

import asyncio
import gc
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

import hussh
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.proxy.commands import NC
from tests.support.agent import SshAgent
from tests.support.sshd import Sshd

OURS = Path(hussh.__file__).parent


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


@pytest.fixture
def known(target: Sshd, bastion: Sshd, home: Path) -> Path:
    """Give the test known hosts and a default key."""
    folder = home / ".ssh"
    folder.mkdir(mode=0o700)
    (folder / "id_ed25519").write_bytes(target.alice.key.path.read_bytes())
    (folder / "id_ed25519").chmod(0o600)
    return folder / "known_hosts"


def run(main: Any) -> None:
    """Run a coroutine function in asyncio, where whatever may block raises BlockingError."""

    async def guarded() -> None:
        with blockbuster_ctx([hussh]):
            with pytest.raises(Exception, match="Blocking call"):
                exec(compile("os.stat('/')", str(OURS / "probe.py"), "exec"), {"os": os})
            await main()
            gc.collect()

    asyncio.run(guarded())


def options(server: Sshd) -> dict[str, Any]:
    """Return how to reach a server with the default key."""
    return {"port": server.port, "username": server.alice.name}


def test_connecting(target: Sshd, bastion: Sshd, known: Path) -> None:
    """Default keys, known hosts that are read and written, a bastion: nothing blocks."""

    async def main() -> None:
        jump = AsyncConnection(bastion.host, **options(bastion))
        for policy in ("accept-new", "strict"):
            for more in ({}, {"proxy_jump": jump}, {"timeout": 30}):
                async with AsyncConnection(
                    target.host, **options(target), host_key_policy=policy, **more
                ) as connection:
                    assert (await connection.execute("echo hi")).stdout == "hi\n"

    run(main)


def test_connecting_with_an_agent(target: Sshd, known: Path, agent: SshAgent) -> None:
    """Asking an agent blocks nothing."""
    agent.add(target.alice.key)
    (known.parent / "id_ed25519").unlink()

    async def main() -> None:
        async with AsyncConnection(target.host, **options(target)) as connection:
            assert (await connection.execute("echo hi")).stdout == "hi\n"

    run(main)


def test_failing(target: Sshd, known: Path, tmp_path: Path) -> None:
    """Neither do logins that fail, keys that are missing, or proxy commands that end."""

    async def main() -> None:
        for more in (
            {"private_key": tmp_path / "none"},
            {"password": "wrong"},
            {"proxy_command": "exit 3"},
            {"proxy_command": ["/nowhere"]},
            {"proxy_command": "sleep 100", "timeout": 0.2},
        ):
            with pytest.raises(hussh.HusshError):
                await AsyncConnection(target.host, **(options(target) | more))

    run(main)


def test_a_proxy_command(target: Sshd, known: Path) -> None:
    """Starting a proxy command, its end, and its dropping: nothing blocks."""

    async def main() -> None:
        async with AsyncConnection(target.host, **options(target), proxy_command=NC) as connection:
            assert (await connection.execute("echo hi")).stdout == "hi\n"
        dropped = await AsyncConnection(target.host, **options(target), proxy_command=NC)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it says that we should close it
            del dropped
            gc.collect()
        await asyncio.sleep(0)

    run(main)


def test_files(target: Sshd, known: Path, there: Path, tmp_path: Path) -> None:
    """SFTP and scp with local files and folders, `tail`, and a process: nothing blocks."""
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "small").write_bytes(b"small")
    (folder / "inner" / "large").write_bytes(bytes(3 << 20))
    (folder / "link").symlink_to("small")

    async def main() -> None:
        async with AsyncConnection(target.host, **options(target)) as connection:
            large = folder / "inner" / "large"
            await connection.sftp_write(large, "there/large")
            await connection.sftp_read("there/large", tmp_path / "back")
            await connection.sftp.put(large, "there/large", resume=True)
            await connection.sftp.get("there/large", tmp_path / "back", resume=True)
            await connection.sftp.put(large, "there/told", progress=lambda done, total: None)
            for follow in (True, False):
                up, down = f"there/up-{follow}", tmp_path / f"down-{follow}"
                assert (await connection.sftp_put_dir(folder, up, follow))[1] == []
                assert (await connection.sftp_get_dir(up, down, follow))[1] == []
            await connection.scp_write(large, "there/copied")
            await connection.scp_read("there/copied", tmp_path / "copied")
            async with connection.tail("there/large") as tail:
                assert await tail.read(0)
            async with await connection.sftp.open("there/large", "rb") as file:
                assert len(await file.read()) == 3 << 20
            async with await connection.popen("cat") as process:
                process.stdin.close()
                assert await process.stdout.read() == b""
        assert (tmp_path / "copied").read_bytes() == large.read_bytes()

    run(main)


@pytest.mark.parametrize("jump", [False, True], ids=["direct", "jump"])
def test_many(
    target: Sshd, bastion: Sshd, known: Path, there: Path, tmp_path: Path, jump: bool
) -> None:
    """A `MultiConnection` in a loop starts its threads and copies files without blocking that."""
    (tmp_path / "file").write_bytes(b"data")

    async def main() -> None:
        more: dict[str, Any] = {"proxy_jump": AsyncConnection(bastion.host, **options(bastion))}
        async with MultiConnection.from_shared_auth(
            [target.host] * 4, **options(target), **(more if jump else {})
        ) as multi:
            assert (await multi.execute("echo hi")).failed is None
            assert (await multi.sftp_write(tmp_path / "file", "there/file")).failed is None
            results = await multi.sftp_read("there/file", tmp_path / "back")
            assert results.succeeded is not None
            async with multi.tail("there/file") as tail:
                await tail.read()

    run(main)
