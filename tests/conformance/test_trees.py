"""Removing trees, finding paths, hard links and copies on the server, in every API.

`pathlib` and the server's own file system say what is right.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import SFTPError
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.accounts import Account
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.odd_sftp import odd_server
from tests.support.sshd import Sshd

MIB = 1 << 20
pytestmark = pytest.mark.parametrize("client", THREE, indirect=True)


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


def give(account: Account, top: Path) -> None:
    """Make an account the owner of all that lies in a folder."""
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            os.chown(os.path.join(folder, name), account.uid, account.gid, follow_symlinks=False)


def make_tree(top: Path) -> None:
    """Make directories with files, odd names, and links out of the tree, up and to nothing."""
    for name in ("a/b/c/deep.txt", "a/x.txt", "a/.hidden", "a/b/y.log", "z.txt", "[odd]*", "~"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "a/empty").mkdir()
    Path(os.fsdecode(os.fsencode(top) + b"/a/\xff\xfe.txt")).write_text("x")
    for number in range(150):
        (top / f"a/b/many{number}.dat").write_text("x")
    (top / "a/up").symlink_to("..")
    (top / "a/b/nowhere").symlink_to("no/such")


async def test_rmtree(client: Client, there: Path) -> None:
    """A tree is removed with all names, and nothing that links in it lead to."""
    sftp = client.awaited.sftp
    make_tree(there / "tree")
    (there / "outside").mkdir()
    (there / "outside/kept").write_text("x")
    (there / "tree/out").symlink_to("../outside")
    (there / "tree/file").symlink_to("../outside/kept")
    give(client.account, there)
    await sftp.rmtree("there/tree/")
    assert sorted(os.listdir(there)) == ["outside"]
    assert os.listdir(there / "outside") == ["kept"]
    (there / "link").symlink_to("outside")
    for path, code in (
        ("there/link", errno.ENOTDIR), ("there/link/", errno.ENOTDIR),
        ("there/outside/kept", errno.ENOTDIR), ("there/none", errno.ENOENT), ("", errno.ENOENT),
        ("/", errno.EINVAL), (".", errno.EINVAL), ("there/..", errno.EINVAL),
    ):  # fmt: skip
        with pytest.raises(SFTPError) as refused:
            await sftp.rmtree(path)
        assert refused.value.errno == code, path
        await sftp.rmtree(path, ignore_errors=True)
    assert os.listdir(there / "outside") == ["kept"]


async def test_rmtree_that_fails(client: Client, sshd_factory: Callable[..., Sshd]) -> None:
    """What cannot be removed is the error, or it stays and the rest goes."""
    server = odd_server(sshd_factory, "no-types")
    sftp = Awaited((await client.connect_to(server)).real).sftp
    top = server.alice.files / "tree"
    make_tree(top)
    give(server.alice, server.alice.files)
    (top / "a/b").chmod(0o500)
    with pytest.raises(SFTPError) as refused:
        await sftp.rmtree("tree")
    assert "tree/a/b/" in (refused.value.filename or "")
    await sftp.rmtree("tree", ignore_errors=True)
    assert os.listdir(top) == ["a"]
    assert sorted(os.listdir(top / "a")) == ["b"]
    assert len(os.listdir(top / "a/b")) == 153
    (top / "a/b").chmod(0o700)
    await sftp.rmtree("tree")
    assert not top.exists()


async def test_glob(client: Client, there: Path) -> None:
    """Patterns find what `pathlib` finds; paths come in the type of the pattern."""
    sftp = client.awaited.sftp
    make_tree(there / "tree")
    shutil.copytree(there / "tree/a/b", there / "tree/q/b", symlinks=True)
    (there / "tree/alias").symlink_to("a")
    for pattern in (
        "*", "*.txt", "**/*.txt", "a/*/c", "**/*", "**/b/*.log", "a/b/many1?.dat", "[a-q]/b/[!m]*",
        "**/c/**/*.txt", "alias/*.txt", "*/x.txt", "**/**/y.log", "a/.*", "none/*", "a/b/none",
        "[[]odd[]]*", "**/b/**/*", "~", "a/./x.txt", "z.txt/*",
    ):  # fmt: skip
        right = sorted(str(path) for path in (there / "tree").glob(pattern))
        found = await sftp.glob(f"there/tree/{pattern}")
        assert [str(there) + path.removeprefix("there") for path in found] == right, pattern
        listed = [path async for path in sftp.iglob(f"there/tree/{pattern}")]
        assert sorted(listed) == found
    assert await sftp.glob("there/tree/a/**") == sorted(
        ["there/tree/a", *(await sftp.glob("there/tree/a/**/*"))]
    )
    assert await sftp.glob("there/tree/*/") == [
        f"there/tree/{name}/" for name in ("a", "alias", "q")
    ]
    assert await sftp.glob("there/tree/a/../z*") == ["there/tree/a/../z.txt"]
    assert await sftp.glob(b"there/tree/a/\xff*") == [b"there/tree/a/\xff\xfe.txt"]
    home = await sftp.glob("~/there/tree/*/x.txt")
    assert home == ["~/there/tree/a/x.txt", "~/there/tree/alias/x.txt"]
    assert await sftp.get_bytes(home[0]) == b"a/x.txt"
    absolute = await sftp.realpath("there")
    assert await sftp.glob(f"{absolute}/tr?e/z.txt") == [f"{absolute}/tree/z.txt"]
    assert await sftp.glob("") == []
    assert await sftp.glob("/") == ["/"]


async def test_hard_links(client: Client, there: Path) -> None:
    """A file gets a second name, which must be new; both names are in the error."""
    sftp = client.awaited.sftp
    (there / "file").write_text("x")
    give(client.account, there)
    await sftp.link("~/there/file", "there/other")
    assert (there / "other").stat().st_ino == (there / "file").stat().st_ino
    with pytest.raises(FileExistsError) as taken:
        await sftp.link("there/file", "there/other")
    assert (taken.value.filename, taken.value.filename2) == ("there/file", "there/other")
    with pytest.raises(FileNotFoundError):
        await sftp.link("there/none", "there/new")


async def test_copies(client: Client, there: Path) -> None:
    """A copy is made on the server, over what is there and longer; the source never suffers."""
    sftp = client.awaited.sftp
    data = os.urandom(3 * MIB + 7)
    (there / "file").write_bytes(data)
    (there / "file").chmod(0o640)
    give(client.account, there)
    seen: list[tuple[int, int | None]] = []
    size = await sftp.copy("there/file", "~/there/new", progress=lambda *n: seen.append(n))
    assert (size, seen[-1]) == (len(data), (len(data), len(data)))
    assert (there / "new").read_bytes() == data
    assert (there / "new").stat().st_mode & 0o777 == 0o640
    (there / "small").write_text("small")
    (there / "small").chmod(0o644)
    assert await sftp.copy("there/small", "there/new") == 5
    assert (there / "new").read_text() == "small"
    assert await sftp.copy("/proc/self/cmdline", "there/new") > 0
    assert (there / "new").stat().st_size > 0
    assert await sftp.link("there/file", "there/same") is None
    (there / "link").symlink_to("file")
    assert await sftp.copy("there/file", "there/same") == len(data)
    for path in ("there/file", "there/link", "there/../there/file"):
        with pytest.raises(shutil.SameFileError):
            await sftp.copy("there/file", path)
    assert (there / "file").read_bytes() == data
    for source, target, kind in (
        ("there/none", "there/new", FileNotFoundError), ("there", "there/new", IsADirectoryError),
        ("there/file", "there", IsADirectoryError), ("there/file", "none/x", FileNotFoundError),
    ):  # fmt: skip
        with pytest.raises(kind) as refused:
            await sftp.copy(source, target)
        assert (refused.value.filename, refused.value.filename2) == (source, target)


async def test_copies_without_leaving(client: Client, there: Path) -> None:
    """OpenSSH copies by itself: the bytes do not come to this machine."""
    sftp: Any = client.awaited.sftp
    if b"copy-data" not in (await _extensions(client)):
        pytest.skip("this OpenSSH has no copy-data")
    (there / "file").write_bytes(bytes(8 * MIB))
    machine = _machine(client)
    sent = []
    write, machine.write = machine.write, lambda *given: sent.append(given)
    try:
        assert await sftp.copy("there/file", "there/new") == 8 * MIB
    finally:
        machine.write = write
    assert sent == []
    assert (there / "new").stat().st_size == 8 * MIB


def _machine(client: Client) -> Any:
    connection: Any = client.main.real
    state = connection._sftp if client.api.name == "sync" else connection._get_sftp_state()
    return state._current.machine


async def _extensions(client: Client) -> Any:
    await client.awaited.sftp.stat(".")
    return _machine(client).extensions


async def test_asyncssh_server(client: Client, tmp_path: Path) -> None:
    """All of it works at asyncssh's server, too."""
    there = tmp_path / "served"
    make_tree(there / "tree")
    with asyncssh_server(there) as port:
        session = await client.connect("127.0.0.1", port, username="alice", password=PASSWORD)
        sftp = Awaited(session.real).sftp
        right = sorted(str(path.relative_to(there)) for path in (there / "tree").rglob("*.txt"))
        assert await sftp.glob("tree/**/*.txt") == right
        await sftp.link("tree/z.txt", "linked")
        assert (there / "linked").stat().st_nlink == 2
        assert await sftp.copy("tree/z.txt", "copied") == 5
        assert (there / "copied").read_text() == "z.txt"
        await sftp.rmtree("tree")
        assert sorted(os.listdir(there)) == ["copied", "linked"]


async def test_servers_without_extensions(
    client: Client, sshd_factory: Callable[..., Sshd]
) -> None:
    """Without copy-data the bytes come and go; without hard links that is the error."""
    server = odd_server(sshd_factory, "no-types")
    sftp = Awaited((await client.connect_to(server)).real).sftp
    data = os.urandom(2 * MIB + 1)
    await sftp.put_bytes(data, "file")
    await sftp.put_bytes(data * 2, "long")
    assert await sftp.copy("file", "new") == len(data)
    assert await sftp.copy("file", "long") == len(data)
    assert await sftp.get_bytes("new") == await sftp.get_bytes("long") == data
    with pytest.raises(SFTPError) as refused:
        await sftp.link("file", "other")
    assert refused.value.errno == errno.EOPNOTSUPP
