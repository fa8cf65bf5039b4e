"""lshd, of 2014, as target and as bastion: old algorithms and a reading of RFC 4253 of its own."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from hussh import Connection
from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd

from .test_rekeying import SIZE, behind, restless

__all__ = ["restless"]

#: The best that it has; hussh offers none of these by itself.
ALGORITHMS: dict[str, Any] = {
    "key_exchange": ["diffie-hellman-group14-sha1"],
    "host_key_algorithms": ["ssh-rsa"],
    "ciphers": ["aes256-cbc"],
    "macs": ["hmac-sha1"],
}


def connect(address: tuple[str, int], server: Sshd) -> Connection:
    """Log in as alice with her password."""
    return connect_as_alice(
        server, address, password=server.alice.password, agent=False, **ALGORITHMS
    )


def test_signatures_without_leading_zeros(lshd: tuple[str, int], surroundings: Sshd) -> None:
    """Of 12 key exchanges each is good, though half of the signatures are too short."""
    for number in range(12):
        with connect(lshd, surroundings) as connection:
            assert connection.execute(f"echo {number}").stdout == f"{number}\n"


def test_as_a_bastion(lshd: tuple[str, int], surroundings: Sshd, restless: Sshd) -> None:
    """20 MiB through its small windows and back arrive unchanged, over many key exchanges."""
    data = os.urandom(SIZE)
    with connect(lshd, surroundings) as bastion, behind(bastion, restless) as connection:
        result = connection.execute("cat", input=data)
    assert hashlib.sha256(result.stdout_bytes).digest() == hashlib.sha256(data).digest()
