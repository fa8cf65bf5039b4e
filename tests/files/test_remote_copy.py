"""`Connection.remote_copy`: from server to server through us, with bounded memory."""

from __future__ import annotations

import os
import resource

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
