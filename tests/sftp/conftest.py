"""Connections for the SFTP tests: as alice on the shared target, straight or behind a bastion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hussh import Connection
from hussh._api.sftp import SFTP
from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd

Connect = Callable[..., Connection]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Return a function that connects to a server as alice; closed after the test."""
    with ExitStack() as open_ones:

        def make(server: Sshd, **options: Any) -> Connection:
            return open_ones.enter_context(connect_as_alice(server, **options))

        yield make


@pytest.fixture
def conn(connect: Connect, target: Sshd) -> Connection:
    """Return a connection straight to the target."""
    return connect(target)


@pytest.fixture(params=["direct", "jump"])
def either(request: pytest.FixtureRequest, connect: Connect, target: Sshd) -> Connection:
    """Return a connection to the target: straight, and through the bastion."""
    if request.param == "direct":
        return connect(target)
    return connect(target, proxy_jump=connect(request.getfixturevalue("bastion")))


@pytest.fixture
def sftp(conn: Connection) -> SFTP:
    """Return the files of the target."""
    return conn.sftp
