"""What is too weak for today: small RSA keys, SHA-1, CBC, DSA. Refused until it is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hussh import Connection, HostKeyError, NegotiationError
from hussh._policy.keys.public_key import count_rsa_bits
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory
from tests.config.test_connections import block, write
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import HostileServer, polite
from tests.support.keys import Keys
from tests.support.sshd import Sshd

#: What a server of 2005 has.
OLD = {
    "KexAlgorithms": "diffie-hellman-group14-sha1",
    "HostKeyAlgorithms": "ssh-rsa",
    "Ciphers": "aes128-cbc",
    "MACs": "hmac-sha1",
}
ALLOWED: dict[str, Any] = {
    "key_exchange": ["diffie-hellman-group14-sha1"],
    "host_key_algorithms": ["ssh-rsa"],
    "ciphers": ["aes128-cbc"],
    "macs": ["hmac-sha1"],
}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_small_rsa_host_key_behind_a_bastion(
    api: Api, bastion: Sshd, sshd_factory: SshdFactory, tmp_path: Path
) -> None:
    """It is refused before any login, though it is known; the option in the error accepts it."""
    weak = sshd_factory(host_keys=("rsa-1024",))
    known = tmp_path / "known"
    known.write_text(bastion.known_hosts_line() + weak.known_hosts_line())
    jump = f"alice@{bastion.host}:{bastion.port}"
    options: dict[str, Any] = {
        "username": "alice",
        "password": weak.alice.password,
        "private_key": weak.alice.key.path,
        "known_hosts": known,
        "proxy_jump": jump,
    }

    async def main() -> None:
        with pytest.raises(HostKeyError, match=r"1024 bits.*required_rsa_size=1024") as caught:
            await api.connect(weak.host, weak.port, **options)
        assert (caught.value.hop_index, caught.value.phase) == (1, "hostkey")
        assert caught.value.reason == "weak"
        assert weak.authentications() == []
        session = await api.connect(weak.host, weak.port, **options, required_rsa_size=1024)
        await session.close()

    bastion.authorize(bastion.alice, weak.alice.key)
    api.run(main)


def test_small_rsa_host_key_whatever_else_holds(sshd_factory: SshdFactory) -> None:
    """Neither a pin nor the policy "ignore" makes up for its size; a batch reports it."""
    weak = sshd_factory(host_keys=("rsa-1024",))
    key: dict[str, Any] = {"private_key": weak.alice.key.path}
    pin = weak.host_keys["rsa-1024"].fingerprint
    checks: list[dict[str, Any]] = [{"host_key_policy": "ignore"}, {"host_key": pin}]
    for more in checks:
        with pytest.raises(HostKeyError, match="required_rsa_size=1024"):
            Connection(weak.host, weak.port, "alice", **key, **more)
    for size, failed in ((2048, 1), (1024, 0)):
        batch = MultiConnection.from_shared_auth(
            [weak.host], "alice", port=weak.port, required_rsa_size=size, **key
        )
        with batch:
            result = batch.execute("echo in")
            assert len(result.failed or ()) == failed
            if failed:
                assert "required_rsa_size=1024" in result[weak.host].stderr


def test_configured_size(
    agent: SshAgent, keys: Keys, target: Sshd, sshd_factory: SshdFactory, tmp_path: Path
) -> None:
    """RequiredRSASize holds for host keys and for the user's; an argument wins over it."""
    server = sshd_factory(host_keys=("rsa",))
    identity = f"IdentityFile {server.alice.key.path}"
    text = block("t", server, identity, "RequiredRSASize 3072")
    config = write(tmp_path, text, server)
    with pytest.raises(HostKeyError, match=r"2048 bits.*RequiredRSASize"):
        Connection("t", config=config)
    with Connection("t", config=config, required_rsa_size=2048):
        pass
    small = keys.get("rsa")
    target.authorize(target.alice, small)
    agent.add(small)
    text = block("t", target, "RequiredRSASize 3072", f"IdentityFile {target.alice.key.path}")
    with Connection("t", config=write(tmp_path, text, target)) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    target.wait_for_log("Accepted publickey")
    assert small.fingerprint not in target.log_text()


def test_sizes() -> None:
    """The size of a malformed RSA key is 0, and keys of other types have none."""
    text = "00000007" + b"ssh-rsa".hex()
    assert count_rsa_bits(bytes.fromhex(text)) == 0
    assert count_rsa_bits(bytes.fromhex(text + "0000000103" + "0000000200ff")) == 8
    assert count_rsa_bits(b"\0\0\0\x0bssh-ed25519") is None
    for value, kind in ((0, ValueError), (99999, ValueError), (None, ValueError), ("2", TypeError)):
        with pytest.raises(kind, match="required_rsa_size"):
            Connection("127.0.0.1", required_rsa_size=value)  # type: ignore[arg-type]


def test_nothing_but_old_algorithms(sshd_factory: SshdFactory) -> None:
    """The error names all that the server has and every option; with those named it connects."""
    server = sshd_factory(host_keys=("rsa",), options=OLD)
    options: dict[str, Any] = {"private_key": server.alice.key.path}
    with pytest.raises(NegotiationError) as caught:
        Connection(server.host, server.port, "alice", **options)
    for offered, (argument, names) in zip(OLD.values(), ALLOWED.items(), strict=True):
        assert offered in str(caught.value)
        assert f"{argument}=" in str(caught.value)
        less: dict[str, Any] = {name: value for name, value in ALLOWED.items() if name != argument}
        with pytest.raises(NegotiationError, match=f"{argument}="):
            Connection(server.host, server.port, "alice", **options, **less)
        assert names == [offered]
    with Connection(server.host, server.port, "alice", **options, **ALLOWED) as connection:
        assert connection.execute("echo in").stdout == "in\n"
        (hop,) = connection.algorithms
        assert (hop.host_key, hop.cipher, hop.mac) == ("ssh-rsa", "aes128-cbc", "hmac-sha1")


def test_nothing_but_dsa() -> None:
    """A server with a DSA key only is refused by name, and no option can ask for DSA."""
    dsa: Any = SimpleNamespace(algorithms=("ssh-dss",))
    with (
        HostileServer(polite(), host_keys=(dsa,)) as server,
        pytest.raises(NegotiationError, match=r"offers ssh-dss;.*host_key_algorithms="),
    ):
        Connection(*server.address, "alice", "x")
    with pytest.raises(ValueError, match="'ssh-dss' is not one of"):
        Connection("127.0.0.1", host_key_algorithms=["ssh-dss"])
