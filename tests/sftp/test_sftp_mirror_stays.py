"""What a mirror must not remove, and what it must not leave, on a real server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh._api.sftp import SFTP
from hussh._protocol.sftp import mirror_put
from tests.support.sshd import Sshd


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


def make(target: Sshd, top: Path, *names: str) -> None:
    """Make files below a folder, and give all of that to alice."""
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text("old")
    for folder, folders, files in os.walk(top):
        for name in [*folders, *files, "."]:
            os.chown(os.path.join(folder, name), target.alice.uid, target.alice.gid)


def test_left_out_below_an_odd_path(sftp: SFTP, target: Sshd, there: Path, tmp_path: Path) -> None:
    """What is left out by its whole path stays, whatever slashes the path of the top ends with."""
    make(target, there, "copy/d/keep", "copy/d/sub/x")
    (tmp_path / "source").mkdir()
    result = sftp.mirror(tmp_path / "source", "there/copy//", exclude=["/d/keep"], delete=True)
    assert (there / "copy/d/keep").exists()
    assert not (there / "copy/d/sub").exists()
    assert result.failed == []


def test_left_out_directories_in_the_way(
    sftp: SFTP, target: Sshd, there: Path, tmp_path: Path
) -> None:
    """A directory that is left out stays where a file or a link would come in its place."""
    make(target, there, "copy/x/mine", "copy/y/mine")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/x").write_text("new")
    (tmp_path / "source/y").symlink_to("x")
    put = sftp.mirror(tmp_path / "source", "there/copy", exclude=["x/", "y/"], delete=True)
    make(target, there, "source/x")
    (there / "source/y").symlink_to("x")
    for name in "xy":
        (tmp_path / f"copy/{name}").mkdir(parents=True)
        (tmp_path / f"copy/{name}/mine").write_text("old")
    got = sftp.mirror_back("there/source", tmp_path / "copy", exclude=["x/", "y/"], delete=True)
    for result, top in ((put, there), (got, tmp_path)):
        assert (top / "copy/x/mine").exists()
        assert (top / "copy/y/mine").exists()
        assert len(result.failed) == 2
        assert "left out" in str(result.failed[0].error)
        assert result.deleted == []


def test_directories_in_the_way_of_what_cannot_be_read(
    sftp: SFTP, target: Sshd, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No directory goes for a file that cannot be read, and none if a directory cannot be."""
    make(target, there, "source/x", "copy/x/mine")
    (tmp_path / "source").mkdir()
    (tmp_path / "source/x").write_text("new")
    (tmp_path / "copy/x").mkdir(parents=True)
    (tmp_path / "copy/x/mine").write_text("old")
    (there / "source/x").chmod(0)
    opens = os.open

    def refuse(path: bytes, *args: int, **options: int) -> int:
        if path == os.fsencode(tmp_path / "source/x"):
            raise PermissionError(13, "Permission denied", path)
        return opens(path, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", refuse)
        put = sftp.mirror(tmp_path / "source", "there/copy", delete=True)
    got = sftp.mirror_back("there/source", tmp_path / "copy", delete=True)
    if os.getuid() == target.alice.uid == 0 and not got.failed:
        pytest.skip("the server's account may read everything")
    for result, top in ((put, there), (got, tmp_path)):
        assert (top / "copy/x/mine").exists()
        assert result.deleted == []
        assert [error.error.errno for error in result.failed] == [13]

    (there / "source/x").chmod(0o644)
    make(target, there, "source/closed/x")
    (there / "source/closed").chmod(0)
    got = sftp.mirror_back("there/source", tmp_path / "copy", delete=True)
    assert (tmp_path / "copy/x/mine").exists()
    assert got.deleted == []
    (there / "source/closed").chmod(0o755)
    got = sftp.mirror_back("there/source", tmp_path / "copy", delete=True)
    assert got.failed == []
    assert (tmp_path / "copy/x").read_text() == "old"


@pytest.mark.parametrize(("files", "size"), [(200, 1000), (1, 700_000)], ids=["many", "large"])
def test_nothing_half_done_stays(
    sftp: SFTP,
    target: Sshd,
    there: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: int,
    size: int,
) -> None:
    """A mirror that is ended in the middle leaves the old files, and no name of its own."""
    names = [f"f{number}" for number in range(files)]
    make(target, there, *(f"copy/{name}" for name in names))
    (tmp_path / "source").mkdir()
    for name in names:
        (tmp_path / "source" / name).write_bytes(bytes(size))

    class Stop(Exception):
        pass

    def stop(_self: object, _path: bytes, place: bytes, target: bytes) -> Any:
        assert place != target
        raise Stop

    monkeypatch.setattr(mirror_put._MirrorPut, "put_in_place", stop)
    with pytest.raises(Stop):
        sftp.mirror(tmp_path / "source", "there/copy")
    assert sorted(sftp.listdir("there/copy")) == sorted(names)
    assert {(there / "copy" / name).read_text() for name in names} == {"old"}
