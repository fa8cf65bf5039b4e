"""One running server of the zoo: where it listens, who may log in, and how to connect to it.

`zoo.servers` makes peers, `zoo.checks` uses them. Knows nothing of what is checked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hussh import Connection

#: Milliseconds that connecting and each call may take.
TIMEOUT = 30_000


class NotHere(Exception):
    """The server cannot be had on this machine; the text says what is missing."""


@dataclass(frozen=True)
class Peer:
    """A server that runs now.

    Attributes:
        host, port: its address, on loopback.
        user: the one account.
        password: of that account; None where the server takes none.
        key: private key file of that account.
        home: a folder that the account may write to, as the server sees it.
        files: the same folder as this process sees it.
        target: an OpenSSH server for forwards to end at; None where this is not known.
        algorithms: options that name algorithms which hussh offers only on request.
        keys: whether a login takes the key where nothing else is said; else the password.
        version: what the server calls itself, with its package's version.
    """

    host: str
    port: int
    user: str
    password: str | None
    key: Path
    home: str
    files: Path
    version: str
    target: Peer | None = None
    algorithms: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    keys: bool = True

    def connect(self, **more: Any) -> Connection:
        """Connect and log in, with the key unless `more` says otherwise."""
        options: dict[str, Any] = {**self.login(), **self.options(), **more}
        return Connection(self.host, self.port, self.user, **options)

    def login(self) -> dict[str, Any]:
        """Return the credentials that are used where nothing else is said."""
        return {"private_key": self.key} if self.keys else {"password": self.password}

    def options(self) -> dict[str, Any]:
        """Return what every connection of the zoo has in common."""
        return {
            "host_key_policy": "ignore", "agent": False, "timeout": TIMEOUT, **self.algorithms
        }  # fmt: skip

    def with_target(self, target: Peer | None) -> Peer:
        """Return the same peer with a target for its forwards."""
        return dataclasses.replace(self, target=target)
