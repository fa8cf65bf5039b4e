"""Fixtures of the jump tests: logging in to real servers, through one another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hussh import Connection
from tests.support.sshd import Sshd

Login = Callable[..., Connection]


@pytest.fixture
def login() -> Iterator[Login]:
    """Connect as alice with her key; keywords go to `Connection`. Closed after the test."""
    with ExitStack() as connections:

        def connect(server: Sshd, **options: Any) -> Connection:
            options.setdefault("host", server.host)
            options.setdefault("port", server.port)
            options.setdefault("username", server.alice.name)
            if "password" not in options:
                options.setdefault("private_key", server.alice.key.path)
            options.setdefault("timeout", 30_000)
            return connections.enter_context(Connection(**options))

        yield connect
