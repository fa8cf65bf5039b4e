"""Bastions with small windows before a target that changes its keys all the time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest

from hussh import Connection
from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd

SIZE = 20 << 20


@pytest.fixture
def restless(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Start a target that begins a key exchange after each MiB."""
    return sshd_factory(options={"RekeyLimit": "1M"})


def behind(bastion: Connection, server: Sshd) -> Connection:
    """Connect to a server through a bastion."""
    return connect_as_alice(server, proxy_jump=bastion, timeout=120_000)


def test_bulk_both_ways(dropbear: tuple[str, int], surroundings: Sshd, restless: Sshd) -> None:
    """20 MiB through a command and back arrive unchanged, over many key exchanges."""
    data = os.urandom(SIZE)
    with (
        connect_as_alice(surroundings, dropbear) as bastion,
        behind(bastion, restless) as connection,
    ):
        result = connection.execute("cat", input=data)
    assert hashlib.sha256(result.stdout_bytes).digest() == hashlib.sha256(data).digest()


def test_upload(dropbear: tuple[str, int], surroundings: Sshd, restless: Sshd) -> None:
    """20 MiB on the stdin of a command that answers at its end only."""
    data = os.urandom(SIZE)
    with (
        connect_as_alice(surroundings, dropbear) as bastion,
        behind(bastion, restless) as connection,
    ):
        result = connection.execute("sha256sum", input=data)
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()


def test_files_both_ways(dropbear: tuple[str, int], surroundings: Sshd, restless: Sshd) -> None:
    """20 MiB by SFTP there and back arrive unchanged."""
    data = os.urandom(SIZE)
    path = restless.alice.path("restless")
    with (
        connect_as_alice(surroundings, dropbear) as bastion,
        behind(bastion, restless) as connection,
    ):
        connection.sftp.put_bytes(data, path)
        assert connection.sftp.get_bytes(path) == data
