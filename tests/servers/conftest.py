"""Other servers than OpenSSH, with the accounts of one of our sshds."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.sshd import Sshd
from tests.support.watch import wait_for_text


def program(name: str) -> str:
    """Return the path of a program, or skip the test where it is not installed."""
    path = shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def surroundings(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Start an sshd that has the accounts; let alice's key in where other servers look."""
    server = sshd_factory()
    folder = server.alice.files / ".ssh"
    folder.mkdir(mode=0o700)
    authorized = folder / "authorized_keys"
    authorized.write_text(server.alice.key.public_line + "\n")
    authorized.chmod(0o600)
    for path in (folder, authorized):
        os.chown(path, server.alice.uid, server.alice.gid)
    server.alice.files.chmod(0o700)
    return server


def inside(server: Sshd, *command: str) -> list[str]:
    """Return the command that runs another where the server's accounts are."""
    return server.inside(*command)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def running(
    command: list[str], log: Path, *, ready: str, env: dict[str, str] | None = None
) -> Iterator[None]:
    """Run a server that writes to a log, from the moment when `ready` stands there."""
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=env,
        )
    try:
        wait_for_text(log, lambda text: ready in text, timeout=20, writer=process.pid)
        yield
    finally:
        os.killpg(process.pid, 15)
        process.wait(10)


@pytest.fixture
def dropbear(surroundings: Sshd, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Start dropbear on a free port; yield its address."""
    path = program("dropbear")
    key = surroundings.alice.files / "dropbear-key"
    subprocess.run(
        [program("dropbearkey"), "-t", "ed25519", "-f", key], check=True, capture_output=True
    )
    port = free_port()
    command = inside(
        surroundings, path, "-F", "-E", "-p", f"127.0.0.1:{port}",
        "-r", surroundings.alice.path("dropbear-key"),
    )  # fmt: skip
    with running(command, tmp_path / "dropbear.log", ready="Not backgrounding"):
        yield "127.0.0.1", port


@pytest.fixture
def lshd(surroundings: Sshd, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Start lshd on a free port; yield its address.

    The modulus of its RSA key has one bit more than whole bytes, so that about half of its
    signatures begin with a zero byte, which lshd leaves out.
    """
    path = program("lshd")
    if os.geteuid() != 0:
        pytest.skip("needs root: lshd checks passwords in a helper that changes its user")
    home = surroundings.alice.files
    seed = home / "lsh-seed"
    seed.write_bytes(os.urandom(32))
    seed.chmod(0o600)
    environment = {**os.environ, "LSH_YARROW_SEED_FILE": str(seed)}
    made = subprocess.run(
        [program("lsh-keygen"), "-a", "rsa", "-l", "2049"],
        check=True, capture_output=True, env=environment,
    )  # fmt: skip
    subprocess.run(
        [program("lsh-writekey"), "--server", "-c", "none", "-o", str(home / "lsh-key")],
        check=True, capture_output=True, env=environment, input=made.stdout,
    )  # fmt: skip
    port = free_port()
    command = inside(
        surroundings, path, "--trace", "-p", str(port), "--interface=127.0.0.1",
        "-h", surroundings.alice.path("lsh-key"), "--no-pid-file", "--no-syslog",
    )  # fmt: skip
    environment["LSH_YARROW_SEED_FILE"] = surroundings.alice.path("lsh-seed")
    with running(command, tmp_path / "lshd.log", ready="bound socket", env=environment):
        yield "127.0.0.1", port


@pytest.fixture
def tinyssh(surroundings: Sshd) -> list[str]:
    """Return the command of a tinysshd that speaks over stdin and stdout."""
    path = program("tinysshd")
    keys = surroundings.alice.files / "tinyssh-keys"
    subprocess.run([program("tinysshd-makekey"), "-q", keys], check=True)
    return inside(surroundings, path, "-v", surroundings.alice.path("tinyssh-keys"))
