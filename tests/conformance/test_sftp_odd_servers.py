"""Files at SFTP servers that bear less than OpenSSH's, in every API, behind a real sshd.

`tests/sftp/test_sftp_few_files.py` and its neighbours step the same without a network.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import SFTPError, SFTPTimeout
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.odd_sftp_server import start_odd_server
from tests.support.sshd import Sshd

DENIED, FAILURE = 3, 4
SFTP_SERVER = Path("/usr/lib/openssh/sftp-server")

#: How many files servers have open, and how they refuse one more; the last as OpenSSH does.
FEW = {
    "one-in-words": (1, [DENIED, "only one open file at a time is allowed"]),
    "four-in-words": (4, [FAILURE, "Too many open files"]),
    "four-without-words": (4, [FAILURE, "Failure"]),
}


async def files_of(client: Client, server: Sshd, **options: Any) -> Awaited:
    """Connect to a server of the test's own."""
    return Awaited((await client.connect_to(server, **options)).real)


def make_tree(folder: Path) -> dict[str, bytes]:
    """Make files of many sizes in two levels of folders; return their contents by name."""
    contents = {}
    for number in range(40):
        name = f"{'inner/' if number % 2 else ''}file{number}"
        contents[name] = os.urandom([0, 1, 5000, 40_000, 100_000][number % 5])
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents[name])
    return contents


def read_tree(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files by name."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


async def check_transfers(client: Client, conn: Awaited, server: Sshd, tmp_path: Path) -> None:
    """Put and get a tree, then have six transfers at once: everything arrives unchanged."""
    contents = make_tree(tmp_path / "source")
    done, failed = await conn.sftp_put_dir(tmp_path / "source", "up", preserve_permissions=False)
    assert (len(done), failed) == (len(contents), [])
    assert read_tree(server.alice.files / "up") == contents
    done, failed = await conn.sftp_get_dir("up", tmp_path / "down", preserve_permissions=False)
    assert (len(done), failed) == (len(contents), [])
    assert read_tree(tmp_path / "down") == contents
    for size in (0, 4 << 20, 5_000_000):
        data = os.urandom(size)
        await conn.sftp_write_data(data, "original")
        await conn.sftp_write_data(data + b"longer", "copied")
        assert await conn.sftp.copy("original", "copied") == size
        assert (server.alice.files / "copied").read_bytes() == data

    async def both_ways(number: int) -> None:
        for turn in range(4):
            name, data = f"t{number}-{turn}", os.urandom(70_000)
            await conn.sftp_write_data(data, name)
            assert await conn.sftp_read(name, encoding=None) == data
            assert (server.alice.files / name).read_bytes() == data

    await client.together(*[lambda n=n: both_ways(n) for n in range(6)])


@pytest.mark.parametrize("few", FEW)
@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_few_open_files(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path, few: str
) -> None:
    """A server that has one file open at a time, or four, serves trees and transfers at once."""
    max_open, refusal = FEW[few]
    server = start_odd_server(sshd_factory, max_open=max_open, refusal=refusal)
    conn = await files_of(client, server)
    await check_transfers(client, conn, server, tmp_path)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_descriptors_of_sftp_server(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """OpenSSH's own sftp-server out of descriptors says only "Failure", and all is transferred."""
    if not SFTP_SERVER.exists():
        pytest.skip("there is no sftp-server of OpenSSH")
    # Without limits@openssh.com it does not tell how many it has.
    command = f"sftp ulimit -n 16; exec {SFTP_SERVER} -P limits"
    server = sshd_factory(options={"Subsystem": command})
    await check_transfers(client, await files_of(client, server), server, tmp_path)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_files_that_a_user_holds_open(
    client: Client, sshd_factory: Callable[..., Sshd]
) -> None:
    """Nobody waits for a file object's end: the error says that too many files are open."""
    server = start_odd_server(sshd_factory, max_open=1)
    (server.alice.files / "data").write_bytes(b"data")
    conn = await files_of(client, server)
    file = await conn.sftp.open("data", "rb")
    with pytest.raises(SFTPError, match="Too many open files") as caught:
        await conn.sftp_read("data")
    assert caught.value.errno == errno.EMFILE
    assert await file.read() == b"data"
    await file.close()
    assert await conn.sftp_read("data") == "data"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_ceiling_for_open_files(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """`sftp_open_files=` holds for everything, and file objects beyond it are refused here."""
    server = start_odd_server(sshd_factory, peak="peak")
    conn = await files_of(client, server, sftp_open_files=2)
    await check_transfers(client, conn, server, tmp_path)
    files = [await conn.sftp.open("t0-0", "rb") for _ in range(2)]
    with pytest.raises(SFTPError, match=r"sftp_open_files=2 allows no more") as caught:
        await conn.sftp.open("t0-0", "rb")
    assert (caught.value.errno, caught.value.status) == (errno.EMFILE, None)
    for file in files:
        await file.close()
    assert (server.alice.files / "peak").read_text() == "2"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_handles_given_twice(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """A server that gives every open file one handle gets one file at a time; all is right."""
    server = start_odd_server(sshd_factory, one_handle=True)
    conn = await files_of(client, server)
    await check_transfers(client, conn, server, tmp_path)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_file_object_whose_handle_was_given_twice(
    client: Client, sshd_factory: Callable[..., Sshd]
) -> None:
    """A file object that lost its handle to another file is of no use, and says so."""
    server = start_odd_server(sshd_factory, one_handle=True)
    home = server.alice.files
    (home / "first").write_bytes(b"first" * 100_000)
    (home / "second").write_bytes(b"second")
    conn = await files_of(client, server)
    file = await conn.sftp.open("first", "rb")
    assert await file.read(5) == b"first"
    assert await conn.sftp_read("second") == "second"
    with pytest.raises(SFTPError, match="gave the handle of this file to another one"):
        await file.read()
    await file.close()
    async with await conn.sftp.open("first", "rb") as file:
        with pytest.raises(SFTPError, match="gives the handle of an open file to another one"):
            await conn.sftp_read("second")
        assert await file.read() == b"first" * 100_000


@pytest.mark.parametrize("past_end", ["from_end", "across"])
@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_errors_past_the_end(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path, past_end: str
) -> None:
    """A server that answers reads past the end with an error gives whole files by every way."""
    server = start_odd_server(sshd_factory, past_end=past_end)
    conn = await files_of(client, server)
    home = server.alice.files
    for name, size in {"empty": 0, "small": 10, "large": 300_001}.items():
        data = os.urandom(size)
        (home / name).write_bytes(data)
        assert await conn.sftp_read(name, encoding=None) == data
        async with await conn.sftp.open(name, "rb") as file:
            assert await file.read() == data
            assert await file.read(10) == b""
        (tmp_path / name).write_bytes(data[: size // 2])
        await conn.sftp_read(name, tmp_path / name, resume=True)
        assert (tmp_path / name).read_bytes() == data
        await conn.remote_copy(name, client.awaited, f"copy-of-{name}")
        assert (client.account.files / f"copy-of-{name}").read_bytes() == data
    (home / "log").write_text("old\n")
    async with conn.tail("log") as tail:
        with (home / "log").open("a") as log:
            log.write("new\n")
        assert await tail.read() == "new\n"
        assert await tail.read() == ""
    contents = make_tree(home / "tree")
    done, failed = await conn.sftp_get_dir("tree", tmp_path / "tree", preserve_permissions=False)
    assert (len(done), failed) == (len(contents), [])
    assert read_tree(tmp_path / "tree") == contents


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_requests_without_answers(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """Where a server forgets requests, the time-out says how many; the connection goes on."""
    server = start_odd_server(sshd_factory, answers=20)
    conn = await files_of(client, server)
    with pytest.raises(SFTPTimeout, match=r"; 64 requests are unanswered .*sftp_requests="):
        await conn.sftp.put_bytes(bytes(4 << 20), "data", timeout=4)
    assert await conn.sftp.put_bytes(b"data", "data") == 4
    assert (server.alice.files / "data").read_bytes() == b"data"
