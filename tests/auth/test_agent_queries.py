"""OpenSSH is asked about several keys of the agent at once, and no login fails for that."""

from __future__ import annotations

import pytest

from hussh import AuthenticationError, Connection
from tests.auth.steps import SshdFactory, attempts, fingerprints, login, refused
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import Conn, HostileServer, Msg, PublicKey
from tests.support.hostile_wire import message, string
from tests.support.keys import Key, Keys
from tests.support.sshd import Sshd

OPENSSH = b"SSH-2.0-OpenSSH_9.9"


def held(keys: Keys, agent: SshAgent, count: int) -> list[Key]:
    """Give the agent so many keys, none of which a server knows yet."""
    made = [keys.get(name=f"one-of-many-{number}") for number in range(count)]
    for key in made:
        agent.add(key)
    return made


def start(sshd_factory: SshdFactory, tries: int, *good: Key) -> Sshd:
    """Start a server that lets alice in with these keys only."""
    server = sshd_factory(options={"MaxAuthTries": tries})
    server.forget_keys(server.alice)
    server.authorize(server.alice, *good)
    return server


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_three_at_once(api: Api, keys: Keys, agent: SshAgent) -> None:
    """Two refused keys cost no round trip: all queries are there before anything is answered."""
    first, second, third = held(keys, agent, 3)

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        asked = [conn.read_auth_request() for _ in range(4)]
        assert [one.method for one in asked] == ["none", *3 * ["publickey"]]
        assert [one.blob for one in asked[1:]] == [first.blob, second.blob, third.blob]
        for _ in range(3):
            conn.auth_failure(["publickey"])
        conn.send(Msg.USERAUTH_PK_OK, string(asked[3].algorithm), string(third.blob))
        signed = conn.read_auth_request()
        assert signed.blob == third.blob
        assert PublicKey({third.blob}).judge(conn, signed)
        conn.auth_success()
        conn.serve()

    with HostileServer(script, version=OPENSSH) as server:

        async def main() -> None:
            session = await api.connect(*server.address, username="alice")
            assert (await session.execute("echo in")).status == 0
            await session.close()

        api.run(main)
        server.wait()


@pytest.mark.parametrize("version", [OPENSSH, b"SSH-2.0-Other"])
def test_rsa_key_does_not_wait_for_the_service(version: bytes, keys: Keys) -> None:
    """An RSA key is offered once the server's list of signatures is there, which comes first."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        service = conn.read_packet()
        assert conn.read_auth_request().algorithm == "rsa-sha2-512"
        conn.unread(service)
        conn.expect_service()
        conn.auth_success()
        conn.serve()

    # The first RSA key of a process waits for an import.
    with HostileServer(script, version=version, sig_algs=["rsa-sha2-512"], timeout=60.0) as server:
        key = keys.get("rsa").path
        Connection(*server.address, "alice", private_key=key).close()
        server.wait()


def test_answers_of_keys_behind_the_right_one(keys: Keys, agent: SshAgent) -> None:
    """Their answers come before that of the signature, and none is taken for another."""
    made = held(keys, agent, 4)
    blobs = [key.blob for key in made]

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        asked = [conn.read_auth_request() for _ in range(4)]
        conn.auth_failure(["publickey"])
        would_do = message(Msg.USERAUTH_PK_OK, string(asked[1].algorithm), string(blobs[0]))
        conn.send_packet(would_do)
        assert conn.read_auth_request().signature
        conn.send_packet(message(Msg.USERAUTH_PK_OK, string(asked[2].algorithm), string(blobs[1])))
        conn.auth_failure(["publickey"])  # of the third
        conn.auth_failure(["publickey"])  # of the signature
        assert conn.read_auth_request().blob == blobs[1]  # signed at once
        conn.auth_failure(["publickey"])
        last = conn.read_auth_request()
        assert (last.blob, last.signature) == (blobs[3], b"")
        conn.auth_failure(["publickey"])

    with HostileServer(script, version=OPENSSH) as server:
        with pytest.raises(AuthenticationError) as caught:
            login_to(server)
        tried = [name.split("(")[-1].strip(")") for name in caught.value.tried]
        assert tried == [key.fingerprint for key in made]
        server.wait()


def login_to(server: HostileServer) -> None:
    """Try to log in there with the agent's keys."""
    Connection(*server.address, "alice").close()


def test_other_servers_are_asked_one_by_one(keys: Keys, agent: SshAgent) -> None:
    """Where the banner is not OpenSSH's, no request comes before the answer to the last one."""
    held(keys, agent, 3)
    seen: list[int] = []

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        for _ in range(4):
            conn.read_auth_request()
            conn.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                conn.sock.recv(1)
            conn.sock.settimeout(10)
            seen.append(1)
            conn.auth_failure(["publickey"])

    with HostileServer(script, version=b"SSH-2.0-AsyncSSH_2") as server:
        with pytest.raises(AuthenticationError):
            login_to(server)
        server.wait()
    assert len(seen) == 4


@pytest.mark.parametrize(("tries", "good"), [(1, 0), (2, 0), (2, 1)])
def test_server_that_allows_few_refusals(
    tries: int, good: int, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """OpenSSH ends the connection for the keys behind the right one: once, and nobody hears it."""
    made = held(keys, agent, 3)
    server = start(sshd_factory, tries, made[good])
    for connections in (2, 3):  # the server is remembered
        login(server).close()
        server.wait_for_log("^Accepted publickey", count=connections - 1)
        assert server.connections() == connections


def test_server_with_none_of_them(sshd_factory: SshdFactory, keys: Keys, agent: SshAgent) -> None:
    """Where no key would do there is no second try, and the error says how it ended."""
    made = held(keys, agent, 3)
    server = start(sshd_factory, 2)
    error = refused(server)
    assert server.connections() == 1
    assert made[0].fingerprint in str(error)


def test_usual_server(sshd_factory: SshdFactory, keys: Keys, agent: SshAgent) -> None:
    """With MaxAuthTries of 4 any of four keys logs in; at most two are refused besides."""
    made = held(keys, agent, 4)
    for position in range(4):
        server = start(sshd_factory, 4, made[position])
        login(server).close()
        server.wait_for_log("^Accepted publickey")
        assert server.connections() == 1
        assert len(fingerprints(server, "failed")) == max(2, position)
        assert attempts(server)[-1] == ("publickey", "accepted")
