"""``~`` in remote paths, in every API: the home, and never a folder of that name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.odd_sftp import odd_server
from tests.support.sshd import Sshd


@pytest.fixture(params=["OpenSSH", "without expand-path"])
def server(request: pytest.FixtureRequest, target: Sshd, sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Return a server that expands paths, and one that does not know how."""
    return target if request.param == "OpenSSH" else odd_server(sshd_factory)


@pytest.fixture
def there(server: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; it is ``~/there``."""
    with server.alice.folder("there") as folder:
        yield folder


async def on(client: Client, server: Sshd) -> Any:
    """Connect to a server."""
    return Awaited((await client.connect_to(server)).real)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_every_operation(client: Client, server: Sshd, there: Path, tmp_path: Path) -> None:
    """Whatever takes a path at the server takes one that begins at home."""
    conn = await on(client, server)
    sftp = conn.sftp
    (tmp_path / "local/sub").mkdir(parents=True)
    (tmp_path / "local/sub/file").write_text("x")
    result = await conn.sftp_put_dir(tmp_path / "local", "~/there/www")
    assert result.failed == []
    assert (there / "www/sub/file").read_text() == "x"
    result = await conn.sftp_get_dir("~/there/www", tmp_path / "back")
    assert result.failed == []
    assert (tmp_path / "back/sub/file").read_text() == "x"
    await conn.sftp_write_data("data", "~/there/file")
    assert (there / "file").read_text() == "data"
    assert await conn.sftp_read("~/there/file") == "data"
    await conn.sftp_write(tmp_path / "back/sub/file", b"~/there/put")
    assert await conn.sftp_read(Path("~/there/put"), tmp_path / "got") == "Ok"
    await conn.scp_write_data("by scp", "~/there/it's scp")
    assert (there / "it's scp").read_text() == "by scp"
    assert await conn.scp_read("~/there/it's scp") == "by scp"
    await conn.scp_write(tmp_path / "got", "~/there/")
    assert (there / "got").read_text() == "x"
    await conn.remote_copy("~/there/file", conn, "~/there/copy")
    assert (there / "copy").read_text() == "data"
    async with conn.tail("~/there/file") as tail:
        with (there / "file").open("a") as file:
            file.write("more")
        assert await tail.read() == "more"
    await sftp.makedirs("~/there/a/b")
    await sftp.mkdir("~/there/c")
    await sftp.rename("~/there/c", "~//there/d")
    await sftp.rmdir("~/there/d")
    await sftp.remove("~/there/copy")
    assert sorted(os.listdir(there)) == ["a", "file", "got", "it's scp", "put", "www"]
    assert "there" in await sftp.listdir("~")
    assert b"there" in await sftp.listdir(b"~/")
    assert [top async for top, _, _ in sftp.walk("~/there/a")] == ["~/there/a", "~/there/a/b"]
    async with sftp.scandir("~/there") as entries:
        assert {e.name async for e in entries if await e.is_dir()} == {"a", "www"}
    assert (await sftp.stat("~/there/file")).st_size == 8
    assert await sftp.exists("~/there/file")
    assert not await sftp.exists("~/there/none")
    await sftp.chmod("~/there/file", 0o600)
    await sftp.utime("~/there/file", (1, 2))
    await sftp.truncate("~/there/file", 3)
    assert (there / "file").stat().st_mode & 0o777 == 0o600
    async with await sftp.open("~/there/file", "a") as file:
        await file.write("!")
    assert await sftp.get_bytes("~/there/file") == b"dat!"
    assert os.path.samestat(os.stat(there), os.stat(server.alice.files / "there"))
    assert (await sftp.realpath("~/there")).endswith("/there")
    await sftp.symlink("~/there/file", "~/there/a/link")
    assert (there / "a/link").is_symlink()
    assert os.readlink(there / "a/link") == f"{server.alice.home}/there/file"
    assert (await sftp.readlink("~/there/a/link")).endswith("/there/file")
    with pytest.raises(FileNotFoundError) as caught:
        await sftp.stat("~/none")
    assert "~" not in str(caught.value.filename)
    assert "~" not in os.listdir(server.alice.files)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_file_called_tilde(
    client: Client, server: Sshd, there: Path, tmp_path: Path
) -> None:
    """``./~`` is such a file, ``~x`` another, and inner folders of that name stay what they are."""
    conn = await on(client, server)
    home = server.alice.files
    await conn.sftp_write_data("1", "./~")
    await conn.sftp_write_data("2", "~x")
    await conn.scp_write_data("3", "./~y")
    assert [(home / name).read_text() for name in ("~", "~x", "~y")] == ["1", "2", "3"]
    for name in ("~", "~x", "~y"):
        (home / name).unlink()
    (tmp_path / "local/~/~").mkdir(parents=True)
    (tmp_path / "local/~/~/file").write_text("x")
    (tmp_path / "local/~/big").write_bytes(bytes(400_000))
    for remote, seen in (("there/one", there / "one"), ("", home)):
        assert (await conn.sftp_put_dir(tmp_path / "local", remote)).failed == []
        assert (seen / "~/~/file").read_text() == "x"
        assert (seen / "~/big").stat().st_size == 400_000
    tops = [top async for top, _, _ in conn.sftp.walk(".") if "~" in top]
    assert "./~/~" in tops
    assert (await conn.sftp_get_dir("./~", tmp_path / "back")).failed == []
    assert (tmp_path / "back/~/file").read_text() == "x"
    await conn.execute("rm -r ./~")
    assert "~" not in os.listdir(home)


@pytest.mark.needs_root
def test_a_home_that_is_not_there(sshd_factory: Callable[..., Sshd]) -> None:
    """In a chroot without the account's home ``~`` is where the session starts."""
    from hussh import Connection

    server = sshd_factory(options={"ForceCommand": "internal-sftp", "ChrootDirectory": "/run/home"})
    alice = server.alice
    with Connection(
        server.host, server.port, alice.name, private_key=alice.key.path, timeout=30_000
    ) as conn:
        conn.sftp_write_data("x", "~/alice/file")
        assert {"alice", "bob"} <= set(conn.sftp.listdir("~"))
    assert (alice.files / "file").read_text() == "x"
