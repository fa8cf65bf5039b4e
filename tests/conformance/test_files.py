"""Files over SFTP and scp in every API: what the one does, the server's file system shows.

`tests/sftp` has what is the same whoever runs it: the protocol, transfers, directories.
"""

from __future__ import annotations

import os
import pickle
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import ConnectionClosed, HusshError, NotText, SFTPError, SFTPTimeout
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, NINE, THREE
from tests.support.sshd import Sshd

MIB = 1 << 20


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_contents(client: Client, there: Path, tmp_path: Path) -> None:
    """Text, bytes and local files come back as they went; no text is changed in silence."""
    conn = client.awaited
    await conn.sftp_write_data("grüße\n", "there/text")
    assert await conn.sftp_read("there/text") == "grüße\n"
    await conn.sftp_write_data(b"ok\xff", "there/bytes")
    with pytest.raises(NotText, match="encoding=None"):
        await conn.sftp_read("there/bytes")
    assert await conn.sftp_read("there/bytes", encoding=None) == b"ok\xff"
    data = os.urandom(2 * MIB + 5)
    (tmp_path / "data").write_bytes(data)
    await conn.sftp_write(tmp_path / "data", "there/data")
    assert (there / "data").read_bytes() == data
    assert await conn.sftp_read("there/data", tmp_path / "back") == "Ok"
    assert (tmp_path / "back").read_bytes() == data
    await conn.sftp_write_data("", "there/data")
    assert await conn.sftp_read("there/data") == ""
    with pytest.raises(FileNotFoundError) as missing:
        await conn.sftp_read("there/none")
    assert missing.value.filename == "there/none"
    with pytest.raises(FileNotFoundError):
        await conn.sftp_write(tmp_path / "none", "there/none")
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_scp(client: Client, there: Path, tmp_path: Path) -> None:
    """The server's scp takes and gives whole files with their modes; errors are those of files."""
    conn = client.awaited
    data = os.urandom(MIB + 1)
    (tmp_path / "data").write_bytes(data)
    (tmp_path / "data").chmod(0o750)
    assert await conn.scp_write(tmp_path / "data", "there/it's $(x)") is None
    assert (there / "it's $(x)").read_bytes() == data
    assert (there / "it's $(x)").stat().st_mode & 0o777 == 0o750
    assert await conn.scp_read("there/it's $(x)", tmp_path / "back") == "Ok"
    assert (tmp_path / "back").read_bytes() == data
    await conn.scp_write_data("größe\n", "there/text")
    assert await conn.scp_read("there/text") == "größe\n"
    await conn.scp_write_data(b"\xff", "there/bytes")


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_scp_that_fails(client: Client, there: Path, tmp_path: Path) -> None:
    """What scp cannot do is an error of files that knows its hop and its phase."""
    conn = client.awaited
    hop, here = f"alice@{conn.host}:{conn.port}", tmp_path / "none"
    (there / "bytes").write_bytes(b"\xff")
    failing = [
        (conn.scp_read("there/bytes"), NotText, "encoding=None", None),
        (conn.scp_read("there/none"), FileNotFoundError, "Failed to read", "there/none"),
        (conn.scp_read("there"), IsADirectoryError, "Failed to read 'there'", "there"),
        (conn.scp_write_data("x", "there"), IsADirectoryError, "Failed to write", "there"),
        (conn.scp_write_data("x", "/none/x"), FileNotFoundError, "Failed to write", "/none/x"),
        (conn.scp_write(tmp_path, "there/x"), IsADirectoryError, "this machine", str(tmp_path)),
        (conn.scp_write(here, "there/x"), FileNotFoundError, "this machine", str(here)),
        (conn.scp_write("/dev/null", "there/x"), SFTPError, "not a regular file", "/dev/null"),
        (conn.scp_read("there/bytes", tmp_path), IsADirectoryError, "machine", "there/bytes"),
        (conn.scp_read("/dev/null"), IsADirectoryError, "not a regular file", "/dev/null"),
        (conn.scp_write_data("x", "y" * 256), SFTPError, "File name too long", "y" * 256),
    ]
    for call, kind, text, filename in failing:
        with pytest.raises(HusshError, match=text) as caught:
            await call
        error = caught.value
        assert isinstance(error, kind)
        assert getattr(error, "filename", None) == filename
        assert (error.hop, error.hop_index, error.phase) == (hop, len(client.hops), "scp")
        assert (str(pickle.loads(pickle.dumps(error)))) == str(error)
    with pytest.raises(NotText) as no_text:
        await conn.sftp_read("there/bytes")
    assert (no_text.value.hop, no_text.value.phase) == (hop, "sftp")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_files_that_outlive_their_connection(client: Client, there: Path) -> None:
    """Closing what was read is no error then; closing what was written is, for it may be lost."""
    sftp = client.awaited.sftp
    await client.awaited.sftp_write_data("some text", "there/text")
    read = [await sftp.open("there/text", mode) for mode in ("r", "rb")]
    assert [file.real.mode for file in read] == ["r", "rb"]
    assert [await file.read(4) for file in read] == ["some", b"some"]
    written = await sftp.open("there/new", "w")
    await written.write("lost")
    await client.main.close()
    for file in read:
        await file.close()
    with pytest.raises(ConnectionClosed):
        await written.close()


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_scp_into_a_directory(client: Client, there: Path, tmp_path: Path) -> None:
    """With a slash at its end the remote path is the directory that gets the file, as in 0.3.3."""
    (tmp_path / "name").write_text("x")
    await client.awaited.scp_write(tmp_path / "name", "there/")
    assert (there / "name").read_text() == "x"
    with pytest.raises(FileNotFoundError) as missing:
        await client.awaited.scp_write(tmp_path / "name", "there/none/")
    assert missing.value.filename == "there/none/name"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_contents_of_no_kind(client: Client) -> None:
    """What is neither text nor bytes is a TypeError that says so, and no file comes of it."""
    for write in (client.awaited.sftp_write_data, client.awaited.scp_write_data):
        for data in (None, 7):
            with pytest.raises(TypeError, match="data must be str or bytes, not"):
                await write(data, "there-is-none")
    assert await client.awaited.sftp.exists("there-is-none") is False


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_directories_both_ways(client: Client, there: Path, tmp_path: Path) -> None:
    """A tree goes there and back; a source that is missing is in the list of what failed."""
    conn = client.awaited
    for name in ("a", "b/c", "b/d/e"):
        file = tmp_path / "out" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    done, failed = await conn.sftp_put_dir(tmp_path / "out", "there/new/tree")
    assert sorted(done) == [str(tmp_path / "out" / name) for name in ("a", "b/c", "b/d/e")]
    assert failed == []
    assert (there / "new/tree/b/d/e").read_text() == "b/d/e"
    done, failed = await conn.sftp_get_dir("there/new/tree", tmp_path / "back")
    assert (len(done), failed) == (3, [])
    assert (tmp_path / "back/b/d/e").read_text() == "b/d/e"
    assert await conn.sftp_get_dir("there/none", tmp_path / "not") == ([], ["there/none"])
    with pytest.raises(FileNotFoundError):
        await conn.sftp_get_dir("there/none", tmp_path / "not", fail_fast=True)
    # The same where what is to get it cannot be made.
    (there / "file").write_text("in the way")
    (tmp_path / "file").write_text("in the way")
    out = str(tmp_path / "out")
    assert await conn.sftp_put_dir(out, "there/file") == ([], [out])
    assert await conn.sftp_get_dir("there/new", tmp_path / "file") == ([], ["there/new"])
    for late in (
        conn.sftp_put_dir(out, "there/file", fail_fast=True),
        conn.sftp_get_dir("there/new", tmp_path / "file", fail_fast=True),
    ):
        with pytest.raises(FileExistsError):
            await late
    with pytest.raises(FileNotFoundError):
        await conn.sftp.put_dir(tmp_path / "none", "there/not")


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_names_of_os(client: Client, there: Path) -> None:
    """`sftp` makes, lists, walks, links, renames and removes as `os` does."""
    sftp = client.awaited.sftp
    await sftp.mkdir("there/a", 0o700)
    assert stat.S_IMODE((there / "a").stat().st_mode) == 0o700
    await sftp.makedirs("there/b/c/d")
    await sftp.makedirs("there/b/c/d", exist_ok=True)
    with pytest.raises(FileExistsError):
        await sftp.makedirs("there/b/c/d")
    assert await sftp.put_bytes(b"x", "there/b/file") == 1
    assert await sftp.get_bytes("there/b/file") == b"x"
    await sftp.symlink("file", "there/b/link")
    await sftp.symlink("nowhere", "there/b/broken")
    assert sorted(await sftp.listdir("there/b")) == ["broken", "c", "file", "link"]
    assert sorted(await sftp.listdir(b"there/b")) == [b"broken", b"c", b"file", b"link"]
    async with sftp.scandir("there/b") as entries:
        found = {entry.name: entry async for entry in entries}
    kinds = {
        name: (await entry.is_dir(), await entry.is_file(), await entry.is_symlink())
        for name, entry in found.items()
    }
    assert kinds == {
        "c": (True, False, False),
        "file": (False, True, False),
        "link": (False, True, True),
        "broken": (False, False, True),
    }
    assert not await found["link"].is_file(follow_symlinks=False)
    assert found["file"].path == os.fspath(found["file"]) == "there/b/file"
    assert (await found["link"].stat()).st_size == 1
    walked = {top: (dirs, sorted(names)) async for top, dirs, names in sftp.walk("there/b")}
    assert walked == {
        "there/b": (["c"], ["broken", "file", "link"]),
        "there/b/c": (["d"], []),
        "there/b/c/d": ([], []),
    }
    pruned = []
    async for top, dirs, _ in sftp.walk(b"there"):
        dirs[:] = [name for name in dirs if name != b"c"]
        pruned.append(top)
    assert sorted(pruned) == [b"there", b"there/a", b"there/b"]
    assert await sftp.readlink("there/b/link") == "file"
    assert (await sftp.realpath(b"there/b/../b/link")).endswith(b"there/b/file")
    await sftp.rename("there/b/file", "there/a/other")
    await sftp.put_bytes(b"new", "there/b/file")
    await sftp.replace("there/b/file", "there/a/other")
    assert (there / "a/other").read_text() == "new"
    await sftp.unlink("there/a/other")
    await sftp.rmdir("there/a")
    assert not await sftp.exists("there/a")
    assert not await sftp.exists("there/b/broken")
    assert await sftp.exists("there/b")
    with pytest.raises(FileNotFoundError):
        await sftp.remove("there/a")
    async for entry in sftp.scandir("there"):
        assert entry.name == "b"
    with pytest.raises(FileNotFoundError):
        await anext(aiter(sftp.scandir("there/a")))
    with pytest.raises(ValueError, match="null"):
        await sftp.stat("a\0b")


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_attributes(client: Client, there: Path) -> None:
    """Modes, times and sizes agree with the file system."""
    sftp = client.awaited.sftp
    await sftp.put_bytes(b"12345", "there/file")
    await sftp.chmod("there/file", 0o640)
    await sftp.truncate("there/file", 3)
    await sftp.utime("there/file", (1_000_000_000, 1_100_000_000.9))
    seen, info = (there / "file").stat(), await sftp.stat("there/file")
    assert seen.st_mode == info.st_mode == stat.S_IFREG | 0o640
    assert (info.st_size, info.st_uid, info.st_gid) == (3, seen.st_uid, seen.st_gid)
    assert (info.st_atime, info.st_mtime) == (1_000_000_000, 1_100_000_000)
    assert (await sftp.lstat("there/file")).st_mtime == int(seen.st_mtime)
    for owner in ((seen.st_uid, seen.st_gid), (-1, seen.st_gid), (seen.st_uid, -1), (-1, -1)):
        await sftp.chown("there/file", *owner)
        info = await sftp.stat("there/file")
        assert (info.st_uid, info.st_gid) == (seen.st_uid, seen.st_gid)
    with pytest.raises(ValueError, match="1970"):
        await sftp.utime("there/file", (-1, 0))
    disk, real = await sftp.statvfs("there"), os.statvfs(there)
    assert (disk.f_frsize, disk.f_blocks, disk.f_namemax) == (
        real.f_frsize, real.f_blocks, real.f_namemax,
    )  # fmt: skip


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_numbers_that_cannot_be_sent(client: Client, there: Path) -> None:
    """A number that no server could take is an error that says so, and nothing is sent."""
    sftp = client.awaited.sftp
    await sftp.put_bytes(b"12345", "there/file")
    for size in (-1, 1 << 63, 1 << 70):
        with pytest.raises(SFTPError, match="Invalid argument"):
            await sftp.truncate("there/file", size)
    for wrong, kind in ((-2, ValueError), (1 << 32, ValueError), ("0", TypeError)):
        with pytest.raises(kind, match="uid"):
            await sftp.chown("there/file", wrong, 0)
        with pytest.raises(kind, match="gid"):
            await sftp.chown("there/file", 0, wrong)
    async with sftp.open("there/file", "r+b", buffering=0) as file:
        for place in (-1, 1 << 63, 1 << 70):
            with pytest.raises(SFTPError, match="Invalid argument"):
                await file.seek(place)
            with pytest.raises(SFTPError, match="Invalid argument"):
                await file.truncate(place)
        assert await file.read(5) == b"12345"
    await sftp.mkdir("there/folder", stat.S_IFDIR | 0o700)
    assert (there / "folder").stat().st_mode == stat.S_IFDIR | 0o700


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_open_files(client: Client, there: Path) -> None:
    """Open files read, write, seek and cut as local ones, in bytes and text, line by line."""
    sftp = client.awaited.sftp
    data = os.urandom(MIB)
    async with sftp.open("there/bytes", "w+b") as file:
        assert await file.write(data) == MIB
        assert await file.tell() == MIB
        assert await file.seek(-10, os.SEEK_END) == MIB - 10
        await file.write(b"0123456789abc")
        await file.seek(5)
        await file.write(b"#")
        await file.flush()
        assert (there / "bytes").read_bytes() == (data[:5] + b"#" + data[6:-10] + b"0123456789abc")
        assert await file.read(2) == data[6:8]
        buffer = bytearray(100)
        assert await file.readinto(buffer) == 100
        assert bytes(buffer) == data[8:108]
        await file.truncate(7)
        await file.seek(0)
        assert await file.read() == data[:5] + b"#" + data[6:7]
        assert await file.read(1) == b""
    assert (there / "bytes").stat().st_size == 7
    with pytest.raises(ValueError, match="closed"):
        await file.read()
    async with sftp.open("there/text", "w") as file:
        assert await file.write("eins\nzwölf\n") == 11
    async with sftp.open("there/text", "a") as file:
        await file.writelines(["drü", "ber\n", "end"])
    async with sftp.open("there/text") as file:
        assert await file.readline() == "eins\n"
        place = await file.tell()
        assert [line async for line in file] == ["zwölf\n", "drüber\n", "end"]
        await file.seek(place)
        assert await file.read(2) == "zw"
        assert await file.readlines() == ["ölf\n", "drüber\n", "end"]
    async with sftp.open("there/text", "rb", buffering=0) as raw:
        assert (await raw.stat()).st_size == len("eins\nzwölf\ndrüber\nend".encode())
        await raw.seek(5)
        assert await raw.read(3) == b"zw\xc3"
    assert (there / "text").read_text() == "eins\nzwölf\ndrüber\nend"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_modes_of_open(client: Client, there: Path) -> None:
    """Modes and calls that do not fit are the errors of the built-in `open`."""
    sftp = client.awaited.sftp
    for mode in ("", "rw", "rr", "q", "rbt"):
        with pytest.raises(ValueError, match="mode"):
            await sftp.open("there/file", mode)
    with pytest.raises(ValueError, match="buffered"):
        await sftp.open("there/file", "w", buffering=0)
    with pytest.raises(FileNotFoundError):
        await sftp.open("there/none")
    async with sftp.open("there/file", "xb") as file:
        with pytest.raises(OSError, match="read"):
            await file.read()
    with pytest.raises(FileExistsError):
        await sftp.open("there/file", "x")
    async with sftp.open("there/file") as file:
        with pytest.raises(OSError, match="writ"):
            await file.write("x")


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_many_at_once(client: Client, there: Path) -> None:
    """Twelve threads or tasks on one SFTP channel each get their own."""
    conn = client.awaited

    def job(number: int) -> Any:
        async def work() -> None:
            data = bytes([number]) * (50_000 * number + 1)
            path = f"there/{number}"
            await conn.sftp_write_data(data, path)
            async with conn.sftp.open(path, "rb") as file:
                assert await file.read() == data
            assert (await conn.sftp.stat(path)).st_size == len(data)

        return work

    await client.together(*[job(number) for number in range(12)])


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_time_limit(client: Client, there: Path) -> None:
    """A transfer's limit is told in the API's own unit; the connection stays usable."""
    conn = client.awaited
    await conn.sftp.listdir()
    with pytest.raises(SFTPTimeout, match=r"after (1 ms|0\.001 s)"):
        await conn.sftp.put_bytes(bytes(50 * MIB), "/dev/null", timeout=0.001)
    assert await conn.sftp.listdir("there") == []


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_left_open(client: Client, there: Path) -> None:
    """What is left open is no obstacle: not to others, and not to closing the connection."""
    sftp = client.awaited.sftp
    for number in range(20):
        (there / str(number)).touch()
    file: Awaited = await sftp.open("there/0", "rb")
    entries = sftp.scandir("there")
    async for _ in entries:
        break
    assert await file.read(1) == b""
    assert len(await sftp.listdir("there")) == 20
