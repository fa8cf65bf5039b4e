"""Short ways to log in and to ask a server what it saw; for the tests in this directory and beside.

Never asserts what a test is about; `refused` only insists that there is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hussh import Connection, HusshError
from tests.support.agent import SshAgent
from tests.support.relay import Relay
from tests.support.sshd import Sshd

AgentFactory = Callable[[], SshAgent]
RelayFactory = Callable[..., Relay]
SshdFactory = Callable[..., Sshd]

_END = (
    r"^(Connection closed by|Connection reset by|Disconnected from|Disconnecting "
    r"|Unable to negotiate)"
)


def login(server: Sshd, **options: Any) -> Connection:
    """Connect as alice, without a policy for host keys unless one is given."""
    options.setdefault("username", server.alice.name)
    return Connection(server.host, server.port, **options)


def refused(server: Sshd, **options: Any) -> HusshError:
    """Connect as alice and return the error, once the server is done with the connection."""
    ends = server.connections()
    with pytest.raises(HusshError) as caught:
        login(server, **options).close()
    server.wait_for_log(_END, count=ends + 1)
    return caught.value


def attempts(server: Sshd) -> list[tuple[str, str]]:
    """Return method and outcome of every request that the log tells of."""
    return [(each.method, each.outcome) for each in server.authentications()]


def fingerprints(server: Sshd, outcome: str) -> list[str]:
    """Return the fingerprints of the keys with this outcome, in order."""
    return [
        each.detail.split()[1]
        for each in server.authentications()
        if each.method == "publickey" and each.outcome == outcome
    ]
