"""`Connection.remote_copy`: from server to server through us, with bounded memory."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from tests.support.sshd import Sshd


def test_between_servers(
    jumped: Connection, bastion: Sshd, target: Sshd, connection: Connection
) -> None:
    """A file goes from a target behind a bastion to another server, byte for byte."""
    data = os.urandom(5_000_000)
    (target.alice.files / "source").write_bytes(data)
    (target.alice.files / "source").chmod(0o644)
    with Connection(
        bastion.host,
        bastion.port,
        bastion.alice.name,
        private_key=bastion.alice.key.path,
        host_key_policy="ignore",
        timeout=30_000,
    ) as other:
        jumped.remote_copy(target.alice.path("source"), other, bastion.alice.path("copy"))
    assert (bastion.alice.files / "copy").read_bytes() == data


def test_onto_itself_elsewhere(connection: Connection, target: Sshd) -> None:
    """Source and destination may be the same connection."""
    connection.sftp_write_data("once", target.alice.path("a"))
    connection.remote_copy(target.alice.path("a"), connection, target.alice.path("b"))
    assert connection.sftp_read(target.alice.path("b")) == "once"


def test_onto_itself(connection: Connection, jumped: Connection, target: Sshd) -> None:
    """A file copied onto itself, also by another name, is refused and keeps its contents."""
    connection.sftp_write_data("precious", target.alice.path("same"))
    (target.alice.files / "link").symlink_to("same")
    folder = Path(target.alice.path("same")).parent
    for path in ("same", f"{folder}/./same", f"{folder}/link"):
        with pytest.raises(shutil.SameFileError) as caught:
            connection.remote_copy(target.alice.path("same"), connection, path)
        assert caught.value.filename2 == path
    with pytest.raises(shutil.SameFileError):
        jumped.remote_copy(target.alice.path("same"), jumped)
    assert connection.sftp_read(target.alice.path("same")) == "precious"
    (target.alice.files / "link").unlink()


def test_between_servers_behind_different_bastions(sshd_factory: Callable[..., Sshd]) -> None:
    """Each end has a bastion of its own; the same address behind each is not the same server."""
    servers = {name: sshd_factory(name=name) for name in ("one", "two", "left", "right")}

    def log_in(server: Sshd, **options: Any) -> Connection:
        alice = server.alice
        return Connection(
            server.host, server.port, alice.name, private_key=alice.key.path, timeout=30_000,
            **options,
        )  # fmt: skip

    data = os.urandom(3_000_000)
    with (
        log_in(servers["one"]) as one,
        log_in(servers["two"]) as two,
        log_in(servers["left"], proxy_jump=one) as source,
        log_in(servers["right"], proxy_jump=two) as dest,
        log_in(servers["left"], proxy_jump=two) as same_address,
    ):
        source.sftp_write_data(data, "file")
        source.remote_copy("file", dest, "copy")
        assert dest.sftp_read("copy", encoding=None) == data
        assert (servers["right"].alice.files / "copy").read_bytes() == data
        # As far as anybody can tell from here this might be another server.
        same_address.remote_copy("file", source, "copy")
    assert [forward.target for forward in servers["one"].forwards()] == [
        (servers["left"].host, servers["left"].port)
    ]
    assert len(servers["two"].forwards()) == 2


def test_memory_is_bounded(connection: Connection, jumped: Connection, target: Sshd) -> None:
    """Copying 128 MiB does not take 128 MiB."""
    big = target.alice.files / "big"
    with big.open("wb") as file:
        file.truncate(128 << 20)
    big.chmod(0o644)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection.remote_copy(target.alice.path("big"), jumped, target.alice.path("big2"))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert (target.alice.files / "big2").stat().st_size == 128 << 20
    assert grown < 48 * 1024  # KiB


def test_missing_source_makes_nothing(
    connection: Connection, jumped: Connection, target: Sshd
) -> None:
    """A source that is not there is an error that names it, and no file appears."""
    with pytest.raises(FileNotFoundError) as caught:
        connection.remote_copy(target.alice.path("none"), jumped, target.alice.path("made"))
    assert target.alice.path("none") in str(caught.value)
    assert not (target.alice.files / "made").exists()


def test_destination_refuses(connection: Connection, jumped: Connection, target: Sshd) -> None:
    """A destination that may not be written is a PermissionError; both connections stay usable."""
    connection.sftp_write_data("x", target.alice.path("a"))
    with pytest.raises(PermissionError):
        connection.remote_copy(target.alice.path("a"), jumped, "/etc/hussh-test-may-not-write")
    assert connection.execute("echo 1").stdout + jumped.execute("echo 2").stdout == "1\n2\n"
