"""Where no credential is given, ``none`` goes first (RFC 4252 section 5.2), and costs nothing."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from hussh import AuthenticationError, Connection
from tests.auth.steps import SshdFactory, login, refused
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import (
    Conn,
    HostileServer,
    Interactive,
    Msg,
    NoneAuth,
    Password,
    PublicKey,
    Round,
    polite,
)
from tests.support.keys import Keys
from tests.support.sshd import Sshd

OPENSSH = b"SSH-2.0-OpenSSH_9.9"
NOT_ASKED = "would be asked first to let you in with none"


@pytest.fixture
def inside(keys: Keys, agent: SshAgent) -> SshAgent:
    """Return an agent with one key in it."""
    agent.add(keys.get(name="alice"))
    return agent


@pytest.fixture
def open_sshd(sshd_factory: SshdFactory) -> Sshd:
    """Return an OpenSSH that lets alice in without anything."""
    server = sshd_factory(pam=None, options={"PermitEmptyPasswords": "yes"})
    shadow = server._config / "etc" / "shadow"
    lines = shadow.read_text().splitlines()
    with shadow.open("w") as file:
        for line in lines:
            name, _, rest = line.split(":", 2)
            file.write(f"alice::{rest}\n" if name == "alice" else f"{line}\n")
    server.forget_keys(server.alice)
    return server


def methods(conn: Conn) -> list[str]:
    """Return the methods that were asked for, in order."""
    return [request.method for request in conn.auth_log]


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_open_server_in_spite_of_a_key(api: Api, inside: SshAgent) -> None:
    """A server that lets anybody in is entered though the agent has a key, which it never sees."""
    with HostileServer(polite(NoneAuth(), Password("x"))) as server:

        async def main() -> None:
            session = await api.connect(*server.address, username="alice")
            assert (await session.execute("echo in")).status == 0
            await session.close()

        api.run(main)
        assert methods(server.wait()) == ["none"]


@pytest.mark.needs_root
@pytest.mark.parametrize("options", [{}, {"compression": True}], ids=["plain", "compression"])
def test_open_openssh(open_sshd: Sshd, inside: SshAgent, options: dict[str, bool]) -> None:
    """OpenSSH that takes nobody's credential is entered, also where it then begins to compress."""
    with login(open_sshd, **options) as connection:
        assert connection.execute("echo in").stdout == "in\n"
        assert connection.execute("head -c 100000 /dev/zero | wc -c").stdout.strip() == "100000"


def first_two(answer: Callable[[Conn], object]) -> Callable[[Conn], None]:
    """Make a script that answers nothing before ``none`` and a key have come."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        none, key = conn.read_auth_request(), conn.read_auth_request()
        assert (none.method, key.method) == ("none", "publickey")
        answer(conn)
        conn.serve()

    return script


def test_first_key_of_the_agent_comes_with_it(inside: SshAgent) -> None:
    """OpenSSH gets the question about the first key at the same time: no round trip more."""

    def answer(conn: Conn) -> None:
        conn.auth_failure(["publickey"])
        key = conn.auth_log[-1]
        PublicKey().judge(conn, key)
        signed = conn.read_auth_request()
        assert signed.blob == key.blob
        assert signed.signature
        conn.auth_success()

    with HostileServer(first_two(answer), version=OPENSSH) as server:
        with Connection(*server.address, "alice") as connection:
            assert connection.execute("echo in").status == 0
        server.wait()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_first_key_file_comes_with_it(keys: Keys, home: Path, kind: str) -> None:
    """The same for a default key file, which is signed with at once."""
    (home / ".ssh").mkdir(mode=0o700)
    shutil.copy(keys.get(kind, name="alice").path, home / ".ssh" / f"id_{kind}")

    def answer(conn: Conn) -> None:
        conn.auth_failure(["publickey"])
        assert conn.auth_log[-1].signature
        conn.auth_success()

    with HostileServer(first_two(answer), version=OPENSSH) as server:
        with Connection(*server.address, "alice") as connection:
            assert connection.execute("echo in").status == 0
        server.wait()


def test_success_with_a_key_on_the_way(inside: SshAgent, caplog: pytest.LogCaptureFixture) -> None:
    """SUCCESS for ``none`` ends the login where a key was asked about; a second SUCCESS, too."""

    def answer(conn: Conn) -> None:
        conn.auth_success()
        conn.auth_success()

    caplog.set_level(logging.INFO, "hussh.auth")
    with HostileServer(first_two(answer), version=OPENSSH) as server:
        with Connection(*server.address, "alice") as connection:
            assert connection.execute("echo in").status == 0
            assert connection.execute("echo in").status == 0
        server.wait()
    records = [record for record in caplog.records if record.name == "hussh.auth"]
    assert [record.getMessage()[-15:] for record in records] == ["logged in: none"]


def test_success_of_the_second_only(inside: SshAgent) -> None:
    """What is refused to ``none`` may be granted to the key that came with it, unsigned or not."""

    def answer(conn: Conn) -> None:
        conn.auth_failure(["publickey"])
        conn.auth_success()

    with HostileServer(first_two(answer), version=OPENSSH) as server:
        Connection(*server.address, "alice").close()
        server.wait()


def test_success_that_nobody_asked_for(inside: SshAgent) -> None:
    """After both requests were refused a SUCCESS without a request lets nobody in."""

    def answer(conn: Conn) -> None:
        conn.auth_failure(["publickey"])
        conn.auth_failure(["password"])
        conn.auth_success()

    with HostileServer(first_two(answer), version=OPENSSH) as server:
        with pytest.raises(AuthenticationError) as caught:
            Connection(*server.address, "alice")
        server.wait()
    assert caught.value.methods_left == ("password",)


@pytest.mark.parametrize("version", [OPENSSH, b"SSH-2.0-Go"])
def test_partial_success(inside: SshAgent, version: bytes) -> None:
    """A server may count ``none`` as the first of two factors."""
    script = polite(NoneAuth(), PublicKey(), require_all=True)
    with HostileServer(script, version=version) as server:
        Connection(*server.address, "alice").close()
        assert methods(server.wait()) == ["none", "publickey", "publickey"]
    with HostileServer(polite(NoneAuth(), Password("x"), require_all=True)) as server:
        with pytest.raises(AuthenticationError, match="wants another") as caught:
            Connection(*server.address, "alice", agent=False)
        server.wait()
    assert caught.value.methods_left == ("password",)


def test_methods_are_known(agent: SshAgent) -> None:
    """With nothing to try the error says what the server takes; a prompt answers then."""
    question = Interactive(Round([("Code: ", False)]), answers=[["7"]])
    with HostileServer(polite(question, Password("x"))) as server:
        with pytest.raises(AuthenticationError, match="no key to try") as caught:
            Connection(*server.address, "alice")
        Connection(*server.address, "alice", prompt=lambda _: ["7"]).close()
        assert methods(server.wait(2)) == ["none", "keyboard-interactive"]
    assert caught.value.methods_left == ("keyboard-interactive", "password")
    assert "password= or prompt= can answer" in str(caught.value)


def test_keys_are_kept_where_they_are_useless(inside: SshAgent) -> None:
    """Elsewhere than at OpenSSH no key is shown to a server that takes none."""
    with HostileServer(polite(Password("x"))) as server:
        with pytest.raises(AuthenticationError):
            Connection(*server.address, "alice")
        assert methods(server.wait()) == ["none"]


@pytest.mark.needs_root
def test_explicit_credentials_stay_alone(target: Sshd, keys: Keys, inside: SshAgent) -> None:
    """A refused password or key is not followed by ``none``, and the error tells of it."""
    error = refused(target, password="wrong")
    assert NOT_ASKED in str(error)
    assert "server accepts: publickey, password" in str(error)
    error = refused(target, private_key=keys.get(name="stranger").path)
    assert NOT_ASKED in str(error)
    assert NOT_ASKED not in str(refused(target, username="nobody-here"))
    with HostileServer(polite(NoneAuth(), Password("right"))) as server:
        with pytest.raises(AuthenticationError, match=NOT_ASKED):
            Connection(*server.address, "alice", "wrong")
        assert methods(server.wait()) == ["password"]


@pytest.mark.needs_root
def test_empty_password(open_sshd: Sshd) -> None:
    """An empty password is one where allow_empty_password= says so, and none without it."""
    with login(open_sshd, password="", allow_empty_password=True) as connection:
        assert connection.execute("echo in").stdout == "in\n"
        assert connection.password == ""
    with HostileServer(polite(Password(""))) as server:
        Connection(*server.address, "alice", "", allow_empty_password=True).close()
        with pytest.raises(AuthenticationError):
            Connection(*server.address, "alice", "", agent=False)
        conn = server.wait(2)
        assert [methods(one) for one in (server.conns[0], conn)] == [["password"], ["none"]]


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_allow_empty_password_is_a_bool(value: object) -> None:
    """Anything but a bool is refused before anything is opened."""
    with pytest.raises(TypeError, match="allow_empty_password must be a bool"):
        Connection("127.0.0.1", 1, allow_empty_password=value)  # type: ignore[arg-type]


def test_request_after_success_is_not_sent_elsewhere(inside: SshAgent) -> None:
    """A server that takes a request after SUCCESS for a breach, as Go's do, gets none."""

    def script(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        assert conn.read_auth_request().method == "none"
        conn.auth_success()
        payload = conn.read_packet()
        assert payload[0] != Msg.USERAUTH_REQUEST
        conn.unread(payload)
        conn.serve()

    with HostileServer(script, version=b"SSH-2.0-Go") as server:
        with Connection(*server.address, "alice") as connection:
            assert connection.execute("echo in").status == 0
        server.wait()
