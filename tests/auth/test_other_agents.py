"""An agent that is not OpenSSH's and knows no ``session-bind``: Twisted's."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.apis import APIS, Api
from tests.support.keys import Keys
from tests.support.sshd import Sshd

pytest.importorskip("twisted.conch")


@pytest.fixture
def twisted_agent(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run Twisted's agent with alice's key, where SSH_AUTH_SOCK names it."""
    script = Path(__file__).with_name("twisted_agent.py")
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        socket = f"{folder}/agent"
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, str(script), socket]
        with subprocess.Popen(
            [*command, str(keys.get(name="alice").path)], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "ready\n"
                monkeypatch.setenv("SSH_AUTH_SOCK", socket)
                yield
            finally:
                process.kill()


@pytest.mark.usefixtures("twisted_agent")
def test_agent_without_extensions(bastion: Sshd, target: Sshd) -> None:
    """Its key logs in on each hop, in every API, and it can be lent."""

    async def travel(api: Api) -> None:
        options: dict[str, Any] = {"username": "alice", "known_hosts": ()}
        jump = f"{bastion.host}:{bastion.port}"
        session = await api.connect(target.host, target.port, proxy_jump=jump, **options)
        done = session.real.execute("ssh-add -l", forward_agent=True)
        listed = (done if api.name == "sync" else await done).stdout
        assert "of twisted (ED25519)" in listed
        await session.close()

    for api in APIS:
        api.run(partial(travel, api))
