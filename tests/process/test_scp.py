"""scp: names, sizes and hostile servers, which no API can change; see `tests/conformance`."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, ProtocolError
from tests.support.hostile import HostileServer, polite
from tests.support.sshd import Sshd

NAMES = [
    "plain",
    "with blank",
    "it's",
    'a"b',
    "$(touch hit)",
    "-dash",
    "ünïcode",
    "semi;colon",
    "*",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_safe(connection: Connection, target: Sshd, name: str) -> None:
    """A name is a name, whatever the remote shell would make of it."""
    path = target.alice.path(name)
    connection.scp_write_data("contents of " + name, path)
    assert (target.alice.files / name).read_text() == "contents of " + name
    assert connection.scp_read(path) == "contents of " + name
    assert not (target.alice.files / "hit").exists()


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_sizes(connection: Connection, target: Sshd, size: int) -> None:
    """Empty files and chunk borders are no special cases."""
    data = os.urandom(size)
    connection.scp_write_data(data, target.alice.path("sized"))
    assert connection.scp_read(target.alice.path("sized"), encoding=None) == data


def test_not_permitted(connection: Connection, target: Sshd) -> None:
    """What the user may not write is a PermissionError."""
    with target.alice.folder("closed") as folder:
        folder.chmod(0o500)
        with pytest.raises(PermissionError):
            connection.scp_write_data("x", "closed/file")


@pytest.mark.parametrize(
    "header", [b"D0755 0 evil\n", b"C0644 -5 x\n", b"C0644 99999999999999999999 x\n", b"hi\n"]
)
def test_hostile_header(header: bytes, tmp_path: Path) -> None:
    """A server that answers with something else than one file is refused."""

    def execute(channel, command):  # type: ignore[no-untyped-def]
        channel.send_data(header)
        channel.read()
        channel.finish(0)

    with (
        HostileServer(polite(execute=execute)) as server,
        Connection(
            *server.address, "u", "p", host_key_policy="ignore", timeout=20_000
        ) as connection,
        pytest.raises((ProtocolError, OSError)),
    ):
        connection.scp_read("wanted", tmp_path / "wanted")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ([b"C" * 20_000, b"C" * 20_000], "endless line"),
        ([b"C0644 3 x\n", b"abcdefgh\0" + b"x" * 20_000], "endless line"),
        ([b"C0644 3 x\n", b"abc\x01scp: \x1b[2J\n"], r": \[2J \[u@"),
        ([b"C0644 30 x\n", b"abc"], "scp ended with status 0"),
        ([b"C0644 3 x\n", b"abc"], "scp ended with status 0"),
    ],
    ids=["no-header", "too-much", "refused-late", "too-little", "no-answer"],
)
def test_hostile_contents(parts: list[bytes], words: str, tmp_path: Path) -> None:
    """A server whose lines or contents do not end, or end early, gets an error that says so."""

    def execute(channel, command):  # type: ignore[no-untyped-def]
        for part in parts:
            channel.read()
            channel.send_data(part)
        channel.finish(0)

    with (
        HostileServer(polite(execute=execute)) as server,
        Connection(
            *server.address, "u", "p", host_key_policy="ignore", timeout=20_000
        ) as connection,
    ):
        with pytest.raises((ProtocolError, OSError), match=words) as caught:
            connection.scp_read("wanted", tmp_path / "wanted")
        assert "\x1b" not in str(caught.value)


def test_hostile_answers_to_an_upload() -> None:
    """An answer without an end, or none at all, ends an upload with an error."""

    def execute(channel, command):  # type: ignore[no-untyped-def]
        channel.send_data(answers.pop(0))
        channel.finish(0)

    with (
        HostileServer(polite(execute=execute)) as server,
        Connection(
            *server.address, "u", "p", host_key_policy="ignore", timeout=20_000
        ) as connection,
    ):
        for answer, words in ((b"\x01" + b"x" * 20_000, "endless line"), (b"", "scp ended")):
            answers = [answer]
            with pytest.raises((ProtocolError, OSError), match=words):
                connection.scp_write_data(b"data", "there")


def test_hostile_name(tmp_path: Path) -> None:
    """The name that the server gives is not the name that we write."""

    def execute(channel, command):  # type: ignore[no-untyped-def]
        channel.read()
        channel.send_data(b"C0644 3 ../../evil\n")
        channel.read()
        channel.send_data(b"abc\0")
        channel.finish(0)

    with (
        HostileServer(polite(execute=execute)) as server,
        Connection(
            *server.address, "u", "p", host_key_policy="ignore", timeout=20_000
        ) as connection,
    ):
        assert connection.scp_read("wanted", tmp_path / "deep") == "Ok"
    assert (tmp_path / "deep").read_bytes() == b"abc"
    assert not (tmp_path.parent.parent / "evil").exists()


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        (b"\x01scp: x: set mode: Operation not permitted\n", True),
        (b"\x01scp: x: set times: Operation not permitted\n", True),
        (b"\x01scp: x: No space left on device\n", False),
        (b"\x02scp: x: set mode: protocol error\n", False),
    ],
)
def test_a_mode_that_is_refused(
    answer: bytes, is_there: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A file whose data is there is stored, and the logger tells of its mode; others are not."""

    def execute(channel, command):  # type: ignore[no-untyped-def]
        channel.send_data(b"\0")
        channel.read()
        channel.send_data(b"\0")
        while not channel.read().endswith(b"\0"):
            pass
        channel.send_data(answer)
        channel.finish(1)

    with (
        HostileServer(polite(execute=execute)) as server,
        Connection(
            *server.address, "u", "p", host_key_policy="ignore", timeout=20_000
        ) as connection,
        caplog.at_level("WARNING", "hussh"),
        contextlib.nullcontext() if is_there else pytest.raises(OSError, match=r"space|mode"),
    ):
        connection.scp_write_data("abc", "x")
    assert [r.name for r in caplog.records if "set " in r.getMessage()] == ["hussh.sftp"] * is_there


def test_local_file_survives_a_missing_source(
    connection: Connection, target: Sshd, tmp_path: Path
) -> None:
    """What the server does not have empties no file here, and makes none."""
    (tmp_path / "kept").write_text("keep")
    for name in ("kept", "new"):
        with pytest.raises(FileNotFoundError):
            connection.scp_read(target.alice.path("none"), tmp_path / name)
    assert (tmp_path / "kept").read_text() == "keep"
    assert not (tmp_path / "new").exists()


def test_full_disk_here(connection: Connection, target: Sshd) -> None:
    """ENOSPC on this machine is an OSError with both names; the connection stays usable."""
    connection.scp_write_data(b"x" * 300_000, target.alice.path("large"))
    with pytest.raises(OSError, match="on this machine") as caught:
        connection.scp_read(target.alice.path("large"), "/dev/full")
    error = caught.value
    assert (error.errno, error.filename, error.filename2) == (
        errno.ENOSPC, target.alice.path("large"), "/dev/full",
    )  # fmt: skip
    assert connection.execute("echo usable").stdout == "usable\n"


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths_of_every_kind(
    connection: Connection, target: Sshd, tmp_path: Path, kind: Callable[[str], Any]
) -> None:
    """Paths are text, bytes or path objects, on either side; others are a TypeError."""
    there, here = target.alice.path("kinds"), str(tmp_path / "here")
    connection.scp_write_data(b"abc", kind(there))
    assert connection.scp_read(kind(there), kind(here)) == "Ok"
    connection.scp_write(kind(here), kind(there + "2"))
    assert connection.scp_read(kind(there + "2")) == "abc"
    with pytest.raises(TypeError):
        connection.scp_read(7)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="null"):
        connection.scp_read("a\0b")
    with pytest.raises(TypeError):
        connection.scp_write_data(7, there)  # type: ignore[arg-type]
