"""``bind_address=`` and ``family=``: where the first hop's connection begins, and nobody else's."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from hussh import ConnectError
from tests.conformance.apis import APIS, Api
from tests.support.sshd import Sshd


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_where_it_begins(api: Api, bastion: Sshd, target: Sshd) -> None:
    """The bastion sees the address that was named; the target sees the bastion's own."""
    options: dict[str, Any] = {
        "username": "alice", "private_key": target.alice.key.path, "known_hosts": (),
        "bind_address": "127.0.0.7", "family": "inet",
    }  # fmt: skip

    async def main() -> None:
        session = await api.connect(bastion.host, bastion.port, **options)
        assert (await session.execute("echo $SSH_CLIENT")).stdout.split()[0] == "127.0.0.7"
        await session.close()
        jump = f"{bastion.host}:{bastion.port}"
        session = await api.connect(target.host, target.port, proxy_jump=jump, **options)
        assert (await session.execute("echo $SSH_CLIENT")).stdout.split()[0] == "127.0.0.1"
        await session.close()

    api.run(main)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_addresses_that_cannot_be(api: Api, target: Sshd) -> None:
    """No address of the family, and a local address that is not ours, are errors that say so."""

    async def main() -> None:
        for family in ("inet6", int(socket.AF_INET6)):
            with pytest.raises(ConnectError, match="has no IPv6 address"):
                await api.connect(target.host, target.port, family=family)
        with pytest.raises(ConnectError, match="has no IPv6 address"):
            await api.connect(target.host, target.port, bind_address="::1")
        with pytest.raises(ConnectError, match=r"cannot begin at 192\.0\.2\.1"):
            await api.connect(target.host, target.port, bind_address="192.0.2.1")

    api.run(main)
