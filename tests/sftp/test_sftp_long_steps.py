"""No answer of a server keeps a time limit waiting: work between two looks at it is bounded.

The work of a step is counted in calls that Python makes, so that no clock is needed; the drivers
look at the time between steps (`tests/unit/test_look_before_wait.py`). The servers are in memory
and have answered everything at once, so that an operation never has to wait for them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from cProfile import Profile
from pathlib import Path
from struct import pack
from time import monotonic
from typing import Any

import pytest

from hussh._protocol.core import Op
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.names import split_names
from hussh._protocol.sftp.ops import list_names
from hussh._protocol.sftp.put_tree import put_tree
from hussh._protocol.sftp.session import SftpState
from hussh._protocol.sftp.tree import TreeOptions
from hussh.errors import SFTPError
from tests.sftp.fake import Bench, FakeServer, packet, text
from tests.sftp.test_sftp_tree import FILE, FOLDER, LINK
from tests.support.selection import LONG

#: What taking apart the longest message with the most names takes is 350,000; 0.1 s, if slow.
MOST_CALLS = 500_000
#: An operation is given up after so many, in all.
ENOUGH = 2 * MOST_CALLS if LONG else MOST_CALLS + MOST_CALLS // 2

Entries = list[tuple[bytes, int]]


class Everywhere(dict[bytes, Entries]):
    """The same entries in every directory."""

    def __init__(self, entries: Entries) -> None:
        """Prepare."""
        super().__init__()
        self.entries = entries

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: bytes) -> Entries:
        return self.entries


class GivenUp(Exception):
    """It has worked enough."""


class Steps:
    """Counts the calls in each step of an operation."""

    def __init__(self) -> None:
        """Prepare."""
        self.total = self.largest = 0

    def of(self, op: Op[Any]) -> Op[Any]:
        """Return the operation, counted; given up after `ENOUGH`, and then its end counts, too."""
        answer: Any = None
        error: BaseException | None = None
        while True:
            profile = Profile()
            profile.enable()
            try:
                need = op.send(answer) if error is None else op.throw(error)
            except StopIteration as done:
                return done.value
            finally:
                profile.disable()
                calls = sum(entry.callcount for entry in profile.getstats())
                self.total += calls
                self.largest = max(self.largest, calls)
            answer = error = None
            if self.total > ENOUGH:
                error = GivenUp()
                continue
            try:
                answer = yield need
            except Exception as raised:
                error = raised


def many(kind: int, *, length: int = 0) -> Entries:
    """Return as many entries as one message holds."""
    count = 320_000 // (12 + length + (4 if kind else 0) + 8)
    return [(b"%0*d" % (length, number) if length else b"", kind) for number in range(count)]


def padded(number: bytes) -> bytes:
    """Return attributes of a link, with as many additions of the server's as a message holds."""
    extra = [text(b"")] * 2 * 38_000
    flags = pack(">II", 4 | 0x80000000, LINK) + pack(">I", len(extra) // 2)
    return packet(wire.ATTRS, number, flags, *extra)


def endless(server: FakeServer, entries: Entries) -> None:
    """Let every directory have these entries in every one of its lists, for ever."""
    names = server.names(b"\0\0\0\0", entries)

    def twist(kind: int, body: bytes, reply: bytes) -> bytes:
        return names[:5] + body[:4] + names[9:] if kind == wire.READDIR else reply

    server.twist = twist


def wide_folders(server: FakeServer) -> None:
    """Folders without end in each."""
    server.folders = Everywhere([])
    endless(server, many(FOLDER, length=6))


def wide_files(server: FakeServer) -> None:
    """Files without end in each."""
    server.folders = Everywhere([])
    endless(server, many(FILE, length=6))


def no_names(server: FakeServer) -> None:
    """Names without end that are none."""
    server.folders = Everywhere([])
    endless(server, many(0))


def padded_links(server: FakeServer) -> None:
    """Entries of which nothing is told, with endless attributes when one asks."""
    server.folders = Everywhere([(b"%d" % number, 0) for number in range(100)])
    server.twist = lambda kind, body, reply: padded(body[:4]) if kind == wire.LSTAT else reply


def long_links(server: FakeServer) -> None:
    """Links that lead to many places at once."""
    server.folders = Everywhere([(b"%d" % number, LINK) for number in range(100)])
    names = server.names(b"\0\0\0\0", many(0))

    def twist(kind: int, body: bytes, reply: bytes) -> bytes:
        if kind == wire.LSTAT:
            return packet(wire.ATTRS, body[:4], wire.encode_setting(mode=LINK))
        return names[:5] + body[:4] + names[9:] if kind == wire.READLINK else reply

    server.twist = twist


def download(sftp: SftpState, tmp_path: Path) -> Op[Any]:
    """A whole tree."""
    options = TreeOptions(False, True, True, False, "", monotonic)
    return get_tree(sftp, b"top", os.fsencode(tmp_path / "here"), options)


def upload(sftp: SftpState, tmp_path: Path) -> Op[Any]:
    """A folder with many links, all of which the server refuses and tells much about."""
    here = tmp_path / "here"
    here.mkdir()
    for number in range(200):
        (here / str(number)).symlink_to("x")
    options = TreeOptions(False, True, True, False, "", monotonic)
    return put_tree(sftp, os.fsencode(here), b"top", options)


def walk(sftp: SftpState, _: Path) -> Op[Any]:
    """One step of `walk`."""
    return split_names(sftp, b"top", False)


def listing(sftp: SftpState, _: Path) -> Op[Any]:
    """All names of a directory."""
    return list_names(sftp, b"top", lambda name: name.name.decode())


@pytest.mark.parametrize(
    ("make", "server_is"),
    [
        pytest.param(download, wide_folders, marks=pytest.mark.long), (download, no_names),
        pytest.param(download, padded_links, marks=pytest.mark.long), (download, long_links),
        (upload, padded_links), (walk, wide_folders), (listing, wide_files),
    ],
)  # fmt: skip
def test_steps_are_short(
    tmp_path: Path,
    make: Callable[[SftpState, Path], Op[Any]],
    server_is: Callable[[FakeServer], None],
) -> None:
    """Whatever the server answers, a step is short, and so is the end of what is given up."""
    server, steps = FakeServer(), Steps()
    server_is(server)
    bench = Bench(server)
    with contextlib.suppress(GivenUp, SFTPError):
        bench.run(steps.of(make(bench.sftp, tmp_path)))
    assert steps.total > ENOUGH / 2  # it had much to do
    assert steps.largest < MOST_CALLS
