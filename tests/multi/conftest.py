"""Fixtures for work on many hosts: one server that is many, and `MultiConnection` objects on it.

A coroutine test with the fixture ``loop`` runs once per kind of event loop, as in tests/aio.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hussh.multi_conn import MultiConnection
from tests.aio.conftest import pytest_generate_tests, pytest_pyfunc_call
from tests.support import leaks
from tests.support.keys import Keys
from tests.support.listeners import free_port
from tests.support.sshd import Sshd

__all__ = ["pytest_generate_tests", "pytest_pyfunc_call"]

#: Loopback addresses of the one server (it takes 16); each is a host of its own to its clients.
HOSTS = [f"127.0.0.{number}" for number in range(1, 17)]

#: Tells commands of this process from those of another one, where all see each other.
MINE = f"{os.getpid():08}"

Multi = Callable[..., MultiConnection]


def runs(command: str) -> str:
    """Return a command that ends when the other runs there.

    sshd forgets a signal for a command that it is just forking.
    """
    return f"until pgrep -f '^{command}' >/dev/null; do sleep 0.02; done"


@pytest.fixture(scope="session")
def _many(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sshd]:
    port = free_port()
    places = [f"{host}:{port}" for host in HOSTS[1:]]
    directory = tmp_path_factory.mktemp("many") / "sshd"
    server = Sshd(directory, keys, name="many", port=port, options={"ListenAddress": places})
    with leaks.shared(server):
        yield server


@pytest.fixture
def many(_many: Sshd) -> Sshd:
    """Return a server that listens on all of `HOSTS`, idle, its log empty."""
    _many.settle()
    return _many


@pytest.fixture
def multi(many: Sshd) -> Multi:
    """Make a MultiConnection to some of `HOSTS`, as alice with her key; it is not connected."""

    def make(hosts: Any = 3, **options: Any) -> MultiConnection:
        options.setdefault("username", many.alice.name)
        options.setdefault("key_path", many.alice.key.path)
        options.setdefault("port", many.port)
        options.setdefault("timeout", 60)
        if isinstance(hosts, int):
            hosts = HOSTS[:hosts]
        return MultiConnection.from_shared_auth(hosts, **options)

    return make
