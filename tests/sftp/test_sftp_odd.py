"""Odd and hostile SFTP servers: what has nothing to do with the API, or needs a peer in memory.

What every API shows is in `tests/conformance/test_odd_servers.py`.
"""

from __future__ import annotations

import errno
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from hussh._policy.remote_path import expand_from_home, get_parent, join
from hussh._policy.sftp import SFTPAttributes
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.file_types import get_listed_type
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.links import symlink
from hussh._protocol.sftp.tree import TreeOptions
from hussh._results.transfer_result import FailedPath, TransferResult
from hussh.errors import SFTPError, SFTPNotFoundError
from tests.sftp.conftest import Connect
from tests.sftp.fake import Bench, FakeServer, text
from tests.support.odd_sftp import odd_server
from tests.support.sshd import Sshd

FOLDER, FILE = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644


def test_a_chain_without_end(
    connect: Connect, sshd_factory: Callable[..., Sshd], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`walk` ends with an error of its own, beyond what recursion could reach."""
    monkeypatch.setattr("hussh._protocol.sftp.names.LONGEST_PATH", 3300)
    walk = connect(odd_server(sshd_factory, "endless=1")).sftp.walk("top")
    for _ in range(1050):
        next(walk)
    with pytest.raises(SFTPError, match="without end") as caught:
        list(walk)
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("strict", [False, True])
def test_refused_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strict: bool
) -> None:
    """What a local file system refuses, of files and directories, is told and fails nothing."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchmod", refuse)
    server = FakeServer(
        folders={b"top": [(b"small", FILE), (b"large", FILE), (b"d", FOLDER)], b"top/d": []},
        files={b"top/small": bytearray(b"x"), b"top/large": bytearray(500_000)},
    )
    options = TreeOptions(True, True, False, False, "", monotonic, strict)
    bench = Bench(server)
    result = bench.run(get_tree(bench.sftp, b"top", os.fsencode(tmp_path / "d"), options))
    assert (tmp_path / "d/large").stat().st_size == 500_000
    assert (tmp_path / "d/small").read_text() == "x"
    if strict:
        assert (result.transferred, result.warnings) == ([], ())
        assert sorted(result.failed) == ["top/d", "top/large", "top/small"]
    else:
        assert sorted(result.transferred) == ["top/large", "top/small"]
        assert result.failed == []
        assert len(result.warnings) == 1
        assert "Operation not permitted) and 2 more" in result.warnings[0]


def test_results_are_pairs() -> None:
    """The result of a directory unpacks, compares and pickles as a pair, reasons included."""
    error = SFTPNotFoundError("gone", errno=errno.ENOENT, filename="b", status=2)
    result = TransferResult(["a"], [FailedPath.of("b", error)], ["odd"])
    done, failed = result
    assert (done, failed) == result == (["a"], ["b"])
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(result, protocol))
        assert type(back) is TransferResult
        assert (back, back.transferred, back.warnings) == (result, ["a"], ("odd",))
        assert type(back.failed[0]) is FailedPath
        assert isinstance(back.failed[0].error, FileNotFoundError)
        assert (back.failed[0].error.filename, str(back.failed[0].error)) == ("b", "gone")


@pytest.mark.parametrize(
    ("path", "home", "expected"),
    [
        (b"~", b"/h/a", b"/h/a"),
        (b"~/", b"/h/a", b"/h/a/"),
        (b"~/x/", b"/h/a", b"/h/a/x/"),
        (b"~//etc", b"/h/a", b"/h/a/etc"),
        (b"~/x", b"/", b"/x"),
        (b"~", b".", b"."),
        (b"~/x", b".", b"x"),
        (b"~//etc", b".", b"etc"),
        (b"~/~", b".", b"./~"),
        (b"~/~/x", b".", b"./~/x"),
    ],
)
def test_paths_from_home(path: bytes, home: bytes, expected: bytes) -> None:
    """The home takes the place of ``~``; nothing leads out of it, and no second ``~`` counts."""
    assert expand_from_home(path, home) == expected


def test_entries_of_folders() -> None:
    """A name below a directory stays below it, and one called ``~`` is no home."""
    assert join(b"", b"~") == b"./~"
    assert join("", "~") == "./~"
    assert join(b"a/", b"b") == b"a/b"
    assert join("a", "/etc") == "a//etc"
    assert [get_parent(path) for path in (b"/", b"//", b"a", b"/a", b"/a/b/")] == [
        b"", b"", b"", b"/", b"/a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("longname", "expected"),
    [
        (b"drwxr-xr-x  2 a b 1 Jan 1 x", stat.S_IFDIR),
        (b"-rw-------+ 1", stat.S_IFREG),
        (b"lrwxrwxrwx 1", stat.S_IFLNK),
        (b"documents-of-mine", 0),
        (b"d---", 0),
        (b"", 0),
    ],
)
def test_types_from_long_names(longname: bytes, expected: int) -> None:
    """A line of ``ls -l`` tells the type; a name that begins like one does not."""
    assert get_listed_type(SFTPAttributes(), longname) == expected
    assert get_listed_type(SFTPAttributes(st_mode=FILE), longname) == stat.S_IFREG


class Links(FakeServer):
    """Makes links in the draft's order, or says that it does."""

    lazy = False
    made: dict[bytes, bytes]

    def reply(self, kind: int, body: bytes) -> bytes:
        """Answer what is about links."""
        if kind in (wire.SYMLINK, wire.READLINK, wire.LSTAT, wire.REMOVE):
            number = body[:4]
            first, at = wire.take_string(body, 4)
            if kind == wire.SYMLINK and not self.lazy:
                self.made[first] = wire.take_string(body, at)[0]
            elif kind == wire.REMOVE:
                del self.made[first]
            elif kind == wire.READLINK and first in self.made:
                return self.names(number, [(self.made[first], 0)])
            elif kind != wire.SYMLINK and first not in self.made:
                return self.status(number, 2)
            elif kind == wire.LSTAT:
                return super().reply(wire.STAT, number + text(b"any"))
        return super().reply(kind, body)


def test_the_order_of_links_is_learned_once() -> None:
    """The first link is looked at and put right; the next one costs one request."""
    server = Links(files={b"any": bytearray()})
    server.made = {}
    bench = Bench(server)
    bench.run(symlink(bench.sftp, b"target", b"link"))
    assert server.made == {b"link": b"target"}
    assert bench.sftp.takes_link_first
    server.seen.clear()
    bench.run(symlink(bench.sftp, b"target2", b"link2"))
    assert server.made == {b"link": b"target", b"link2": b"target2"}
    assert [kind for kind, _ in server.seen] == [wire.SYMLINK]


def test_a_server_that_makes_no_link() -> None:
    """A server that says it made a link, and did not, is an error, and nothing is removed."""
    server = Links()
    server.made, server.lazy = {}, True
    bench = Bench(server)
    with pytest.raises(SFTPError, match="there is none"):
        bench.run(symlink(bench.sftp, b"target", b"link"))
    server.made = {b"target": b"of before"}
    with pytest.raises(SFTPError, match="there is none"):
        bench.run(symlink(bench.sftp, b"target", b"link"))
    assert server.made == {b"target": b"of before"}
    assert bench.sftp.takes_link_first is None


def test_long_paths_are_not_kept_for_each_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes of names, paths and attributes in one call are bounded."""
    monkeypatch.setattr("hussh._protocol.sftp.get_tree.MOST_TREE_BYTES", 100_000)
    names = [(b"%064d" % number, FOLDER) for number in range(10)]

    class Endless(dict[bytes, list[tuple[bytes, int]]]):
        def __contains__(self, key: object) -> bool:
            return True

        def __missing__(self, key: bytes) -> list[tuple[bytes, int]]:
            return names

    server = FakeServer(folders=Endless())
    bench = Bench(server)
    options = TreeOptions(True, True, True, False, "", monotonic)
    with pytest.raises(SFTPError, match="names in it") as caught:
        bench.run(get_tree(bench.sftp, b"top", os.fsencode(tmp_path / "d"), options))
    assert caught.value.errno == errno.EOVERFLOW
    assert caught.value.result == ([], [])
