"""tinyssh as target: ed25519, curve25519 and chacha20-poly1305 only, over a proxy command."""

from __future__ import annotations

import hashlib
import os

import pytest

from hussh import Connection
from tests.support.sshd import Sshd


@pytest.fixture
def connection(tinyssh: list[str], surroundings: Sshd) -> Connection:
    """Connect as alice."""
    return Connection(
        "tiny.invalid",
        username=surroundings.alice.name,
        private_key=surroundings.alice.key.path,
        proxy_command=tinyssh,
        host_key_policy="ignore",
        timeout=60_000,
    )


def test_commands(connection: Connection) -> None:
    """Output, both streams, exit statuses."""
    with connection:
        result = connection.execute("echo out; echo err >&2; exit 3")
        assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)


def test_bulk_both_ways(connection: Connection) -> None:
    """Megabytes in and out arrive unchanged."""
    data = os.urandom(4 << 20)
    with connection:
        result = connection.execute("cat", input=data)
    assert hashlib.sha256(result.stdout_bytes).digest() == hashlib.sha256(data).digest()


def test_one_session_at_a_time(connection: Connection) -> None:
    """Its sessions follow one another on one connection as far as it allows."""
    with connection:
        assert connection.execute("echo one").stdout == "one\n"
