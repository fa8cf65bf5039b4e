"""Logging in with what ssh-agent holds, and with the default key files after it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from hussh import AuthenticationError, Connection, ConnectTimeout
from tests.auth.steps import AgentFactory, SshdFactory, attempts, fingerprints, login, refused
from tests.support.agent import SshAgent
from tests.support.hostile import HostileServer, NoneAuth, Password, polite
from tests.support.keys import Key, Keys
from tests.support.sshd import Sshd

NOTHING_WORKS = "Failed to authenticate with ssh-agent and default SSH keys"


@contextlib.contextmanager
def agent_socket() -> Iterator[tuple[Path, socket.socket]]:
    """Listen where an agent would, without ever answering; yields the path and the listener."""
    with tempfile.TemporaryDirectory(prefix="agent-") as directory:
        path = Path(directory) / "agent"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.settimeout(20)
            yield path, listener


def install(key: Key, home: Path, name: str) -> None:
    """Make a key one of the default ones."""
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(key.path, home / ".ssh" / name)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "ecdsa-384", "ecdsa-521", "rsa"])
def test_every_kind(kind: str, target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """The agent of SSH_AUTH_SOCK signs with a key of each kind; nothing fails on the way."""
    agent.add(keys.get(kind, name="alice"))
    with login(target) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert attempts(target) == [("publickey", "postponed"), ("publickey", "accepted")]


def test_encrypted_key_needs_no_passphrase_here(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """A key that the agent has unlocked logs in without a passphrase of ours."""
    agent.add(keys.get(name="alice", passphrase="only for ssh-add"))
    login(target).close()


def test_keys_are_offered_in_order(
    sshd_factory: SshdFactory, keys: Keys, agent: SshAgent, home: Path
) -> None:
    """First the agent's keys, then id_rsa, id_ed25519, id_ecdsa; and no key is offered twice."""
    inside = keys.get(name="inside")
    files = [keys.get(kind, name="file") for kind in ("rsa", "ed25519", "ecdsa-256")]
    agent.add(inside)
    agent.add(files[1])
    for key, name in zip(files, ("id_rsa", "id_ed25519", "id_ecdsa"), strict=True):
        install(key, home, name)
    server = sshd_factory()
    server.authorize(server.alice, files[2])
    login(server).close()
    server.wait_for_log("^Accepted publickey")
    offered = [inside, files[1], files[0]]
    assert fingerprints(server, "failed") == [key.fingerprint for key in offered]
    assert fingerprints(server, "accepted") == [files[2].fingerprint]


@pytest.mark.parametrize(("kind", "name"), [("rsa", "id_rsa"), ("ed25519", "id_ed25519")])
def test_default_files_alone(kind: str, name: str, target: Sshd, keys: Keys, home: Path) -> None:
    """Without an agent a default key file logs in at the first attempt."""
    install(keys.get(kind, name="alice"), home, name)
    login(target).close()
    target.wait_for_log("^Accepted publickey")
    assert attempts(target) == [("publickey", "accepted")]


def test_default_file_that_cannot_be_used(target: Sshd, keys: Keys, home: Path) -> None:
    """An encrypted or broken default key is passed over, and the next one logs in."""
    install(keys.get("rsa", name="alice", passphrase="locked away"), home, "id_rsa")
    (home / ".ssh" / "id_ed25519").write_text("broken")
    install(keys.get("ecdsa-256", name="alice"), home, "id_ecdsa")
    login(target).close()
    target.wait_for_log("^Accepted publickey")
    assert attempts(target) == [("publickey", "accepted")]


def test_home_that_cannot_be_looked_at(
    target: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one cannot look for default keys, the login fails as without any, and says so."""
    # As with a home of another user, which would not stop root; a name that is too long does.
    monkeypatch.setenv("HOME", str(tmp_path / ("h" * 300)))
    error = refused(target, known_hosts=())
    assert type(error) is AuthenticationError
    assert str(error).startswith(NOTHING_WORKS)
    assert error.phase == "auth"
    assert len(error.tried) == 3
    assert all("(KeyUnreadable)" in tried for tried in error.tried)


def test_nothing_works(target: Sshd, keys: Keys, agent: SshAgent, home: Path) -> None:
    """When agent and files are refused the error has the known text and names every key."""
    inside, locked = keys.get(name="stranger"), keys.get("ecdsa-256", name="x", passphrase="lock")
    file = keys.get("ed25519", name="stranger2")
    agent.add(inside)
    install(file, home, "id_ed25519")
    install(locked, home, "id_ecdsa")
    error = refused(target)
    assert type(error) is AuthenticationError
    assert isinstance(error, RuntimeError)
    assert str(error).startswith(NOTHING_WORKS)
    assert inside.fingerprint in error.tried[0]
    assert file.fingerprint in error.tried[1]
    assert "PassphraseRequired" in error.tried[2]
    assert fingerprints(target, "failed") == [inside.fingerprint, file.fingerprint]


def test_nothing_there(target: Sshd) -> None:
    """With neither agent nor files the server is asked what it takes, and the error tells that."""
    error = refused(target)
    assert isinstance(error, AuthenticationError)
    assert str(error).startswith(NOTHING_WORKS)
    assert error.methods_left == ("publickey", "password", "keyboard-interactive")
    assert [outcome for method, outcome in attempts(target) if method == "publickey"] == []


def test_server_that_asks_for_nothing() -> None:
    """A server that lets anybody in does so without a credential."""
    with HostileServer(polite(NoneAuth(), Password("x"))) as server:
        Connection(*server.address, "alice").close()
        assert [request.method for request in server.wait().auth_log] == ["none"]


def test_more_keys_than_the_server_allows(
    sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """Ten keys against three attempts: the error lists what was tried and what was not."""
    many = [keys.get(name=f"many{number}") for number in range(10)]
    for key in many:
        agent.add(key)
    server = sshd_factory(options={"MaxAuthTries": 3})
    error = refused(server)
    assert type(error) is AuthenticationError
    assert str(error).startswith(NOTHING_WORKS)
    assert "Too many authentication failures" in str(error)
    assert [key.fingerprint in text for key, text in zip(many, error.tried, strict=False)] == [
        True
    ] * len(error.tried)
    assert fingerprints(server, "failed") == [key.fingerprint for key in many[:3]]
    assert len(error.tried) == 3
    assert "7 more keys of the agent were not offered" in str(error)
    assert "private_key=" in str(error)


def test_usual_limit_is_not_overrun(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """Of ten keys five are offered: one fewer than what makes a server hang up by default."""
    many = [keys.get(name=f"many{number}") for number in range(10)]
    for key in many:
        agent.add(key)
    error = refused(target)
    assert fingerprints(target, "failed") == [key.fingerprint for key in many[:5]]
    assert "Too many" not in target.log_text()
    assert "5 more keys of the agent were not offered" in str(error)


def test_agent_false_is_never_asked(target: Sshd, keys: Keys, agent: SshAgent, home: Path) -> None:
    """agent=False: a key in the agent is not offered, a default file is."""
    agent.add(keys.get("rsa", name="alice"))
    install(keys.get("ecdsa-256", name="alice"), home, "id_ecdsa")
    login(target, agent=False).close()
    target.wait_for_log("^Accepted publickey")
    assert fingerprints(target, "accepted") == [keys.get("ecdsa-256", name="alice").fingerprint]


@pytest.mark.parametrize("as_path", [str, Path])
def test_agent_by_path(
    as_path: type[str] | type[Path],
    target: Sshd,
    keys: Keys,
    agent: SshAgent,
    agent_factory: AgentFactory,
) -> None:
    """agent=path: that agent and not the one of the environment."""
    other = agent_factory()
    agent.add(keys.get("rsa", name="alice"))
    other.add(keys.get(name="alice"))
    login(target, agent=as_path(other.socket)).close()
    target.wait_for_log("^Accepted publickey")
    assert fingerprints(target, "accepted") == [keys.get(name="alice").fingerprint]


def test_agent_that_is_gone(target: Sshd, keys: Keys, agent: SshAgent, home: Path) -> None:
    """A dead socket costs nothing but a word in the error; the default files are still tried."""
    agent.stop()
    error = refused(target)
    assert isinstance(error, AuthenticationError)
    assert str(error).startswith(NOTHING_WORKS)
    assert error.tried[0].startswith("ssh-agent (")
    install(keys.get(name="alice"), home, "id_ed25519")
    login(target).close()


def test_locked_agent(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """A locked agent has no keys to offer."""
    agent.add(keys.get(name="alice"))
    agent.lock("secret of the agent")
    error = refused(target)
    assert str(error).startswith(NOTHING_WORKS)
    assert "publickey" not in [method for method, _ in attempts(target)]


def test_agent_that_hangs_up_when_asked_to_sign(
    target: Sshd, keys: Keys, agent: SshAgent, home: Path
) -> None:
    """An agent that lists a key and dies before it signs is passed over like a refused one."""
    agent.add(keys.get(name="alice"))
    install(keys.get("ecdsa-256", name="alice"), home, "id_ecdsa")
    with agent_socket() as (path, listener):

        def list_once() -> None:
            with listener.accept()[0] as client, socket.socket(socket.AF_UNIX) as real:
                real.connect(str(agent.socket))
                for _ in ("session-bind", "the list"):
                    real.sendall(client.recv(65536))
                    client.sendall(real.recv(65536))
            listener.accept()[0].close()  # when it is told for which server
            listener.accept()[0].close()  # and when it is only asked to sign

        thread = threading.Thread(target=list_once)
        thread.start()
        login(target, agent=path).close()
        thread.join()
    target.wait_for_log("^Accepted publickey")
    assert attempts(target) == [("publickey", "postponed"), ("publickey", "accepted")]
    assert fingerprints(target, "accepted") == [keys.get("ecdsa-256", name="alice").fingerprint]


def test_agent_that_refuses_to_be_bound(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """An agent that refuses what it does not know, and hangs up then, signs as ever."""
    agent.add(keys.get(name="alice"))
    unknown = 0
    with agent_socket() as (path, listener):

        def serve() -> None:
            nonlocal unknown
            while True:
                client = listener.accept()[0]
                with client, socket.socket(socket.AF_UNIX) as real:
                    real.connect(str(agent.socket))
                    while (request := client.recv(65536)) and request != b"over":
                        if request[4] == 27:  # SSH_AGENTC_EXTENSION
                            unknown += 1
                            client.sendall(b"\0\0\0\1\5")
                            break
                        real.sendall(request)
                        client.sendall(real.recv(65536))
                    if request == b"over":
                        return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with login(target, agent=path) as connection:
                assert unknown == 2, "before the list and before the signature"
                assert connection.execute("echo in").stdout == "in\n"
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b"over")
            thread.join()


def test_agent_that_hangs(target: Sshd) -> None:
    """An agent that never answers: ConnectTimeout while authenticating, within the time allowed."""
    with agent_socket() as (path, _):
        started = monotonic()
        error = refused(target, agent=path, timeout=700)
        elapsed = monotonic() - started
    assert type(error) is ConnectTimeout
    assert isinstance(error, TimeoutError)
    assert (error.hop_index, error.phase) == (0, "auth")
    assert "700 ms" in str(error)
    assert 0.6 < elapsed < 10
