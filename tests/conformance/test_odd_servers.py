"""Servers that tell less than OpenSSH's, or refuse more, in every API.

They are sshds whose SFTP is `tests/support/odd_sftp.py`, or OpenSSH's own with requests taken away.
"""

from __future__ import annotations

import errno
import logging
import os
import pickle
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, SFTPError, SFTPTimeout
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.odd_sftp import odd_server
from tests.support.sshd import Sshd

Start = Callable[..., Sshd]

pytestmark = pytest.mark.parametrize("client", THREE, indirect=True)


async def on(client: Client, server: Sshd) -> Any:
    """Connect to a server."""
    return Awaited((await client.connect_to(server)).real)


def source(folder: Path) -> Path:
    """Make a local tree: small files, a large one, a folder in a folder, links."""
    (folder / "a/b").mkdir(parents=True)
    for number in range(20):
        (folder / f"a/{number}").write_text(str(number))
    (folder / "large").write_bytes(os.urandom(700_000))
    (folder / "a/b/link").symlink_to("../3")
    return folder


# -- attributes

REFUSING = {"options": {"Subsystem": "sftp internal-sftp -P setstat,fsetstat"}}


@pytest.mark.parametrize("kind", ["blocked", "unsupported"])
async def test_attributes_are_refused(
    client: Client, sshd_factory: Start, tmp_path: Path, kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """What has arrived counts as transferred, and one warning tells of all that was refused."""
    blocked = kind == "blocked"
    server = sshd_factory(**REFUSING) if blocked else odd_server(sshd_factory, "no-setstat")
    conn, here = await on(client, server), source(tmp_path / "source")
    with caplog.at_level(logging.WARNING, "hussh"):
        result = await conn.sftp_put_dir(here, "copy", preserve_times=True)
    done, failed = result
    assert (len(done), failed) == (22, [])
    assert (server.alice.files / "copy/large").read_bytes() == (here / "large").read_bytes()
    (text,) = result.warnings
    assert "permissions or times were not kept" in text
    assert "and 23 more" in text  # 22 files and 2 new folders in all
    (record,) = [r for r in caplog.records if r.name == "hussh.sftp"]
    assert text in record.getMessage()
    # Nothing is asked for, nothing is refused.
    assert (await conn.sftp_put_dir(here, "copy", preserve_permissions=False)).warnings == ()
    strict = await conn.sftp_put_dir(here, "copy2", preserve="strict")
    assert strict.transferred == []
    assert len(strict.failed) == 24
    assert "the data is there" in str(strict.failed[0].error)
    with pytest.raises(SFTPError, match="the data is there"):
        await conn.sftp_put_dir(here, "copy3", fail_fast=True, preserve="strict")
    with pytest.raises(ValueError, match="preserve must be"):
        await conn.sftp_put_dir(here, "copy", preserve="yes")
    back = pickle.loads(pickle.dumps(strict))
    assert (back, back.warnings) == (strict, strict.warnings)
    assert str(back.failed[0].error) == str(strict.failed[0].error)


async def test_requests_overtake_writes(
    client: Client, sshd_factory: Start, tmp_path: Path
) -> None:
    """Where a CLOSE or FSETSTAT would overtake a WRITE, files have all bytes and their times."""
    conn = await on(client, server := odd_server(sshd_factory, "late-writes"))
    here = tmp_path / "source"
    here.mkdir()
    for number in range(5):
        (here / str(number)).write_bytes(os.urandom(1000 * number))
        os.utime(here / str(number), (1e9, 1e9))
    assert (await conn.sftp_put_dir(here, "copy", preserve_times=True)).failed == []
    await conn.sftp_write(here / "4", "single")
    there = server.alice.files
    for number in range(5):
        data = (here / str(number)).read_bytes()
        assert (there / f"copy/{number}").read_bytes() == data
        assert (there / f"copy/{number}").stat().st_mtime == 1e9
    assert (there / "single").read_bytes() == data


async def test_sizes_that_are_kept(client: Client, sshd_factory: Start) -> None:
    """A server that says it has cut a file, and has not, gets an error; Erlang's is one."""
    conn = await on(client, odd_server(sshd_factory, "keeps-sizes"))
    await conn.sftp_write_data("four", "file")
    with pytest.raises(SFTPError, match="did nothing"):
        await conn.sftp.truncate("file", 2)
    file = await conn.sftp.open("file", "r+b")
    with pytest.raises(SFTPError, match="did nothing"):
        await file.truncate(2)
    assert await file.truncate(4) == 4
    await file.close()


async def test_missing_and_mistaken_folders(client: Client, sshd_factory: Start) -> None:
    """Where the server says only FAILURE, what is missing and what is no folder is found out."""
    conn = await on(client, odd_server(sshd_factory, "no-enoent"))
    await conn.sftp_write_data("four", "file")
    for ask in (conn.sftp.listdir, conn.sftp.rmdir, conn.sftp.remove):
        with pytest.raises(FileNotFoundError):
            await ask("missing")
    with pytest.raises(NotADirectoryError):
        await conn.sftp.listdir("file")


async def test_resuming_needs_no_attributes(
    client: Client, sshd_factory: Start, tmp_path: Path
) -> None:
    """What the server has of another file is emptied, though it refuses every other change."""
    conn = await on(client, server := sshd_factory(**REFUSING))
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    for there in (data[:200_000], os.urandom(400_000), os.urandom(1000), b""):
        (server.alice.files / "file").write_bytes(there)
        os.chown(server.alice.files / "file", server.alice.uid, server.alice.gid)
        await conn.sftp_write(tmp_path / "file", "file", resume=True)
        assert (server.alice.files / "file").read_bytes() == data


async def test_copies_over_longer_files(client: Client, sshd_factory: Start) -> None:
    """A copy onto a longer file leaves nothing of that, though the server refuses to cut it."""
    conn = await on(client, server := sshd_factory(**REFUSING))
    await conn.sftp_write_data("short", "source")
    await conn.sftp_write_data("much longer", "target")
    await conn.remote_copy("source", conn, "target")
    assert (server.alice.files / "target").read_text() == "short"
    await conn.remote_copy("source", conn, "./target")  # as long
    assert (server.alice.files / "target").read_text() == "short"


@pytest.mark.needs_root
async def test_files_of_somebody_else(client: Client, target: Sshd, tmp_path: Path) -> None:
    """A file of another user that all may write is transferred, whoever may change its mode."""
    with target.alice.folder("shared") as folder:
        (folder / "file").write_text("old")
        (folder / "file").chmod(0o666)
        os.chown(folder / "file", 0, 0)
        (tmp_path / "s").mkdir()
        (tmp_path / "s/file").write_text("new")
        conn = client.awaited
        result = await conn.sftp_put_dir(tmp_path / "s", "shared", preserve_times=True)
        assert result == ([f"{tmp_path}/s/file"], [])
        assert len(result.warnings) == 1
        assert (folder / "file").read_text() == "new"
        strict = await conn.sftp_put_dir(tmp_path / "s", "shared", preserve="strict")
        assert strict == ([], [f"{tmp_path}/s/file"])
        assert isinstance(strict.failed[0].error, PermissionError)


# -- types


@pytest.mark.parametrize(
    "oddities",
    [
        ("no-types", "no-longnames"),
        ("no-permissions",),
        ("no-permissions", "no-sizes"),
        ("no-permissions", "no-sizes", "no-longnames"),
    ],
    ids="+".join,
)
async def test_types_are_unknown(
    client: Client, sshd_factory: Start, tmp_path: Path, oddities: tuple[str, ...]
) -> None:
    """Directories, files and links are told from one another without their types."""
    server = odd_server(sshd_factory, *oddities)
    conn, here = await on(client, server), source(tmp_path / "source")
    sftp, there = conn.sftp, server.alice.files
    for _ in range(2):  # the second time all is there already
        assert (await conn.sftp_put_dir(here, "copy/x", follow_symlinks=False)).failed == []
    assert os.readlink(there / "copy/x/a/b/link") == "../3"
    for follow in (False, True):
        back = tmp_path / f"back-{follow}"
        done, failed = await conn.sftp_get_dir("copy/x", back, follow_symlinks=follow)
        assert (len(done), failed) == (22, [])
        assert (back / "large").read_bytes() == (here / "large").read_bytes()
        assert (back / "a/b/link").is_symlink() is not follow
        assert (back / "a/b/link").read_text() == "3"
        assert stat.S_IMODE((back / "a").stat().st_mode) & 0o700 == 0o700
        assert stat.S_IMODE((back / "a/3").stat().st_mode) & 0o600 == 0o600
    with pytest.raises(NotADirectoryError):
        await sftp.get_dir("copy/x/large", tmp_path / "none")
    walked = [(top, sorted(folders), len(files)) async for top, folders, files in sftp.walk("copy")]
    assert walked == [
        ("copy", ["x"], 0), ("copy/x", ["a"], 1), ("copy/x/a", ["b"], 20), ("copy/x/a/b", [], 1),
    ]  # fmt: skip
    async with sftp.scandir("copy/x/a/b") as entries:
        (link,) = [entry async for entry in entries]
    assert [await link.is_dir(), await link.is_file(), await link.is_symlink()] == [
        False, True, True,
    ]  # fmt: skip
    assert stat.S_ISREG((await link.stat()).st_mode)
    assert stat.S_ISLNK((await link.stat(follow_symlinks=False)).st_mode)
    await sftp.makedirs("copy/x/a", exist_ok=True)
    with pytest.raises(FileExistsError):
        await sftp.makedirs("copy/x/a")
    with pytest.raises(FileExistsError):
        await sftp.makedirs("copy/x/large", exist_ok=True)


@pytest.mark.parametrize("oddities", [("no-permissions", "no-sizes"), ()], ids=["without", "with"])
async def test_sizes_are_unknown(
    client: Client, sshd_factory: Start, tmp_path: Path, oddities: tuple[str, ...]
) -> None:
    """Ends of files are found by reading: tail, seeking, appending and resuming work."""
    server = odd_server(sshd_factory, *oddities)
    conn = await on(client, server)
    log = server.alice.files / "log"
    for before in (0, 1, 65_535, 65_536, 65_537, 300_001):
        log.write_bytes(b"x" * before)
        async with conn.tail("log") as tail:
            for part in ("one\n", "two\n"):
                with log.open("a") as file:
                    file.write(part)
                assert await tail.read() == part
            log.write_text("anew")
            assert await tail.read() == "anew"
        async with await conn.sftp.open("log", "rb") as file:
            assert await file.seek(0, os.SEEK_END) == 4
    os.chown(log, server.alice.uid, server.alice.gid)
    data = os.urandom(200_000)
    (tmp_path / "file").write_bytes(data)
    for there in (data[:100_000], os.urandom(400_000)):
        log.write_bytes(there)
        await conn.sftp_write(tmp_path / "file", "log", resume=True)
        assert log.read_bytes() == data
    assert await conn.sftp_read("log", encoding=None) == data


# -- links


@pytest.mark.parametrize("oddities", [("draft-links",), ()], ids=["draft", "OpenSSH's order"])
async def test_links_lead_where_they_shall(
    client: Client, sshd_factory: Start, tmp_path: Path, oddities: tuple[str, ...]
) -> None:
    """A link is where it was asked for, at servers of either order, and nothing else is left."""
    server = odd_server(sshd_factory, *oddities)
    home = server.alice.files
    with server.alice.folder("links") as there:
        (there / "file").write_text("x")
        at = f"{server.alice.home}/links"
        for target, name in (
            (f"{at}/file", "to-file"), (f"{at}/none", "to-none"), ("links/none", "relative"),
            ("none", "sibling"),
        ):  # fmt: skip
            conn = await on(client, server)  # which has to find out again
            for number in range(2):
                await conn.sftp.symlink(target, f"links/{name}{number}")
                assert os.readlink(there / f"{name}{number}") == target
            with pytest.raises(FileExistsError):
                await conn.sftp.symlink(target, f"links/{name}0")
        assert len(list(there.iterdir())) == 9
        assert {path.name for path in home.iterdir()} == {".odd_sftp.py", "links"}
        conn = await on(client, server)
        with pytest.raises(FileExistsError):
            await conn.sftp.symlink(f"{at}/none", "links/file")
        with pytest.raises((FileNotFoundError, PermissionError)):
            await conn.sftp.symlink(f"{at}/new", "/none/link")
        assert not (there / "new").is_symlink()
        here = tmp_path / "links"
        here.mkdir()
        for number in range(30):
            (here / f"link-{number}").symlink_to(f"file-{number}")
        for _ in range(2):
            conn = await on(client, server)
            done, failed = await conn.sftp_put_dir(here, "links/put", follow_symlinks=False)
            assert (len(done), failed) == (30, [])
            found = {path.name: os.readlink(path) for path in (there / "put").iterdir()}
            assert found == {f"link-{number}": f"file-{number}" for number in range(30)}
        assert {path.name for path in home.iterdir()} == {".odd_sftp.py", "links"}


# -- directories


@pytest.mark.parametrize("oddity", ["vague-mkdir", "denied-mkdir"])
async def test_mkdir_says_nothing(client: Client, sshd_factory: Start, oddity: str) -> None:
    """`makedirs` finds out by itself what is there and what lacks."""
    server = odd_server(sshd_factory, oddity)
    sftp = (await on(client, server)).sftp
    await sftp.makedirs("a/b/c/d")
    assert (server.alice.files / "a/b/c/d").is_dir()
    await sftp.makedirs("a/b/c/d", exist_ok=True)
    await sftp.makedirs("a/b/e/f/", exist_ok=True)
    await sftp.makedirs("/", exist_ok=True)
    await sftp.makedirs(f"{server.alice.home}/g/h")
    (server.alice.files / "file").touch()
    for path in ("a/b", "file"):
        with pytest.raises(FileExistsError):
            await sftp.makedirs(path)
        with pytest.raises(FileExistsError):
            await sftp.mkdir(path)
    with pytest.raises(SFTPError) as caught:
        await sftp.makedirs("/proc/none/x")
    assert not isinstance(caught.value, FileExistsError)


async def test_names_that_no_directory_contains(
    client: Client, sshd_factory: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """They are not listed, and one warning for each listing says so."""
    server = odd_server(sshd_factory, "evil-names")
    with server.alice.folder("names") as folder:
        for number in range(250):
            (folder / f"file-{number}").touch()
        good = {f"file-{number}" for number in range(250)}
        sftp = (await on(client, server)).sftp
        with caplog.at_level(logging.WARNING, "hussh"):
            assert set(await sftp.listdir("names")) == good
            async with sftp.scandir("names") as entries:
                assert {entry.name async for entry in entries} == good
            ((_, folders, files),) = [found async for found in sftp.walk("names")]
    assert (folders, set(files)) == ([], good)
    said = [record.getMessage() for record in caplog.records if record.name == "hussh.sftp"]
    assert len(said) == 3
    assert "'../evil' is no name" in said[0]


# -- trees without end


class Overtime:
    """Measures the CPU time that this thread uses after a time limit, however busy the machine is.

    Attributes:
        used: seconds of CPU time.
    """

    def __init__(self, limit: float) -> None:
        """Take a limit in seconds; it begins with the block that this surrounds."""
        self.used = 0.0
        self._clock = time.pthread_getcpuclockid(threading.get_ident())
        self._watch = threading.Timer(limit, self._note)
        self._at_limit = 0.0

    def _note(self) -> None:
        self._at_limit = time.clock_gettime(self._clock)

    def __enter__(self) -> Overtime:
        """Begin."""
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; a call that ended early has used nothing."""
        at_end = time.clock_gettime(self._clock)
        self._watch.join()
        self.used = max(0.0, at_end - self._at_limit)


async def test_a_hostile_tree_is_bounded(
    client: Client, sshd_factory: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """100 folders in each, for ever: a time limit ends that, and so does the number of names."""
    conn = await on(client, odd_server(sshd_factory, "endless=100"))
    with Overtime(0.5) as overtime, pytest.raises(SFTPTimeout):
        await conn.sftp_get_dir("top", tmp_path / "one", timeout=0.5)
    assert overtime.used < 0.5
    monkeypatch.setattr("hussh._protocol.sftp.get_tree.MOST_IN_TREE", 2000)
    with pytest.raises(SFTPError, match="more than 2000 names") as caught:
        await conn.sftp_get_dir("top", tmp_path / "two", timeout=60)
    assert caught.value.errno == errno.EOVERFLOW


async def test_huge_lists_keep_no_time_limit_waiting(
    client: Client, sshd_factory: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6000 names in each message, for ever: downloads and listings end within their time."""
    monkeypatch.setattr("hussh._protocol.sftp.ops.MOST_NAMES", 1 << 40)
    monkeypatch.setattr("hussh._protocol.sftp.ops.MOST_LISTED", 1 << 40)
    conn = await on(client, odd_server(sshd_factory, "endless=6000", "wide", "no-longnames"))
    with Overtime(0.5) as overtime, pytest.raises(SFTPTimeout):
        await conn.sftp_get_dir("top", tmp_path / "one", timeout=0.5)
    assert overtime.used < 0.5
    # The connection's own limit, in its unit, which is too short for connecting.
    monkeypatch.setattr(conn.real, "_timeout", 500 if isinstance(conn.real, Connection) else 0.5)
    with Overtime(0.5) as overtime, pytest.raises(SFTPTimeout):
        await anext(aiter(conn.sftp.walk("top")))
    assert overtime.used < 0.5
