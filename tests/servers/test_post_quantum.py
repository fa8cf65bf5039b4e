"""OpenSSH and paramiko with ML-KEM: the default exchange is the hybrid one, and stays it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import build_info
from hussh._policy.algorithms import HYBRID
from tests.conformance.apis import APIS, Api
from tests.support.keys import Keys
from tests.support.other_openssh import (
    HAS_ML_KEM,
    PREFERS_ML_KEM,
    OtherOpenssh,
    other_openssh,
)
from tests.support.paramiko_server import PASSWORD, paramiko_server
from tests.support.sshd import Sshd, openssh_version

pytestmark = pytest.mark.skipif(
    build_info()["mlkem"] == "none", reason="neither OpenSSL nor cryptography has ML-KEM here"
)


@pytest.fixture
def openssh(
    tmp_path: Path, keys: Keys, sshd_factory: Callable[..., Sshd]
) -> Iterator[OtherOpenssh]:
    """Start an OpenSSH that has ML-KEM, with its own choice where that is the first."""
    if openssh_version() < HAS_ML_KEM:
        with other_openssh(tmp_path / "other", keys) as server:
            yield server
        return
    options = {"RekeyLimit": "150K"}
    if openssh_version() < PREFERS_ML_KEM:
        options["KexAlgorithms"] = HYBRID
    sshd = sshd_factory(options=options)
    yield OtherOpenssh(sshd.port, sshd.alice.name, sshd.alice.key.path, sshd.log_path)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_openssh(api: Api, openssh: OtherOpenssh, bastion: Sshd, keys: Keys) -> None:
    """It is agreed on by default, behind a bastion, and for the new keys that the server wants."""
    data = bytes(range(256)) * 2000

    async def main() -> None:
        options: dict[str, Any] = {"private_key": openssh.key}
        way = await api.connect(bastion.host, bastion.port, username="alice", **options)
        session = await api.connect(
            "127.0.0.1", openssh.port, username=openssh.user, proxy_jump=way, **options
        )
        assert (await session.execute("cat", input=data)).stdout_bytes == data
        assert (await session.execute("cat", input=data)).stdout_bytes == data
        last = session.real.algorithms[-1]
        assert (last.key_exchange, last.post_quantum) == (HYBRID, True)
        await session.close()
        await way.close()

    bastion.authorize(bastion.alice, keys.get(name="alice"))
    api.run(main)
    assert openssh.log.read_text().count(f"kex: algorithm: {HYBRID}") >= 3


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_paramiko(api: Api) -> None:
    """A paramiko server that takes nothing else is logged in to, and runs a command."""
    with paramiko_server([HYBRID]) as port:

        async def main() -> None:
            session = await api.connect("127.0.0.1", port, username="alice", password=PASSWORD)
            assert session.real.algorithms[-1].key_exchange == HYBRID
            assert (await session.execute("echo in")).stdout == "echo in"
            await session.close()

        api.run(main)
