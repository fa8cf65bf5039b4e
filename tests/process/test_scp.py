"""scp: names, sizes and hostile servers, which no API can change; see `tests/conformance`."""

from __future__ import annotations

import os
from pathlib import Path

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
    with pytest.raises(PermissionError):
        connection.scp_write_data("x", "/etc/hussh-test-may-not-write")


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
