"""Logging in with a private key file: kinds, formats, exactly one attempt, four ways to fail."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from hussh import (
    AuthenticationError,
    Connection,
    KeyFileError,
    KeyRefused,
    KeyUnreadable,
    PassphraseRequired,
    WrongPassphrase,
)
from tests.auth.steps import SshdFactory, attempts, fingerprints, login, refused
from tests.support.agent import SshAgent
from tests.support.hostile import (
    HostileServer,
    Interactive,
    Password,
    PublicKey,
    Round,
    polite,
)
from tests.support.keys import FORMATS, KINDS, Keys
from tests.support.sshd import Sshd

PASSPHRASE = "correct horse 42"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_in_every_format(kind: str, target: Sshd, keys: Keys) -> None:
    """A key logs in from each file format, encrypted or not, with one request to the server."""
    formats = [form for form in FORMATS if (kind, form) != ("ed25519", "PEM")]
    for form in formats:
        for passphrase in (None, PASSPHRASE):
            key = keys.get(kind, name="alice", passphrase=passphrase, format=form)
            with login(target, private_key=key.path, password=passphrase) as connection:
                assert connection.private_key == str(key.path)
    count = 2 * len(formats)
    target.wait_for_log("^Accepted publickey", count=count)
    assert attempts(target) == [("publickey", "accepted")] * count
    plain = keys.get(kind, name="alice")
    assert fingerprints(target, "accepted") == [plain.fingerprint] * count


def test_tilde_is_the_home(target: Sshd, keys: Keys, home: Path) -> None:
    """A path that begins with a tilde is looked up in the home directory."""
    shutil.copy(keys.get(name="alice").path, home / "my key")
    with login(target, private_key="~/my key") as connection:
        assert connection.execute("echo in").stdout == "in\n"


def test_refused_key_costs_one_attempt(target: Sshd, keys: Keys, agent: SshAgent) -> None:
    """A refused key is one failed request, is named, and is followed by nothing else."""
    agent.add(keys.get(name="alice"))  # would be let in, but was not asked for
    stranger = keys.get(name="stranger")
    error = refused(target, private_key=stranger.path)
    assert type(error) is KeyRefused
    assert attempts(target) == [("publickey", "failed")]
    assert fingerprints(target, "failed") == [stranger.fingerprint]
    assert str(stranger.path) in str(error)
    assert stranger.fingerprint in str(error)
    assert error.methods_left == ("publickey", "password", "keyboard-interactive")
    assert "password= or prompt=" in str(error)


def test_refused_key_where_one_attempt_is_allowed(sshd_factory: SshdFactory, keys: Keys) -> None:
    """A server that hangs up on the first refusal refused the key all the same."""
    server = sshd_factory(options={"MaxAuthTries": 1})
    error = refused(server, private_key=keys.get(name="stranger").path)
    assert type(error) is KeyRefused
    assert "Too many authentication failures" in str(error)


def test_explicit_key_beside_a_full_agent(
    sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """With ten keys in the agent and three attempts allowed, a named key is the only request."""
    for number in range(10):
        agent.add(keys.get(name=f"many{number}"))
    server = sshd_factory(options={"MaxAuthTries": 3})
    with login(server, private_key=server.alice.key.path) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert attempts(server) == [("publickey", "accepted")]
    assert fingerprints(server, "accepted") == [server.alice.key.fingerprint]


def test_four_failures_are_four_classes(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """Wrong passphrase, none, unreadable file and refused key differ in class and in text."""
    locked = keys.get(name="alice", passphrase=PASSPHRASE)
    missing = tmp_path / "missing"
    stranger = keys.get(name="stranger")
    cases = [
        (WrongPassphrase, refused(target, private_key=locked.path, password="mistaken-4711")),
        (PassphraseRequired, refused(target, private_key=locked.path)),
        (KeyUnreadable, refused(target, private_key=missing)),
        (KeyRefused, refused(target, private_key=stranger.path)),
    ]
    texts = set()
    for cls, error in cases:
        assert type(error) is cls
        assert isinstance(error, AuthenticationError)
        assert isinstance(error, KeyFileError) == (cls is not KeyRefused)
        assert (error.hop_index, error.phase) == (0, "auth")
        assert error.hop == f"{target.alice.name}@{target.host}:{target.port}"
        assert "mistaken-4711" not in str(error) + repr(error)
        texts.add(error.text.replace(str(locked.path), "F").replace(str(missing), "F"))
    assert len(texts) == 4
    assert attempts(target) == [("publickey", "failed")]  # the server was asked about one only


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize("form", FORMATS)
def test_wrong_passphrase_in_every_format(
    form: str, passphrase: str | None, target: Sshd, keys: Keys
) -> None:
    """Each encrypted format tells a wrong passphrase from none."""
    key = keys.get("rsa", name="alice", passphrase=PASSPHRASE, format=form)
    wrong = None if passphrase is None else passphrase + "x"
    error = refused(target, private_key=key.path, password=wrong)
    assert type(error) is (PassphraseRequired if wrong is None else WrongPassphrase)
    assert PASSPHRASE not in str(error)
    assert attempts(target) == []


def test_unreadable_files_say_why(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """A directory, an empty file and a public key are unreadable, each for its own reason."""
    empty = tmp_path / "empty"
    empty.touch()
    public = tmp_path / "key.pub"
    public.write_text(keys.get(name="alice").public_line)
    for path, why in ((tmp_path, "directory"), (empty, "no private key"), (public, "public key")):
        error = refused(target, private_key=path)
        assert type(error) is KeyUnreadable
        assert why in str(error)
        assert str(path) in str(error)


def test_key_text_in_place_of_a_path(target: Sshd, keys: Keys) -> None:
    """A key may be given as text, but a piece of one is refused without being repeated."""
    text = keys.get(name="alice").text
    login(target, private_key=text).close()
    for piece in (text.split("-----\n", 1)[1], text.splitlines()[1], "".join(text.split())):
        with pytest.raises(KeyUnreadable) as caught:
            login(target, private_key=piece)
        error = caught.value
        assert text.splitlines()[1] not in f"{error!r} {error}"


@pytest.mark.parametrize("source", ["file", "agent"])
@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
def test_rsa_signs_with_what_the_server_takes(
    algorithm: str, source: str, sshd_factory: SshdFactory, keys: Keys, agent: SshAgent
) -> None:
    """An RSA key logs in where only one SHA-2 signature is accepted, at the second try at worst."""
    server = sshd_factory(options={"PubkeyAcceptedAlgorithms": algorithm})
    key = keys.get("rsa", name="alice")
    server.authorize(server.alice, key)
    agent.add(key)
    with login(server, private_key=key.path if source == "file" else None):
        server.wait_for_log("^Accepted publickey")
    outcomes = ["accepted"] if source == "file" else ["postponed", "accepted"]
    if algorithm == "rsa-sha2-256" and attempts(server)[0] == ("publickey", "failed"):
        outcomes.insert(0, "failed")  # this sshd lists rsa-sha2-512 and does not take it
    assert attempts(server) == [("publickey", outcome) for outcome in outcomes]


def test_rsa_with_sha1_is_not_made(keys: Keys) -> None:
    """A server that takes RSA with SHA-1 only gets no request, and the error says the reason."""
    script = polite(PublicKey())
    with HostileServer(script, sig_algs=("ssh-rsa",)) as server:
        with pytest.raises(KeyRefused, match=r"takes only .*ssh-rsa"):
            login_at(server, keys.get("rsa", name="alice").path)
        assert server.wait().auth_log == []


def test_refused_rsa_key_costs_two_attempts_at_most(target: Sshd, keys: Keys) -> None:
    """An RSA key is offered with each SHA-2 signature once, and then never again."""
    error = refused(target, private_key=keys.get("rsa", name="stranger").path)
    assert type(error) is KeyRefused
    assert attempts(target) == [("publickey", "failed")] * 2
    assert len(error.tried) == 1


def test_passphrase_stays_here_when_the_key_is_refused(keys: Keys) -> None:
    """A server that refused the key gets no passphrase, whatever else it asks for."""
    key = keys.get(name="alice", passphrase=PASSPHRASE)
    questions = Interactive(Round([("Password: ", False)]), check=lambda _: True)
    script = polite(PublicKey([]), Password(PASSPHRASE), questions)
    with HostileServer(script) as server:
        with pytest.raises(KeyRefused) as caught:
            login_at(server, key.path, PASSPHRASE)
        log = server.wait().auth_log
    assert [request.method for request in log] == ["publickey"]
    assert PASSPHRASE not in f"{caught.value!r} {caught.value}"


def test_password_is_tried_after_a_refused_plain_key(keys: Keys) -> None:
    """Where the key needs no passphrase, password= is the login password, tried next."""
    script = polite(PublicKey([]), Password("for-the-login"))
    with HostileServer(script) as server:
        login_at(server, keys.get(name="alice").path, "for-the-login")
        log = server.wait().auth_log
    assert [(request.method, request.password) for request in log] == [
        ("publickey", ""),
        ("password", "for-the-login"),
    ]


def login_at(server: HostileServer, private_key: Path, password: str | None = None) -> None:
    """Connect to a hostile server and hang up."""
    Connection(*server.address, "alice", password, private_key).close()
