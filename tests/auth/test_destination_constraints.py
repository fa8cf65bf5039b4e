"""Keys that ``ssh-add -h`` restricts to some servers: the agent is told for which one it signs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hussh import AuthenticationError
from tests.auth.steps import attempts, fingerprints, refused
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.keys import Key, Keys
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd


def restrict(agent: SshAgent, key: Key, folder: Path, **servers: Sshd) -> None:
    """Load a key that may be used for these servers only, each straight from here."""
    known = folder / "servers"
    with known.open("a") as file:
        for name, server in servers.items():
            lines = server.known_hosts_line().splitlines()
            file.writelines(f"{name} {line.split(' ', 1)[1]}\n" for line in lines)
    constraints = [word for name in servers for word in ("-h", name)]
    subprocess.run(
        ["ssh-add", "-q", *constraints, "-H", str(known), str(key.path)],
        check=True,
        env=clean_environment(**agent.environment),
    )


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_each_hop_sees_its_own_key(
    api: Api, bastion: Sshd, target: Sshd, keys: Keys, agent: SshAgent, tmp_path: Path
) -> None:
    """Over a bastion each server is offered the key made for it, and no other."""
    inner, outer = keys.get("ecdsa-256", name="alice"), keys.get("ed25519", name="alice")
    restrict(agent, inner, tmp_path, inside=target)
    restrict(agent, outer, tmp_path, outside=bastion)

    async def main() -> None:
        jump = f"{bastion.host}:{bastion.port}"
        session = await api.connect(
            target.host, target.port, username="alice", proxy_jump=jump, known_hosts=()
        )
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()

    api.run(main)
    for server, key in ((bastion, outer), (target, inner)):
        assert attempts(server) == [("publickey", "postponed"), ("publickey", "accepted")]
        assert fingerprints(server, "accepted") == [key.fingerprint]


def test_key_for_another_server(
    bastion: Sshd, target: Sshd, keys: Keys, agent: SshAgent, tmp_path: Path
) -> None:
    """A key for another server is not even offered, so that no attempt is spent on it."""
    restrict(agent, keys.get(name="alice"), tmp_path, elsewhere=bastion)
    assert isinstance(refused(target, known_hosts=()), AuthenticationError)
    assert "publickey" not in [method for method, _ in attempts(target)]
