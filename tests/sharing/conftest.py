"""Fixtures of the sharing tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from hussh import Connection
from tests.support.hostile import HostileServer
from tests.support.relay import Relay
from tests.support.sshd import Sshd

Login = Callable[..., Connection]

#: For servers whose limits are not what is tested.
ROOMY = {"MaxSessions": 1000}


@pytest.fixture
def login() -> Iterator[Login]:
    """Connect to a server, a relay or a scripted peer; closed after the test.

    Keywords go to `Connection`; to a relay they include the `account` behind it.
    """
    with ExitStack() as connections:

        def connect(server: Sshd | Relay | HostileServer, **options: Any) -> Connection:
            if isinstance(server, HostileServer):
                options = {"username": "me", "password": "x"} | options
            else:
                account = options.pop("account", None)
                if isinstance(server, Sshd):
                    account = account or server.alice
                options = {"username": account.name, "private_key": account.key.path} | options
            settings: dict[str, Any] = {"timeout": 60_000, "agent": False} | options
            made = Connection(server.host, server.port, **settings)
            return connections.enter_context(made)

        yield connect
