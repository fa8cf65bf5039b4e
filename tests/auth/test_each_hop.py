"""Bastion and target with credentials of their own: all combinations, and nothing gets about."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest

from hussh import Connection, PromptRequest
from tests.auth.steps import RelayFactory, SshdFactory, attempts, login
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import HostileServer, Password, polite
from tests.support.keys import Keys
from tests.support.selection import LONG
from tests.support.sshd import Sshd

WAYS = ("password", "encrypted key", "agent", "keyboard-interactive")


class Hops:
    """A bastion and a target per way to log in, each of which takes only that way."""

    def __init__(self, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent) -> None:
        self._factory, self._keys, self._agent = sshd_factory, keys, agent

    def server(self, way: str, role: str) -> Sshd:
        """Start a server that takes this way only."""
        options: dict[str, Any] = {
            "PasswordAuthentication": "yes" if way == "password" else "no",
            "KbdInteractiveAuthentication": "yes" if way == "keyboard-interactive" else "no",
            "PubkeyAuthentication": "no" if way in WAYS[::3] else "yes",
        }
        pam = "password+otp" if way == "keyboard-interactive" else "password"
        server: Sshd = self._factory(name=role, options=options, pam=pam)
        if way in ("encrypted key", "agent"):
            server.forget_keys(server.alice)
            server.authorize(server.alice, self._keys.get(name=f"{way} of {role}"))
        return server

    def credentials(self, way: str, role: str, server: Sshd) -> tuple[dict[str, Any], list[str]]:
        """Return the arguments for logging in, and the secrets among them."""
        alice = server.alice
        if way == "password":
            return {"password": alice.password}, [alice.password]
        if way == "encrypted key":
            passphrase = f"passphrase of the {role}"
            key = self._keys.get(name=f"{way} of {role}", passphrase=passphrase)
            body = key.text.splitlines()[2]
            return {"private_key": key.path, "password": passphrase}, [passphrase, body]
        if way == "agent":
            self._agent.add(self._keys.get(name=f"{way} of {role}"))
            return {}, []

        def prompt(_: PromptRequest) -> list[str]:
            return [alice.otp]

        return {"password": alice.password, "prompt": prompt}, [alice.password, alice.otp]


@pytest.mark.parametrize("bastion_way", WAYS)
def test_every_combination(
    bastion_way: str,
    sshd_factory: SshdFactory,
    relay_factory: RelayFactory,
    keys: Keys,
    agent: SshAgent,
) -> None:
    """Each way at the bastion with each way at the target, over one login at the bastion.

    In every API, or without HUSSH_LONG=1 in two by turns.  A relay between the two
    records what the bastion sees of the target: no secret is in it.
    """
    hops = Hops(sshd_factory, keys, agent)
    bastion = hops.server(bastion_way, "bastion")
    own, _ = hops.credentials(bastion_way, "bastion", bastion)
    targets = {way: hops.server(way, "target") for way in WAYS}
    secrets: list[str] = []

    async def travel(api: Api) -> None:
        carrier = await api.connect(bastion.host, bastion.port, username="alice", **own)
        for way, target in targets.items():
            relay = relay_factory(target, record=True)
            given, its_secrets = hops.credentials(way, "target", target)
            session = await api.connect(
                relay.host, relay.port, username="alice", proxy_jump=carrier, **given
            )
            assert (await session.execute("echo $SERVER_NAME")).stdout == "target\n"
            await session.close()
            seen = relay.recorded("to_server")
            assert len(seen) > 500
            assert [one for one in its_secrets if one.encode() in seen] == []
            secrets.extend(its_secrets)
        await carrier.close()

    first = WAYS.index(bastion_way)
    apis = APIS if LONG else [APIS[(first + more) % len(APIS)] for more in range(2)]
    for count, api in enumerate(apis, 1):
        api.run(partial(travel, api))
        for target in targets.values():
            target.wait_for_log("^Accepted ", count=count)
            accepted = [each.user for each in target.authentications() if each.accepted]
            assert accepted == ["alice"] * count
        log = bastion.log_text()
        assert [one for one in secrets if one in log] == []
        assert bastion.connections() == count
        assert [outcome for _, outcome in attempts(bastion)].count("accepted") == count


def test_bastion_that_reads_everything_learns_nothing(
    target: Sshd, relay_factory: RelayFactory
) -> None:
    """A hostile bastion that keeps all it decrypts has its own password and not the target's."""
    relay = relay_factory(target, record=True)
    alice = target.alice

    def forward(_host: str, port: int) -> socket.socket:
        return socket.create_connection((relay.host, port))

    with HostileServer(polite(Password("for-the-bastion"), forward=forward)) as server:
        with (
            Connection(*server.address, "jumper", "for-the-bastion") as carrier,
            Connection(
                "target.internal", relay.port, "alice", alice.password, proxy_jump=carrier
            ) as connection,
        ):
            assert connection.execute("echo in").stdout == "in\n"
        conn = server.wait()
    assert [(each.user, each.password) for each in conn.auth_log] == [("jumper", "for-the-bastion")]
    assert [request.target for request in conn.opens] == [("target.internal", relay.port)]
    assert alice.password.encode() not in relay.recorded("to_server")
    assert "alice" not in repr(conn.opens)


def test_named_bastion_gets_the_credentials_of_the_target(target: Sshd, bastion: Sshd) -> None:
    """A bastion given as text has no credentials of its own: it is offered the target's key."""
    key = target.alice.key
    bastion.authorize(bastion.alice, key)
    where = f"{bastion.alice.name}@{bastion.host}:{bastion.port}"
    with login(target, private_key=key.path, proxy_jump=where) as connection:
        assert connection.execute("echo $SERVER_NAME").stdout == "target\n"
    assert attempts(bastion) == attempts(target) == [("publickey", "accepted")]
