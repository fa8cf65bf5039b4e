"""A connection for the tests of running commands and scp."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hussh import Connection
from tests.support.sshd import Sshd


@pytest.fixture
def known_hosts(tmp_path: Path, bastion: Sshd, target: Sshd) -> Path:
    """Return a known_hosts file that has both shared servers."""
    path = tmp_path / "known"
    path.write_text(bastion.known_hosts_line() + "\n" + target.known_hosts_line() + "\n")
    return path


@pytest.fixture
def connection(target: Sshd, known_hosts: Path) -> Iterator[Connection]:
    """Yield a connection straight to the target."""
    with Connection(
        target.host,
        target.port,
        target.alice.name,
        private_key=target.alice.key.path,
        known_hosts=known_hosts,
        host_key_policy="strict",
        timeout=30_000,
    ) as opened:
        yield opened
