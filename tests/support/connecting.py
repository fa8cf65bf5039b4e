"""Connecting to a test server as alice, the account that every server has.

For tests whose topic is not the login; `tests/auth` has its own ways.
"""

from __future__ import annotations

from typing import Any

from hussh import Connection
from tests.support.sshd import Sshd

__all__ = ["connect_as_alice"]


def connect_as_alice(
    server: Sshd, address: tuple[str, int] | None = None, **options: Any
) -> Connection:
    """Connect with alice's key, without a check of the host key and with 60 s for each step.

    Args:
        server: it has the accounts.
        address: of another program that serves the same accounts.
        options: of `Connection`; they take the place of what is said above.
    """
    if "password" not in options:
        options.setdefault("private_key", server.alice.key.path)
    options = {"host_key_policy": "ignore", "timeout": 60_000, **options}
    host, port = address or (server.host, server.port)
    return Connection(host, port, server.alice.name, **options)
