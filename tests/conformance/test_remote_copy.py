"""`remote_copy` in every API: from server to server through us, with bounded memory."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from shutil import SameFileError

import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.conformance.memory import peak_kib, reset_peak
from tests.support.sshd import Sshd

MIB = 1 << 20


@pytest.fixture
def source(target: Sshd) -> Iterator[Path]:
    """Return a place for a file on the target; what is copied beside it goes, too."""
    yield target.alice.files / "source"
    for path in target.alice.files.glob("source*"):
        path.unlink()


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_between_servers(client: Client, bastion: Sshd, middle: Sshd, source: Path) -> None:
    """A file goes to a server behind another bastion, in another tree, byte for byte."""
    data = os.urandom(3 * MIB + 1)
    source.write_bytes(data)
    source.chmod(0o644)
    way = await client.api.connect(
        bastion.host, bastion.port, username=bastion.alice.name,
        private_key=bastion.alice.key.path,
    )  # fmt: skip
    try:
        other = await client.connect_to(middle, proxy_jump=way)
        copied = middle.alice.files / "copy"
        await client.awaited.remote_copy("source", other.real, "copy")
        assert copied.read_bytes() == data
        copied.unlink()
        await client.awaited.remote_copy("source", other.real)
        assert (middle.alice.files / "source").read_bytes() == data
        (middle.alice.files / "source").unlink()
        with pytest.raises(FileNotFoundError) as missing:
            await client.awaited.remote_copy("source-none", other.real, "copy")
        assert missing.value.filename == "source-none"
        assert not copied.exists()
        closed = middle.alice.files / "closed"
        closed.mkdir(mode=0o555)
        with pytest.raises(PermissionError) as refused:
            await client.awaited.remote_copy("source", other.real, "closed/copy")
        assert refused.value.filename == "closed/copy"
        closed.rmdir()
        assert (await other.execute("echo on")).stdout == "on\n"
        await other.close()
    finally:
        await way.close()


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_onto_itself(client: Client, source: Path) -> None:
    """A copy on the same server is fine, one onto itself is refused before it would empty it."""
    conn = client.awaited
    await conn.sftp_write_data("once", "source")
    await conn.remote_copy("source", conn, "source2")
    assert await conn.sftp_read("source2") == "once"
    await conn.sftp.symlink("source", "source3")
    for target in (None, "source", "./source", "source3"):
        with pytest.raises(SameFileError):
            await conn.remote_copy("source", conn, target)
    assert await conn.sftp_read("source") == "once"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_onto_itself_unknowingly(client: Client, source: Path) -> None:
    """A file that has the destination's name as well, which nobody can tell, keeps its contents."""
    conn = client.awaited
    data = os.urandom(3 * MIB + 1)
    await conn.sftp_write_data(data, "source")
    os.link(source, source.with_name("source2"))
    await conn.remote_copy("source", conn, "source2")
    assert source.read_bytes() == data


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_over_another_file(client: Client, source: Path) -> None:
    """What the destination had is gone, whichever of the two was longer."""
    conn = client.awaited
    for old, new in ((b"longer before", b"short"), (b"short", b"longer now"), (b"all", b"")):
        await conn.sftp_write_data(new, "source")
        await conn.sftp_write_data(old, "source2")
        await conn.remote_copy("source", conn, "source2")
        assert source.with_name("source2").read_bytes() == new
    await conn.remote_copy("source", conn, "/dev/null")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_destinations_of_another_kind(client: Client) -> None:
    """A connection of the other class, or none at all, is a TypeError that says what is wanted."""
    real = client.main.real
    ours: type = Connection
    theirs: object = AsyncConnection("h")
    if isinstance(real, AsyncConnection):
        ours, theirs = AsyncConnection, Connection.__new__(Connection)
    for other in (theirs, "host"):
        with pytest.raises(TypeError, match=rf"dest_conn must be an? {ours.__name__}, not "):
            await client.awaited.remote_copy("a", other)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_memory_is_bounded(client: Client, source: Path) -> None:
    """Copying 48 MiB takes less than half of that."""
    with source.open("wb") as file:
        file.truncate(48 * MIB)
    source.chmod(0o644)
    gc.collect()
    reset_peak()
    before = peak_kib()[0]
    await client.awaited.remote_copy("source", client.awaited, "source2")
    assert source.with_name("source2").stat().st_size == 48 * MIB
    assert peak_kib()[1] - before < 24 * 1024
