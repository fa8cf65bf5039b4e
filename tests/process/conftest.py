"""A connection for the tests of running commands and scp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hussh import Connection
from tests.support.connecting import connect_as_alice
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
    with connect_as_alice(target, known_hosts=known_hosts, host_key_policy="strict") as opened:
        yield opened


@pytest.fixture
def target_accepting_env(sshd_factory: Callable[..., Sshd]) -> Iterator[Connection]:
    """Yield a connection to a server that accepts LC_* variables."""
    server = sshd_factory(options={"AcceptEnv": "LC_*"})
    with connect_as_alice(server) as opened:
        yield opened
