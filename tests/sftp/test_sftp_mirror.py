"""Mirrors when something goes wrong in the middle, stepped against a server in memory."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from time import monotonic

import pytest

from hussh._policy.glob_pattern import Exclusion
from hussh._protocol.sftp import put_tree, wire
from hussh._protocol.sftp.mirror import Wanted
from hussh._protocol.sftp.mirror_get import mirror_get
from hussh._protocol.sftp.mirror_put import mirror_put
from hussh._protocol.sftp.tree import TreeOptions
from hussh._results.transfer_result import MirrorResult
from tests.sftp.fake import Bench, FakeServer

FOLDER, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644
OPTIONS = TreeOptions(False, True, True, False, "", monotonic)


def put(server: FakeServer, local: Path) -> MirrorResult:
    """Mirror a local folder to ``top``."""
    bench = Bench(server)
    wanted = Wanted(True, Exclusion())
    return bench.run(mirror_put(bench.sftp, os.fsencode(local), b"top", OPTIONS, wanted))


def paths(server: FakeServer, kind: int) -> list[bytes]:
    """Return the paths of all requests of a kind."""
    return [wire.take_string(body[4:], 0)[0] for one, body in server.seen if one == kind]


@pytest.mark.parametrize("size", [5, 300_000], ids=["small", "large"])
def test_a_full_disk(tmp_path: Path, size: int) -> None:
    """A file that does not fit any more leaves the old one as it is, and nothing half done."""
    (tmp_path / "x").write_bytes(bytes(size))
    server = FakeServer(
        folders={b"top": [(b"x", FILE)]}, files={b"top/x": bytearray(b"old")}, full_at=0
    )
    result = put(server, tmp_path)
    assert result.failed == [str(tmp_path / "x")]
    assert result.failed[0].error.errno == errno.ENOSPC
    assert server.files[b"top/x"] == b"old"
    (made,) = paths(server, wire.OPEN)
    assert made.startswith(b"top/.hussh-")
    assert paths(server, wire.REMOVE) == [made]
    assert paths(server, wire.RENAME) == []


def test_a_file_that_vanishes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is gone when it is read has failed, and its copy stays; the rest is done."""
    for name in ("x", "y"):
        (tmp_path / name).write_bytes(b"new")
    read = put_tree._read_small

    def vanish(path: bytes, most: int) -> bytes | None:
        Path(os.fsdecode(path)).unlink()
        return read(path, most)

    monkeypatch.setattr(put_tree, "_read_small", vanish)
    server = FakeServer(
        folders={b"top": [(b"x", FILE), (b"z", FILE)]}, files={b"top/x": bytearray(b"old")}
    )
    result = put(server, tmp_path)
    assert sorted(result.failed) == [str(tmp_path / "x"), str(tmp_path / "y")]
    assert all(path.error.errno == errno.ENOENT for path in result.failed)
    assert server.files[b"top/x"] == b"old"
    assert paths(server, wire.REMOVE) == [b"top/z"]
    assert result.deleted == ["top/z"]


def test_names_that_are_none(tmp_path: Path) -> None:
    """A server that lists impossible names makes nothing disappear here, and nothing outside."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here/mine").write_text("x")
    (tmp_path / "beside").write_text("x")
    server = FakeServer(
        folders={b"top": [(b"../beside", FILE), (b"ok", FILE)]},
        files={b"top/ok": bytearray(b"1"), b"top/../beside": bytearray(b"2")},
    )
    bench = Bench(server)
    local = os.fsencode(tmp_path / "here")
    wanted = Wanted(True, Exclusion())
    result = bench.run(mirror_get(bench.sftp, b"top", local, OPTIONS, wanted))
    assert (result.transferred, result.failed) == (["top/ok"], ["top/../beside"])
    assert result.deleted == []
    assert "nothing was deleted" in result.warnings[0]
    assert sorted(os.listdir(tmp_path / "here")) == ["mine", "ok"]
    assert (tmp_path / "beside").read_text() == "x"


@pytest.mark.parametrize("refused", [[True], [True, True], [True, False, True]])
def test_a_server_that_refuses_to_rename(tmp_path: Path, refused: list[bool]) -> None:
    """Without posix-rename, a RENAME that is refused at any step leaves the old file its name."""
    (tmp_path / "x").write_bytes(b"12345")
    server = FakeServer(
        folders={b"top": [(b"x", FILE)]},
        files={b"top/x": bytearray(b"old")},
        extensions={b"limits@openssh.com": b"1"},
    )
    left = list(refused)

    def rename(kind: int, body: bytes, reply: bytes) -> bytes:
        if kind == wire.REMOVE:
            server.files.pop(wire.take_string(body[4:], 0)[0], None)
        if kind != wire.RENAME:
            return reply
        if left and left.pop(0):
            return server.status(body[:4], 4)
        source, at = wire.take_string(body[4:], 0)
        server.files[wire.take_string(body[4:], at)[0]] = server.files.pop(source)
        return reply

    server.twist = rename
    result = put(server, tmp_path)
    is_new = refused == [True]
    assert server.files == {b"top/x": b"12345" if is_new else b"old"}
    assert len(result.failed) == (not is_new)
