"""Mirrors in every API: `rsync -a --delete` says what is right, and nothing outside is touched."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import MirrorResult
from hussh._policy.glob_pattern import Exclusion
from hussh._protocol.sftp import mirror_put, put_tree
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import LONG, THREE
from tests.support.accounts import Account
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.odd_sftp import odd_server
from tests.support.sshd import Sshd

FILES = 10_000 if LONG else 300
EXCLUDE = ["*.tmp", "/cache", "logs/", "keep/*.bin", "/deep/**/x"]
clients = pytest.mark.parametrize("client", THREE, indirect=True)
needs_rsync = pytest.mark.skipif(shutil.which("rsync") is None, reason="there is no rsync here")


def make_source(top: Path) -> None:
    """Make files of all kinds, odd names, links, and directories with modes and times."""
    for number in range(FILES):
        path = top / f"d{number % 17}/e{number % 5}/file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(number))
        os.utime(path, (1_600_000_000 + number, 1_600_000_000 + number))
    for name in ("a.tmp", "cache/x", "b/cache/x", "logs/x", "c/logs/x", "keep/x.bin", "deep/a/x",
                 "deep/b/c/x", "deep/y"):  # fmt: skip
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    Path(os.fsdecode(os.fsencode(top) + b"/d1/\xff\xfe")).write_text("x")
    (top / "large").write_bytes(os.urandom(700_000))
    (top / "empty").mkdir()
    (top / "d2/link").symlink_to("e2")
    (top / "d2/loop").symlink_to("..")
    (top / "d2/nowhere").symlink_to("no/such")
    (top / "d3/script").write_text("x")
    (top / "d3/script").chmod(0o755)
    (top / "will-be-file").write_text("file")
    (top / "will-be-folder/x").mkdir(parents=True)
    (top / "will-be-link").symlink_to("large")
    (top / "was-link-to-folder").mkdir()
    (top / "was-link-to-folder/x").write_text("x")
    (top / "was-link-to-file").write_text("mine")
    (top / "hard").write_text("changed")
    (top / "d4").chmod(0o750)
    os.utime(top / "d5", (1_500_000_000, 1_500_000_000))


def make_receiver(top: Path, source: Path) -> None:
    """Make an old copy of the source in which much differs, with links to a folder beside it."""
    outside = top.parent / "outside"
    top.parent.mkdir(exist_ok=True)
    shutil.copytree(source, top, symlinks=True)
    outside.mkdir()
    (outside / "precious").write_text("precious")
    for number in range(0, FILES, 3):
        (top / f"d{number % 17}/e{number % 5}/file{number}").write_text(f"old {number}")
    for number in range(1, FILES, 30):
        (top / f"d{number % 17}/e{number % 5}/file{number}").unlink()
    shutil.rmtree(top / "d6")
    for name in ("extra/a/b/x", "d7/extra", "d7/x.tmp", "extra/y.tmp", "d8/logs/y", "keep/y.bin"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "extra/out").symlink_to("../../outside")
    (top / "out").symlink_to("../outside")
    (top / "out-file").symlink_to("../outside/precious")
    (top / "will-be-file").unlink()
    (top / "will-be-file/inner").mkdir(parents=True)
    shutil.rmtree(top / "will-be-folder")
    (top / "will-be-folder").write_text("a file")
    (top / "will-be-link").unlink()
    (top / "will-be-link").write_text("a file")
    shutil.rmtree(top / "was-link-to-folder")
    (top / "was-link-to-folder").symlink_to("../outside")
    (top / "was-link-to-file").unlink()
    (top / "was-link-to-file").symlink_to("../outside/precious")
    (top / "hard").unlink()
    os.link(outside / "precious", top / "hard")
    (top / "d9").chmod(0o500)
    (top / "d3/script").chmod(0o600)
    for folder, folders, files in os.walk(top, topdown=False):
        for path in (os.path.join(folder, name) for name in folders + files):
            if os.lstat(path).st_mtime > 1_700_000_000:
                os.utime(path, (1_650_000_000, 1_650_000_000), follow_symlinks=False)


def snapshot(top: Path) -> dict[bytes, tuple[Any, ...]]:
    """Return what lies in a folder: kind, mode, time, and contents or the target of a link."""
    found: dict[bytes, tuple[Any, ...]] = {}
    start = os.fsencode(top)
    for folder, folders, files in os.walk(start):
        for name in [*folders, *files, *([b"."] if folder == start else [])]:
            path = os.path.join(folder, name)
            info = os.lstat(path)
            if stat.S_ISLNK(info.st_mode):
                found[os.path.relpath(path, start)] = ("link", os.readlink(path))
                continue
            data = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(info.st_mode) else None
            found[os.path.relpath(path, start)] = (info.st_mode, int(info.st_mtime), data)
    if b"extra" in found:  # it is of the receiving end only, and something has gone from it
        found[b"extra"] = found[b"extra/a"] = (0,)
    return found


def give(account: Account, *tops: Path) -> None:
    """Make an account the owner of all that lies in folders."""
    for top in tops:
        os.chown(top, account.uid, account.gid, follow_symlinks=False)
        for folder, folders, files in os.walk(top):
            for name in folders + files:
                path = os.path.join(folder, name)
                os.chown(path, account.uid, account.gid, follow_symlinks=False)


def rsync(source: Path, target: Path, *options: str) -> None:
    """Do the same with rsync."""
    subprocess.run(["rsync", "-a", *options, f"{source}/", f"{target}/"], check=True)


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


@needs_rsync
@pytest.mark.parametrize(
    ("client", "delete"),
    [(column.values[0], True) for column in THREE] + [(THREE[0].values[0], False)],
    indirect=["client"],
    ids=[*[str(column.id) for column in THREE], "without-delete"],
)
async def test_like_rsync(client: Client, there: Path, tmp_path: Path, delete: bool) -> None:
    """Both directions leave what rsync leaves, and a second time nothing moves."""
    sftp = client.awaited.sftp
    make_source(tmp_path / "source")
    right_top, copy, back_top = tmp_path / "right/copy", there / "copy", tmp_path / "back/copy"
    for top in (right_top, copy, back_top):
        make_receiver(top, tmp_path / "source")
    if not delete:  # rsync has no way to do this without
        for top in (right_top, copy, back_top):
            shutil.rmtree(top / "will-be-file")
    give(client.account, copy, there / "outside")
    options = ["--delete"] if delete else []
    options += [f"--exclude={each}" for each in EXCLUDE]
    rsync(tmp_path / "source", right_top, *options)
    right = snapshot(right_top)
    result = await sftp.mirror(tmp_path / "source", "there/copy", delete=delete, exclude=EXCLUDE)
    assert isinstance(result, MirrorResult)
    assert result.failed == []
    assert len(result.transferred) >= FILES // 3
    assert bool(result.deleted) == delete
    assert snapshot(copy) == right
    assert (there / "outside/precious").read_text() == "precious"
    again = await sftp.mirror(tmp_path / "source", "there/copy", delete=delete, exclude=EXCLUDE)
    assert (again.transferred, again.failed, again.deleted) == ([], [], [])
    assert again.unchanged > FILES
    assert snapshot(copy) == right

    shutil.rmtree(copy)
    rsync(tmp_path / "source", copy)
    give(client.account, copy)
    back = await sftp.mirror_back("there/copy", back_top, delete=delete, exclude=EXCLUDE)
    assert back.failed == []
    assert bool(back.deleted) == delete
    assert snapshot(back_top) == right
    assert (tmp_path / "back/outside/precious").read_text() == "precious"
    again = await sftp.mirror_back("there/copy", back_top, delete=delete, exclude=EXCLUDE)
    assert (again.transferred, again.failed, again.deleted) == ([], [], [])


@clients
async def test_unread_sources(
    client: Client, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a part of the source cannot be read, nothing is removed, and the result says so."""
    sftp = client.awaited.sftp
    for top in (tmp_path / "source", there / "copy", there / "source", tmp_path / "copy"):
        (top / "a").mkdir(parents=True)
        (top / "a/file").write_text("x")
        if top.name == "copy":
            (top / "extra").write_text("x")
    give(client.account, there)
    scan = put_tree.scan

    def refuse(folder: bytes, options: Any) -> Any:
        if folder.endswith(b"/a"):
            raise OSError(5, "Input/output error")
        return scan(folder, options)

    monkeypatch.setattr(mirror_put, "scan", refuse)
    (there / "source/a").chmod(0)
    for result in (
        await sftp.mirror(tmp_path / "source", "there/copy", delete=True),
        await sftp.mirror_back("there/source", tmp_path / "copy", delete=True),
    ):
        if result is not None and not result.failed and os.getuid() == client.account.uid == 0:
            pytest.skip("the server's account may read everything")
        assert len(result.failed) == 1
        assert result.deleted == []
        assert "nothing was deleted" in result.warnings[-1]
    assert (there / "copy/extra").exists()
    assert (there / "copy/a/file").exists()
    assert (tmp_path / "copy/extra").exists()
    with pytest.raises(FileNotFoundError):
        await sftp.mirror(tmp_path / "none", "there/copy", delete=True)
    with pytest.raises(FileNotFoundError):
        await sftp.mirror_back("there/none", tmp_path / "copy", delete=True)
    assert (tmp_path / "copy/extra").exists()
    for wrong, kind in (("", ValueError), ([""], ValueError), ([7], TypeError)):
        with pytest.raises(kind):
            await sftp.mirror(tmp_path / "source", "there/copy", exclude=wrong)


@clients
async def test_listings_that_follow_links(
    client: Client, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """At a server that lists links as what they lead to, none is followed, by rmtree neither."""
    server = odd_server(sshd_factory, "listings-follow")
    sftp = Awaited((await client.connect_to(server)).real).sftp
    home = server.alice.files
    (home / "outside/inner").mkdir(parents=True)
    (home / "outside/precious").write_text("x")
    (home / "tree/real").mkdir(parents=True)
    (home / "copy").mkdir()
    for top in ("tree", "tree/real", "copy"):
        (home / top / "out").symlink_to(server.alice.path("outside"))
    (home / "copy/surplus").symlink_to(server.alice.path("outside"))
    give(server.alice, home)
    (tmp_path / "source/out").mkdir(parents=True)
    (tmp_path / "source/out/mine").write_text("x")
    await sftp.rmtree("tree")
    assert not (home / "tree").exists()
    result = await sftp.mirror(tmp_path / "source", "copy", delete=True)
    assert result.failed == []
    assert sorted(os.listdir(home / "outside")) == ["inner", "precious"]
    assert os.listdir(home / "copy") == ["out"]
    assert (home / "copy/out/mine").read_text() == "x"


@clients
async def test_asyncssh_server(client: Client, tmp_path: Path) -> None:
    """Mirrors work at asyncssh's server, both ways."""
    (tmp_path / "served").mkdir()
    make_source(tmp_path / "source")
    with asyncssh_server(tmp_path / "served") as port:
        session = await client.connect("127.0.0.1", port, username="alice", password=PASSWORD)
        sftp = Awaited(session.real).sftp
        (tmp_path / "served/copy").mkdir()
        (tmp_path / "served/copy/extra").write_text("x")
        result = await sftp.mirror(tmp_path / "source", "copy", delete=True)
        assert (result.failed, result.warnings) == ([], ())
        assert snapshot(tmp_path / "served/copy") == snapshot(tmp_path / "source")
        result = await sftp.mirror_back("copy", tmp_path / "back", delete=True)
        assert result.failed == []
        assert snapshot(tmp_path / "back") == snapshot(tmp_path / "source")


@needs_rsync
def test_patterns_like_rsync(tmp_path: Path) -> None:
    """Patterns leave out what rsync leaves out."""
    names = ["a", "ab", "a.tmp", "x/a", "x/y/a", "x/y/a.tmp", "y/x/a", "x/a/b", "a[1]", "x/ab/a"]
    for number, name in enumerate(names):
        (tmp_path / f"s/{number}" / name).parent.mkdir(parents=True)
        (tmp_path / f"s/{number}" / name).write_text("x")
    # A ``**`` that stands for no directory is pathlib's only.
    assert Exclusion("/x/**/a")(b"x/a", False)
    assert Exclusion("**/a")(b"a", False)
    for pattern in ("a", "/a", "*.tmp", "x/a", "/x/*", "x/", "a/", "x/**", "[ab]", "[!a]*", "?b",
                    "y/a*", "a[[]1]", "/x/*/a", "x*/"):  # fmt: skip
        exclude = Exclusion(pattern)
        for number, name in enumerate(names):
            top = tmp_path / f"s/{number}"
            ran = subprocess.run(
                ["rsync", "-an", "--out-format=%n", f"--exclude={pattern}", f"{top}/", "none/"],
                capture_output=True, text=True, check=True, cwd=tmp_path,
            )  # fmt: skip
            parts = name.split("/")
            out = any(
                exclude("/".join(parts[: depth + 1]).encode(), depth + 1 < len(parts))
                for depth in range(len(parts))
            )
            assert out == (name not in ran.stdout.splitlines()), (pattern, name)
