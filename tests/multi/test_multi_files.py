"""Files of many hosts that go to one place here, and data that is none."""

from __future__ import annotations

import inspect
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh.errors import (
    OutputLimitExceeded,
    SFTPExistsError,
    SFTPIsDirectoryError,
    SFTPNotFoundError,
)
from hussh.multi_conn import AsyncMultiConnection, MultiConnection
from tests.multi.conftest import HOSTS, Multi
from tests.support.sshd import Sshd

EMPTY: Any = MultiConnection([])


@pytest.mark.parametrize("loops", [1, 2])
@pytest.mark.parametrize(
    "to", [lambda path: path, lambda path: lambda host: path], ids=["path", "function"]
)
def test_one_local_file_is_one_hosts(
    multi: Multi, many: Sshd, tmp_path: Path, to: Callable[[Path], Any], loops: int
) -> None:
    """Of hosts that would write to the same file one does; the others have errors that say so."""
    (many.alice.files / "mixed").write_bytes(b"a" * 300_000)
    (many.bob.files / "mixed").write_bytes(b"b" * 200_000)
    bob = {"host": HOSTS[1], "username": many.bob.name, "key_path": many.bob.key.path}
    with multi([HOSTS[0], bob, HOSTS[0]], loops=loops) as connected:
        result = connected.sftp_read("mixed", to(tmp_path / "here"))
    good, bad = result.succeeded, result.failed
    assert good is not None
    assert bad is not None
    assert [one.stdout for one in good.values()] == ["Ok"]
    contents = b"b" * 200_000 if good.keys() == [HOSTS[1]] else b"a" * 300_000
    assert (tmp_path / "here").read_bytes() == contents
    for one in bad.values():
        assert isinstance(one.error, SFTPExistsError)
        assert f"it gets the file of {good.keys()[0]}; give a function" in one.stderr


def test_another_name_of_the_same_file(multi: Multi, many: Sshd, tmp_path: Path) -> None:
    """A link to the local file is no second file."""
    (many.alice.files / "linked").write_text("text")
    (tmp_path / "link").symlink_to("here")
    names = {HOSTS[0]: "here", HOSTS[1]: "link"}
    with multi(2) as connected:
        result = connected.sftp_read("linked", lambda host: tmp_path / names[host])
    assert sorted(one.status for one in result.values()) == [-1, 0]


def test_a_host_that_fails_keeps_no_local_file(multi: Multi, many: Sshd, tmp_path: Path) -> None:
    """A host without the file leaves the path to those that have it."""
    (many.alice.files / "hers").write_text("text")
    bob = {"host": HOSTS[0], "username": many.bob.name, "key_path": many.bob.key.path}
    with multi([bob, HOSTS[1]], batch_size=1) as connected:
        without, having = connected.sftp_read("hers", tmp_path / "here").values()
    assert isinstance(without.error, SFTPNotFoundError)
    assert having.stdout == "Ok"
    assert (tmp_path / "here").read_text() == "text"


def test_max_output(multi: Multi, many: Sshd, tmp_path: Path) -> None:
    """A host whose file has more than `max_output` has failed, and its result has what came."""
    (many.alice.files / "long").write_bytes(b"a" * 300_000)
    (many.bob.files / "long").write_bytes(b"b" * 1000)
    bob = {"host": HOSTS[1], "username": many.bob.name, "key_path": many.bob.key.path}
    with multi([HOSTS[0], bob]) as connected:
        long, short = connected.sftp_read("long", max_output=1000).values()
        with pytest.raises(ValueError, match="max_output="):
            connected.sftp_read("long", tmp_path / "here", max_output=1000)
    assert isinstance(long.error, OutputLimitExceeded)
    assert (long.status, long.truncated, long.stdout_bytes) == (-1, True, b"a" * 1000)
    assert (short.status, short.stdout_bytes) == (0, b"b" * 1000)


def test_what_takes_everybodys(multi: Multi, tmp_path: Path) -> None:
    """A device may be the target of all; a directory is none for anybody."""
    with multi(3) as connected:
        connected.sftp_write_data("text", "shared")
        assert connected.sftp_read("shared", os.devnull).failed is None
        into = connected.sftp_read("shared", tmp_path)
    assert {type(one.error) for one in into.values()} == {SFTPIsDirectoryError}


@pytest.mark.parametrize("data", [5, None, [1, 2]])
def test_what_is_no_data(data: object) -> None:
    """A number is not that many NULs."""
    with pytest.raises(TypeError, match="bytes-like"):
        EMPTY.sftp_write_data(data, "path")


def test_homes(multi: Multi, many: Sshd, tmp_path: Path) -> None:
    """Paths from ``~`` on are those of each host's user."""
    bob = {"host": HOSTS[1], "username": many.bob.name, "key_path": many.bob.key.path}
    with multi([HOSTS[0], bob]) as connected:
        assert connected.sftp_write_data("text", "~/at-home").failed is None
        assert (many.alice.files / "at-home").read_text() == "text"
        assert (many.bob.files / "at-home").read_text() == "text"
        assert [one.stdout for one in connected.sftp_read("~/at-home").values()] == ["text"] * 2
        with connected.tail("~/at-home") as tail:
            with (many.bob.files / "at-home").open("a") as file:
                file.write("more")
            assert tail.read() == {HOSTS[0]: "", HOSTS[1]: "more"}


def test_directories(multi: Multi, many: Sshd, tmp_path: Path) -> None:
    """Directories go to all hosts and come back to a place of each; results can be pickled."""
    top = tmp_path / "tree"
    (top / "a").mkdir(parents=True)
    (top / "a/file").write_text("x")
    bob = {"host": HOSTS[1], "username": many.bob.name, "key_path": many.bob.key.path}
    connected: Any
    with multi([HOSTS[0], bob]) as connected:
        put = connected.sftp_put_dir(top, "~/up/tree")
        assert [one.stdout for one in put.values()] == ["Ok", "Ok"]
        assert [one.transfer.transferred for one in put.values()] == [[str(top / "a/file")]] * 2
        assert (many.bob.files / "up/tree/a/file").read_text() == "x"
        got = connected.sftp_get_dir("up/tree", lambda host: tmp_path / "back" / host)
        assert got.failed is None
        for host in HOSTS[:2]:
            assert (tmp_path / "back" / host / "a/file").read_text() == "x"
        shared = connected.sftp_get_dir("up/tree", tmp_path / "one")
        assert sorted(one.status for one in shared.values()) == [-1, 0]
        assert "it gets the files of" in shared.failed.values()[0].stderr
        (many.bob.files / "up/tree/a/file").chmod(0)
        (many.alice.files / "up/tree/b").write_text("x")
        partly = connected.sftp_get_dir("up", lambda host: tmp_path / "again" / host)
    good, bad = partly.values()
    assert (good.status, len(good.transfer.transferred)) == (0, 2)
    assert (bad.status, bad.transfer.failed) == (-1, ["up/tree/a/file"])
    assert "Permission denied" in bad.stderr
    assert isinstance(bad.error, PermissionError)
    again = pickle.loads(pickle.dumps(partly))
    assert again == partly
    assert again[HOSTS[1]].transfer.failed[0].error.filename == "up/tree/a/file"
    with pytest.raises(TypeError, match="local_path"):
        EMPTY.sftp_get_dir("x", None)


async def test_scp_and_directories_in_tasks(
    loop: str, multi: Multi, many: Sshd, tmp_path: Path
) -> None:
    """The async twin has the same methods; scp reads and writes on all hosts within its time."""
    (tmp_path / "file").write_text("from a file")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/x").write_text("x")
    async with multi(2) as connected:
        assert (await connected.scp_write_data("data", "by-scp")).failed is None
        assert [one.stdout for one in (await connected.scp_read("by-scp")).values()] == ["data"] * 2
        assert (await connected.scp_write(tmp_path / "file", "by-scp")).failed is None
        got = await connected.scp_read("by-scp", lambda host: tmp_path / host, timeout=60)
        assert [one.stdout for one in got.values()] == ["Ok", "Ok"]
        assert (tmp_path / HOSTS[1]).read_text() == "from a file"
        missing = await connected.scp_read("no-such")
        assert {type(one.error) for one in missing.values()} == {SFTPNotFoundError}
        assert (await connected.sftp_put_dir(tmp_path / "tree", "multi-tree")).failed is None
        back = await connected.sftp_get_dir("multi-tree", lambda host: tmp_path / f"tree-{host}")
        assert back.failed is None
    assert (tmp_path / f"tree-{HOSTS[0]}/x").read_text() == "x"


def test_same_methods_for_tasks() -> None:
    """Every public method of `MultiConnection` is one of its async twin, with the same arguments.

    The class methods that make a `MultiConnection` are not.
    """
    made = {"from_connections", "from_shared_auth"}
    for name in {name for name in dir(MultiConnection) if not name.startswith("_")} - made:
        ours, theirs = getattr(MultiConnection, name), getattr(AsyncMultiConnection, name)
        if callable(ours):
            assert [*inspect.signature(ours).parameters] == [*inspect.signature(theirs).parameters]
