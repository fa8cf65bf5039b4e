"""Key exchanges with servers that take one method only, in every API and on every way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import build_info
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.sshd import Sshd

HYBRID = "mlkem768x25519-sha256"
GROUP_14 = "diffie-hellman-group14-sha256"
DATA = os.urandom(400_000)

needs_mlkem = pytest.mark.skipif(
    build_info()["mlkem"] == "none", reason="neither OpenSSL nor cryptography has ML-KEM here"
)


@pytest.fixture
def hybrid(tmp_path: Path) -> Iterator[int]:
    """Start a server that takes ML-KEM only and wants new keys all the time; return its port."""
    with asyncssh_server(tmp_path, kex_algs=[HYBRID], rekey_bytes=100_000) as port:
        yield port


def rekeys(session: Any) -> int:
    """Return how many key exchanges a connection has ended, the first included."""
    real = session.real
    inner = real._session if hasattr(real, "_session") else real._shared.session
    with inner.driver.locked():
        count: int = inner.link.get_info().rekeys
    return count


@needs_mlkem
@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_ml_kem_only(client: Client, hybrid: int) -> None:
    """A server that takes nothing but ML-KEM, again and again: data and names are right."""
    session = await client.connect("127.0.0.1", hybrid, username="alice", password=PASSWORD)
    for _ in range(2):
        result = await session.execute("cat", input=DATA)
        assert result.stdout_bytes == DATA
    assert rekeys(session) >= 4
    *hops, last = session.real.algorithms
    assert (last.hop, last.key_exchange) == (f"alice@127.0.0.1:{hybrid}", HYBRID)
    assert last.post_quantum
    assert last.host_key == "ssh-ed25519"
    assert len(hops) == len(client.hops)
    assert [hop.hop for hop in hops] == [
        f"{way.real.username}@{way.real.host}:{way.real.port}" for way in client.hops
    ]


@needs_mlkem
@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_ml_kem_on_every_hop(client: Client, hybrid: int, tmp_path: Path) -> None:
    """A bastion and a target behind it, both with ML-KEM only and new keys at the same time."""
    with asyncssh_server(tmp_path, kex_algs=[HYBRID], rekey_bytes=70_000) as inner:
        bastion = await client.connect("127.0.0.1", hybrid, username="alice", password=PASSWORD)
        target = await client.connect(
            "127.0.0.1", inner, username="bob", password=PASSWORD, proxy_jump=bastion
        )
        result = await target.execute("cat", input=DATA)
        assert result.stdout_bytes == DATA
        names = [(hop.hop.partition("@")[0], hop.key_exchange) for hop in target.real.algorithms]
        assert names == [("alice", HYBRID), ("bob", HYBRID)]
        assert rekeys(bastion) > 1
        assert rekeys(target) > 1


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_finite_fields_only(client: Client, sshd_factory: Any) -> None:
    """An OpenSSH server without curves: group 14 is agreed on, and used for new keys, too."""
    server: Sshd = sshd_factory(options={"KexAlgorithms": GROUP_14, "RekeyLimit": "150K"})
    session = await client.connect_to(server)
    result = await session.execute("sha256sum", input=DATA)
    assert result.stdout.split()[0] == hashlib.sha256(DATA).hexdigest()
    assert rekeys(session) > 1
    last = session.real.algorithms[-1]
    assert (last.key_exchange, last.post_quantum) == (GROUP_14, False)


@pytest.mark.parametrize(
    "method",
    [
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group18-sha512",
        "diffie-hellman-group-exchange-sha256",
    ],
)
@pytest.mark.parametrize("client", THREE[:1], indirect=True)
async def test_larger_groups(client: Client, sshd_factory: Any, method: str) -> None:
    """The other finite fields that are offered are understood as OpenSSH means them."""
    session = await client.connect_to(sshd_factory(options={"KexAlgorithms": method}))
    assert (await session.execute("echo in")).stdout == "in\n"
    assert session.real.algorithms[-1].key_exchange == method


@pytest.mark.parametrize("mac", ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"])
@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_encrypt_then_mac_only(client: Client, sshd_factory: Any, mac: str) -> None:
    """A server that takes CTR ciphers with an -etm MAC only gets that by default."""
    options = {"MACs": mac, "Ciphers": "aes256-ctr,aes128-ctr", "RekeyLimit": "150K"}
    session = await client.connect_to(sshd_factory(options=options))
    result = await session.execute("cat", input=DATA)
    assert result.stdout_bytes == DATA
    assert session.real.algorithms[-1].mac == mac
    awaited: Any = Awaited(session.real)
    assert (await awaited.execute("exit 3")).status == 3


@pytest.mark.parametrize("cipher", ["chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com"])
@pytest.mark.parametrize("client", THREE[:1], indirect=True)
async def test_no_mac_in_common(client: Client, sshd_factory: Any, cipher: str) -> None:
    """A cipher that authenticates by itself needs no MAC that both sides have."""
    server = sshd_factory(options={"MACs": "umac-64@openssh.com", "Ciphers": cipher})
    session = await client.connect_to(server, macs=["hmac-sha2-256"])
    assert (await session.execute("echo in")).stdout == "in\n"
    last = session.real.algorithms[-1]
    assert (last.cipher, last.mac) == (cipher, "")
