"""Directories both ways: what is kept, what fails, and that nothing leads out of the target."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from hussh import Connection
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.put_tree import put_tree
from hussh._protocol.sftp.tree import TreeOptions
from hussh._results.transfer_result import FailedPath
from hussh.errors import SFTPError
from tests.sftp.fake import Bench, FakePipe, FakeServer
from tests.support.sshd import Sshd

FOLDER, FILE, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
NAMES = [b"plain", b"with space", b"new\nline", b"\xff\xfe", "ü€".encode(), b"-rf", b"'\"$x"]


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's on the server, `tree` to it."""
    with target.alice.folder("tree") as folder:
        yield folder


def seen(folder: Path) -> dict[bytes, object]:
    """Return what lies below a folder: contents of files, targets of links, None for folders."""
    found: dict[bytes, object] = {}
    top = os.fsencode(folder)
    for at, dirs, names in os.walk(top):
        for name in dirs + names:
            path = os.path.join(at, name)
            kept = os.path.relpath(path, top)
            if os.path.islink(path):
                found[kept] = ("link", os.readlink(path))
            else:
                found[kept] = None if os.path.isdir(path) else Path(os.fsdecode(path)).read_bytes()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a local folder with files of several sizes, odd names, links and empty folders."""
    top = tmp_path / "source"
    deep = top / "a" / "b" / "c"
    deep.mkdir(parents=True)
    (top / "empty").mkdir()
    for name in NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(deep), name))).write_bytes(name * 3)
    for size in (0, 1, 1024, 32768, 261_119, 261_120, 261_121, 700_000):
        (top / f"size-{size}").write_bytes(os.urandom(size))
    for number in range(300):
        (top / "a" / f"many-{number}").write_bytes(b"%d" % number * 100)
    (top / "link").symlink_to("size-1024")
    (top / "a" / "up").symlink_to("../empty")
    (top / "a" / "broken").symlink_to("nowhere")
    return top


def test_round_trip_with_links(
    either: Connection, source: Path, there: Path, tmp_path: Path
) -> None:
    """With follow_symlinks=False a directory arrives as it is, and comes back so."""
    sent, failed = either.sftp_put_dir(source, "tree/x/y", follow_symlinks=False)
    assert failed == []
    assert seen(there / "x" / "y") == seen(source)
    files = {os.fsencode(source) + b"/" + k for k, v in seen(source).items() if v is not None}
    assert {os.fsencode(path) for path in sent} == files
    fetched, failed = either.sftp_get_dir("tree/x/y", tmp_path / "back", follow_symlinks=False)
    assert failed == []
    assert seen(tmp_path / "back") == seen(source)
    assert len(fetched) == len(sent)
    # Over what is there already it works, too.
    assert either.sftp_put_dir(source, "tree/x/y", False)[1] == []
    assert either.sftp_get_dir("tree/x/y", tmp_path / "back", False)[1] == []
    assert seen(tmp_path / "back") == seen(source)


def test_small_files_share_round_trips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 500 small files each way takes a fifth of the round trips that one by one takes, at most.

    Counted with a server in memory, as time depends on the machine: one by one it is open, read or
    write, and close.
    """
    turns = 0
    move = FakePipe.move

    def counted(pipe: FakePipe) -> bool:
        nonlocal turns
        moved = move(pipe)
        turns += moved
        return moved

    monkeypatch.setattr(FakePipe, "move", counted)
    names = [b"%03d" % number for number in range(500)]
    there = {b"top/" + name: bytearray(name[-1:]) for name in names}  # 1 byte, as listed
    server = FakeServer(folders={b"top": [(name, FILE) for name in names]}, files=dict(there))
    got, failed = fetch(server, tmp_path / "d")
    assert (len(got), failed) == (500, [])
    assert (tmp_path / "d/499").read_bytes() == b"9"
    assert turns < 3 * 500 / 5
    turns = 0
    server = FakeServer(folders={b"top": []})
    bench = Bench(server)
    options = TreeOptions(True, True, True, False, "", monotonic)
    sent, failed = bench.run(put_tree(bench.sftp, os.fsencode(tmp_path / "d"), b"top", options))
    assert (len(sent), failed) == (500, [])
    assert server.files == there
    assert turns < 3 * 500 / 5


def test_links_are_followed(conn: Connection, source: Path, there: Path, tmp_path: Path) -> None:
    """With follow_symlinks=True what links lead to arrives; a link to nothing fails alone."""
    _, failed = conn.sftp_put_dir(str(source), "tree/x")
    assert failed == [str(source / "a" / "broken")]
    assert isinstance(failed[0], FailedPath)
    assert isinstance(failed[0].error, FileNotFoundError)
    assert not (there / "x/link").is_symlink()
    assert (there / "x/link").read_bytes() == (source / "size-1024").read_bytes()
    assert (there / "x/a/up").is_dir()
    (there / "x" / "to-a").symlink_to("a")
    (there / "x" / "gone").symlink_to("nowhere")
    _, failed = conn.sftp_get_dir("tree/x", tmp_path / "back")
    assert failed == ["tree/x/gone"]
    assert (tmp_path / "back/to-a/many-7").read_bytes() == (source / "a/many-7").read_bytes()


def test_loops_end(conn: Connection, there: Path, tmp_path: Path) -> None:
    """A link that leads back to where it lies in is reported and not followed."""
    (tmp_path / "s/a").mkdir(parents=True)
    (tmp_path / "s/a/loop").symlink_to("..")
    (tmp_path / "s/a/file").touch()
    sent, failed = conn.sftp_put_dir(tmp_path / "s", "tree/put")
    assert (sent, failed) == ([f"{tmp_path}/s/a/file"], [f"{tmp_path}/s/a/loop"])
    (there / "get/a").mkdir(parents=True)
    (there / "get/a/loop").symlink_to("..")
    (there / "get/a/file").touch()
    got, failed = conn.sftp_get_dir("tree/get", tmp_path / "d")
    assert (got, failed) == (["tree/get/a/file"], ["tree/get/a/loop"])
    assert "leads back" in str(failed[0].error)  # type: ignore[attr-defined]


def test_modes_and_times(conn: Connection, there: Path, tmp_path: Path) -> None:
    """Modes are kept unless not wanted, times if wanted; those of read-only folders, too."""
    top = tmp_path / "s"
    (top / "ro").mkdir(parents=True)
    (top / "ro/x").touch()
    (top / "ro/x").chmod(0o754)
    os.utime(top / "ro/x", (1_000_000_000, 1_100_000_000))
    (top / "ro").chmod(0o555)
    os.utime(top / "ro", (1_000_000_000, 1_200_000_000))
    conn.sftp_put_dir(top, "tree/1", preserve_times=True)
    conn.sftp_put_dir(top, "tree/2", preserve_permissions=False)
    conn.sftp_get_dir("tree/1", tmp_path / "1", preserve_times=True)
    conn.sftp_get_dir("tree/1", tmp_path / "2", preserve_permissions=False)
    for copy in (there / "1", tmp_path / "1"):
        assert stat.S_IMODE((copy / "ro").stat().st_mode) == 0o555
        assert stat.S_IMODE((copy / "ro/x").stat().st_mode) == 0o754
        assert (copy / "ro/x").stat().st_mtime == 1_100_000_000
        assert (copy / "ro").stat().st_mtime == 1_200_000_000
    for copy in (there / "2", tmp_path / "2"):
        assert stat.S_IMODE((copy / "ro").stat().st_mode) & 0o200
        assert stat.S_IMODE((copy / "ro/x").stat().st_mode) & 0o111 == 0
        assert (copy / "ro/x").stat().st_mtime > 1_200_000_000


def test_set_user_id_is_not_taken_over(conn: Connection, there: Path, tmp_path: Path) -> None:
    """A server cannot make a set-user-id program here."""
    (there / "x").touch()
    (there / "x").chmod(0o4755)
    conn.sftp_get_dir("tree", tmp_path / "d")
    assert stat.S_IMODE((tmp_path / "d/x").stat().st_mode) == 0o755


def test_failures_are_per_file(conn: Connection, there: Path, tmp_path: Path) -> None:
    """What cannot be copied is listed with its reason, and the rest is copied."""
    (there / "closed").mkdir(mode=0)
    (there / "secret").touch(mode=0)
    (there / "file").write_text("x")
    (there / "file").chmod(0o444)
    os.mkfifo(there / "pipe")
    got, failed = conn.sftp_get_dir("tree", tmp_path / "d")
    assert got == ["tree/file"]
    assert sorted(failed) == ["tree/closed", "tree/pipe", "tree/secret"]
    errors = {str(path): path.error for path in failed}  # type: ignore[attr-defined]
    assert isinstance(errors["tree/closed"], PermissionError)
    assert errors["tree/secret"].filename2 == f"{tmp_path}/d/secret"
    source = tmp_path / "s"
    (source / "taken").mkdir(parents=True)
    (source / "file").write_text("new")
    os.mkfifo(source / "pipe")
    (there / "taken").touch()
    sent, failed = conn.sftp_put_dir(source, "tree")
    assert sent == []
    assert sorted(failed) == [f"{source}/file", f"{source}/pipe", f"{source}/taken"]
    with pytest.raises(SFTPError, match=r"neither a file|denied|File exists"):
        conn.sftp_put_dir(source, "tree", fail_fast=True)
    with pytest.raises(PermissionError) as caught:
        conn.sftp_get_dir("tree/closed", tmp_path / "e", fail_fast=True)
    assert caught.value.filename == "tree/closed"


def test_no_directory(conn: Connection, there: Path, tmp_path: Path) -> None:
    """A source that is missing or a file is an OSError, and nothing is made at the other end.

    In the methods that hussh 0.3.3 had it is in the list of what failed, as it was there.
    """
    (tmp_path / "file").touch()
    (there / "file").touch()
    for name, kind in (("none", FileNotFoundError), ("file", NotADirectoryError)):
        source = tmp_path / name
        with pytest.raises(kind):
            conn.sftp.put_dir(source, "tree/new")
        with pytest.raises(kind):
            conn.sftp.get_dir(f"tree/{name}", tmp_path / "new")
        with pytest.raises(kind):
            conn.sftp_put_dir(source, "tree/new", fail_fast=True)
        with pytest.raises(kind):
            conn.sftp_get_dir(f"tree/{name}", tmp_path / "new", fail_fast=True)
        assert conn.sftp_put_dir(source, "tree/new") == ([], [str(source)])
        done, failed = conn.sftp_get_dir(f"tree/{name}", tmp_path / "new")
        assert (done, failed) == ([], [f"tree/{name}"])
        assert isinstance(failed[0].error, kind)  # type: ignore[attr-defined]
    assert not (there / "new").exists()
    assert not (tmp_path / "new").exists()


# -- servers that lie


def fetch(server: FakeServer, target: Path) -> tuple[list[str], list[str]]:
    """Download `top` from a server in memory."""
    bench = Bench(server)
    options = TreeOptions(True, True, True, False, "", monotonic)
    return bench.run(get_tree(bench.sftp, b"top", os.fsencode(target), options))


@pytest.mark.parametrize("name", [b"../evil", b"/etc/evil", b"a/../../evil", b"", b"a\0b", b"a/b"])
def test_names_that_lead_out(tmp_path: Path, name: bytes) -> None:
    """A name with a slash or a NUL is no name: it fails, and nothing is written anywhere."""
    server = FakeServer(folders={b"top": [(name, FILE), (b"good", FILE)]})
    server.files = {b"top/good": bytearray(b"x"), b"top/" + name: bytearray(b"x")}
    got, failed = fetch(server, tmp_path / "d")
    assert got == ["top/good"]
    assert failed == ["top/" + name.decode()]
    assert sorted(path.name for path in tmp_path.rglob("*") if path.name != "home") == [
        "d", "good",
    ]  # fmt: skip


def test_links_in_the_target_are_not_followed(tmp_path: Path) -> None:
    """Links that lie in the target, to files or folders outside, are never written through."""
    outside, inside = tmp_path / "outside", tmp_path / "d"
    outside.mkdir()
    inside.mkdir()
    (outside / "file").write_text("keep")
    (inside / "file").symlink_to(outside / "file")
    (inside / "large").symlink_to(outside / "file")
    (inside / "sub").symlink_to(outside)
    server = FakeServer(
        folders={
            b"top": [(b"file", FILE), (b"large", FILE), (b"sub", FOLDER)],
            b"top/sub": [(b"new", FILE)],
        },
        files={
            b"top/file": bytearray(b"x"),
            b"top/large": bytearray(500_000),
            b"top/sub/new": bytearray(b"x"),
        },
    )
    got, failed = fetch(server, inside)
    assert got == []
    assert sorted(failed) == ["top/file", "top/large", "top/sub"]
    assert seen(outside) == {b"file": b"keep"}


def test_a_link_and_a_folder_of_one_name(tmp_path: Path) -> None:
    """A server that lists a name as a link first and as a folder then does not get out."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for turn in range(2):  # whichever job is first, the second round meets the link
        server = FakeServer(
            folders={
                b"top": [(b"x", LINK), (b"x", FOLDER)],
                b"top/x": [(b"new", FILE)],
            },
            files={b"top/x/new": bytearray(b"x")},
            links={b"top/x": os.fsencode(outside)},
        )
        bench = Bench(server)
        options = TreeOptions(False, True, True, False, "", monotonic)
        bench.run(get_tree(bench.sftp, b"top", os.fsencode(tmp_path / "d"), options))
        if turn == 0 and (tmp_path / "d/x").is_dir():
            shutil.rmtree(tmp_path / "d/x")
            (tmp_path / "d/x").symlink_to(outside)
    assert list(outside.iterdir()) == []


def test_a_tree_without_end(tmp_path: Path) -> None:
    """Directories within directories without end stop at a depth that is an error."""
    server = FakeServer()

    class Endless(dict[bytes, list[tuple[bytes, int]]]):
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: bytes) -> list[tuple[bytes, int]]:
            return [(b"d", FOLDER)]

    server.folders = Endless()
    got, failed = fetch(server, tmp_path / "d")
    assert got == []
    assert len(failed) == 1
    assert "deep" in str(failed[0].error)  # type: ignore[attr-defined]


def test_a_listing_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that never ends is an error, whether its lists have names or not."""
    monkeypatch.setattr("hussh._protocol.sftp.get_tree.MOST_NAMES", 1000)
    for entries in ([], [(b".", FOLDER)]):
        server = FakeServer(folders={b"top": entries})
        server.twist = (
            lambda kind, request, reply, server=server, entries=entries: (  # type: ignore[misc]
                server.names(request[:4], entries) if kind == 12 else reply
            )
        )
        got, failed = fetch(server, tmp_path / "d")
        assert (got, failed) == ([], ["top"])
        assert "does not end" in str(failed[0].error)  # type: ignore[attr-defined]
