"""``forward_agent=``: the ssh-agent is lent to one session, and to nobody who was not asked."""

from __future__ import annotations

import logging
import subprocess
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import Connection
from hussh._connect.agent_forwarding import MOST
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory, login
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import Conn, HostileServer, Msg, Services
from tests.support.hostile_channels import ChannelRequest
from tests.support.hostile_wire import string, u32
from tests.support.keys import Keys
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

ONWARD = (
    "ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
    "-o IdentityFile=none -p {port} alice@{host} echo third 2>/dev/null"
)


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_onward_through_two_hops(
    api: Api, bastion: Sshd, target: Sshd, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """An ssh of the target logs in at a third server with the lent key, while it is lent."""
    third = sshd_factory(name="third")
    third.forget_keys(third.alice)
    third.authorize(third.alice, keys.get("ecdsa-256", name="of the agent"))
    agent.add(keys.get("ecdsa-256", name="of the agent"))
    command = ONWARD.format(host=third.host, port=third.port)
    options: dict[str, Any] = {"username": "alice", "private_key": target.alice.key.path}

    async def main() -> None:
        jump = f"{bastion.host}:{bastion.port}"
        session = await api.connect(target.host, target.port, proxy_jump=jump, **options)
        real = session.real

        async def run(**more: Any) -> str:
            done = real.execute(command, **more)
            return str((done if api.name == "sync" else await done).stdout)

        assert await run(forward_agent=True) == "third\n"
        assert await run() == ""
        assert await run(forward_agent=str(agent.socket)) == "third\n"
        await session.close()

    api.run(main)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "asyncio"])
def test_batch(
    is_async: bool,
    bastion: Sshd,
    target: Sshd,
    sshd_factory: SshdFactory,
    keys: Keys,
    agent: SshAgent,
) -> None:
    """A command on many hosts has the agent on each, also behind a bastion, while it is lent."""
    third = sshd_factory(name="third")
    third.forget_keys(third.alice)
    third.authorize(third.alice, keys.get("ecdsa-256", name="of the agent"))
    agent.add(keys.get("ecdsa-256", name="of the agent"))
    command = ONWARD.format(host=third.host, port=third.port)
    hosts = [
        {"host": target.host, "port": target.port, "proxy_jump": f"{bastion.host}:{bastion.port}"},
        {"host": "localhost", "port": bastion.port},
    ]
    batch = MultiConnection.from_shared_auth(hosts, "alice", key_path=target.alice.key.path)
    by_name = {"localhost": command}

    async def work() -> list[str]:
        async with batch as group:
            results = [
                await group.execute(command, forward_agent=True),
                await group.execute(command),
                await group.execute_map(by_name, forward_agent=True),
            ]
            async with group.stream(by_name, forward_agent=str(agent.socket)) as stream:
                last = [one.stdout async for _, one in stream]
        return [one.stdout for result in results for one in result.values()] + last

    if is_async:
        told = anyio.run(work)
    else:
        with batch:
            results = [
                batch.execute(command, forward_agent=True),
                batch.execute(command),
                batch.execute_map(by_name, forward_agent=True),
            ]
            told = [one.stdout for result in results for one in result.values()]
            told += [one.stdout for _, one in batch.stream(by_name, forward_agent=True)]
            with pytest.raises(TypeError, match="forward_agent"):
                batch.execute(command, forward_agent=3)  # type: ignore[arg-type]
    assert told == ["third\n", "third\n", "", "", "third\n", "third\n"]


def test_of_popen_and_shell(
    target: Sshd, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """A process and a shell have the agent until they end, and what they began loses it then."""
    agent.add(keys.get(name="inside"))
    with login(target, private_key=target.alice.key.path) as connection:
        with connection.popen("ssh-add -l", forward_agent=True) as process:
            assert keys.get(name="inside").fingerprint.encode() in process.stdout.read()
        with connection.shell(forward_agent=True) as shell:
            shell.send("ssh-add -l")
        assert shell.result is not None
        assert keys.get(name="inside").fingerprint in shell.result.stdout
        with connection.popen("echo $SSH_AUTH_SOCK; sleep 100", forward_agent=True) as process:
            path = process.stdout.readline().decode().strip()
            listed = connection.execute(f"SSH_AUTH_SOCK={path} ssh-add -l")
            assert listed.status == 0
        assert connection.execute(f"SSH_AUTH_SOCK={path} ssh-add -l").status != 0
        assert connection.execute("ssh-add -l").status != 0


def test_the_agent_knows_whom_it_is_lent_to(
    target: Sshd, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent, tmp_path: Path
) -> None:
    """A key for the way over the target may be used there; one for the target alone may not."""
    third = sshd_factory(name="third")
    key = keys.get("ecdsa-256", name="constrained")
    third.forget_keys(third.alice)
    third.authorize(third.alice, key)
    known = tmp_path / "servers"
    with known.open("w") as file:
        for name, server in (("second", target), ("third", third)):
            lines = server.known_hosts_line().splitlines()
            file.writelines(f"{name} {line.split(' ', 1)[1]}\n" for line in lines)
    command = ONWARD.format(host=third.host, port=third.port)

    def add(*constraints: str) -> None:
        words = [word for one in constraints for word in ("-h", one)]
        subprocess.run(
            ["ssh-add", "-q", *words, "-H", str(known), str(key.path)],
            check=True,
            env=clean_environment(**agent.environment),
        )

    with login(target, private_key=target.alice.key.path, known_hosts=()) as connection:
        add("second")
        assert connection.execute(command, forward_agent=True).stdout == ""
        add("second", "second>third")
        assert connection.execute(command, forward_agent=True).stdout == "third\n"


def test_of_a_configuration(
    target: Sshd, keys: Keys, agent: SshAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ForwardAgent of ssh_config lends it to each command, and an explicit False does not."""
    agent.add(keys.get(name="inside"))
    config = tmp_path / "config"
    config.write_text("ForwardAgent yes\n")
    options: dict[str, Any] = {"config": config, "host_key_policy": "accept-unknown"}
    with login(target, private_key=target.alice.key.path, **options) as connection:
        assert keys.get(name="inside").fingerprint in connection.execute("ssh-add -l").stdout
        assert connection.execute("ssh-add -l", forward_agent=False).status != 0
        monkeypatch.delenv("SSH_AUTH_SOCK")
        assert connection.execute("ssh-add -l").status != 0


def test_arguments(target: Sshd, agent: SshAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no agent is refused before anything is sent."""
    with login(target, private_key=target.alice.key.path) as connection:
        with pytest.raises(TypeError, match="forward_agent"):
            connection.execute("true", forward_agent=3)  # type: ignore[arg-type]
        monkeypatch.delenv("SSH_AUTH_SOCK")
        with pytest.raises(ValueError, match="SSH_AUTH_SOCK"):
            connection.execute("true", forward_agent=True)


def test_a_server_that_asks_unasked(agent: SshAgent, caplog: pytest.LogCaptureFixture) -> None:
    """A server that opens a channel to the agent without a loan is refused, and the log says so."""
    answers: list[bytes] = []
    services = Services(answered=lambda *_: True)

    def script(conn: Conn) -> None:
        conn.login()
        head = string("auth-agent@openssh.com") + u32(50) + u32(1 << 20) + u32(32768)
        conn.send(Msg.CHANNEL_OPEN, head)
        conn.serve(services, until=lambda: bool(conn.answers))
        answers.extend(conn.answers)
        conn.serve(services)

    with HostileServer(script) as server, caplog.at_level(logging.WARNING):
        options: dict[str, Any] = {"host_key_policy": "ignore"}
        with Connection(server.host, server.port, "u", "p", **options) as connection:
            connection.execute("true")
    assert [answer[0] for answer in answers] == [Msg.CHANNEL_OPEN_FAILURE]
    assert "asked for the ssh-agent" in caplog.text


def test_connections_to_the_agent_are_bounded(agent: SshAgent) -> None:
    """A server gets no more than so many connections to the agent at once, and the rest refused."""
    answers: list[bytes] = []
    asked: list[ChannelRequest] = []
    left = threading.Event()
    more = 5

    def requested(request: ChannelRequest) -> bool:
        asked.append(request)
        return True

    services = Services(answered=lambda *_: True, requested=requested)

    def script(conn: Conn) -> None:
        conn.login()
        conn.serve(services, until=lambda: bool(asked) and asked[-1].name == "exec")
        for number in range(MOST + more):
            head = string("auth-agent@openssh.com") + u32(number) + u32(1 << 20) + u32(32768)
            conn.send(Msg.CHANNEL_OPEN, head)
        conn.serve(services, until=lambda: len(conn.answers) == MOST + more)
        answers.extend(conn.answers)
        conn.send(Msg.CHANNEL_CLOSE, u32(asked[-1].channel.peer))
        left.wait(20)

    options: dict[str, Any] = {"host_key_policy": "ignore"}
    with (
        HostileServer(script) as server,
        Connection(server.host, server.port, "u", "p", **options) as connection,
    ):
        connection.execute("true", forward_agent=True)
        left.set()
    refused = [answer for answer in answers if answer[0] == Msg.CHANNEL_OPEN_FAILURE]
    assert [answer[5:9] for answer in refused] == [u32(4)] * more
