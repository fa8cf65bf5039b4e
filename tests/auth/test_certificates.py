"""User certificates (U32): beside a key file and in the agent, for every kind of key."""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from hussh import ConnectError, KeyRefused
from tests.auth.steps import AgentFactory, SshdFactory, attempts, login, refused
from tests.support.keys import KINDS, Keys
from tests.support.sshd import Sshd


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Make a certificate authority; return its private key file."""
    path = tmp_path / "ca"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path


@pytest.fixture
def trusting(sshd_factory: SshdFactory, authority: Path, tmp_path: Path) -> Sshd:
    """Start a server that trusts the authority and knows no key of its own for alice."""
    server = sshd_factory(options={"TrustedUserCAKeys": _copied(authority, tmp_path)})
    server.forget_keys(server.alice)
    return server


def _copied(authority: Path, folder: Path) -> str:
    public = folder / "trusted.pub"
    public.write_text(authority.with_suffix(".pub").read_text())
    folder.chmod(0o755)
    return str(public)


def certified(authority: Path, keys: Keys, kind: str, folder: Path, *principals: str) -> Path:
    """Copy a key into a folder and sign it; return the private key's path."""
    key = keys.get(kind, name="certified")
    path = folder / f"id-{kind}"
    path.write_text(key.text)
    path.chmod(0o600)
    path.with_name(path.name + ".pub").write_text(key.public_line + "\n")
    subprocess.run(
        ["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", ",".join(principals),
         path.with_name(path.name + ".pub")],
        check=True,
    )  # fmt: skip
    return path


def test_pipe_in_the_place_of_a_certificate(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """A named pipe that nobody writes to is no certificate, and nobody waits for it."""
    path = tmp_path / "key"
    path.write_text(keys.get(name="alice").text)
    path.chmod(0o600)
    os.mkfifo(tmp_path / "key-cert.pub")
    lines: list[str] = []

    def run() -> None:
        with login(target, private_key=path) as connection:
            lines.append(connection.execute("echo in").stdout)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(20)
    if thread.is_alive():  # let it go on before the test fails
        os.close(os.open(tmp_path / "key-cert.pub", os.O_WRONLY))
        thread.join()
        pytest.fail("it waited for somebody to write into the pipe")
    assert lines == ["in\n"]


def test_no_descriptor_for_a_certificate(
    trusting: Sshd, authority: Path, keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A certificate that could not be opened for want of descriptors is not taken for missing."""
    path = certified(authority, keys, "ed25519", tmp_path, trusting.alice.name)
    real_open = os.open

    def scarce(name: Any, *more: Any, **named: Any) -> int:
        if str(name).endswith("-cert.pub"):
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real_open(name, *more, **named)

    monkeypatch.setattr(os, "open", scarce)
    with pytest.raises(ConnectError, match="Too many open files"):
        login(trusting, private_key=path).close()


@pytest.mark.parametrize("kind", KINDS)
def test_certificate_beside_a_key(
    trusting: Sshd, authority: Path, keys: Keys, tmp_path: Path, kind: str
) -> None:
    """A server that trusts only the authority takes the key for its certificate, at once."""
    path = certified(authority, keys, kind, tmp_path, trusting.alice.name)
    with login(trusting, private_key=path) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert attempts(trusting) == [("publickey", "accepted")]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa-256", "rsa"])
def test_certificate_in_the_agent(
    trusting: Sshd,
    authority: Path,
    keys: Keys,
    tmp_path: Path,
    agent_factory: AgentFactory,
    kind: str,
) -> None:
    """ssh-add loads the certificate with the key, and the agent signs for it."""
    path = certified(authority, keys, kind, tmp_path, trusting.alice.name)
    agent = agent_factory()
    subprocess.run(["ssh-add", "-q", path], check=True, env={"SSH_AUTH_SOCK": str(agent.socket)})
    with login(trusting, agent=agent.socket) as connection:
        assert connection.execute("echo in").stdout == "in\n"


def test_wrong_principal(trusting: Sshd, authority: Path, keys: Keys, tmp_path: Path) -> None:
    """A certificate for somebody else does not let alice in, nor does the bare key."""
    path = certified(authority, keys, "ed25519", tmp_path, "mallory")
    assert isinstance(refused(trusting, private_key=path), KeyRefused)


def test_stale_certificate(target: Sshd, authority: Path, keys: Keys, tmp_path: Path) -> None:
    """A certificate of another key beside the file is ignored; the key itself counts."""
    path = certified(authority, keys, "ed25519", tmp_path, target.alice.name)
    path.write_text(target.alice.key.text)
    with login(target, private_key=path) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert attempts(target) == [("publickey", "accepted")]


def test_useless_certificate(target: Sshd, authority: Path, keys: Keys, tmp_path: Path) -> None:
    """Where the server trusts no authority, the key itself follows the certificate."""
    path = certified(authority, keys, "ed25519", tmp_path, target.alice.name)
    target.authorize(target.alice, keys.get("ed25519", name="certified"), target.alice.key)
    try:
        with login(target, private_key=path) as connection:
            assert connection.execute("echo in").stdout == "in\n"
    finally:
        target.forget_keys(target.alice)
        for kind in KINDS:
            target.authorize(target.alice, keys.get(kind, name="alice"))
