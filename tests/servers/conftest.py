"""Other servers than OpenSSH, with the accounts of one of our sshds."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.dropbear import Dropbear
from tests.support.listeners import free_port
from tests.support.server_program import find_program, let_alice_in, running
from tests.support.sshd import Sshd


def program(name: str) -> str:
    """Return the path of a program, or skip the test where it is not installed."""
    path = find_program(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture
def surroundings(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Start an sshd that has the accounts; let alice's key in where other servers look."""
    server = sshd_factory()
    let_alice_in(server)
    return server


def inside(server: Sshd, *command: str) -> list[str]:
    """Return the command that runs another where the server's accounts are."""
    return server.inside(*command)


@pytest.fixture
def dropbear(surroundings: Sshd, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Start dropbear on a free port; yield its address."""
    program("dropbear"), program("dropbearkey")
    with Dropbear(surroundings, tmp_path / "dropbear.log") as server:
        yield server.host, server.port


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
