"""Runs a server that is a program of the system; for fixtures of tests and for ``scripts/soak``."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .processes import clean_environment
from .sshd import Sshd
from .watch import wait_for_text

_START_TIMEOUT = 20.0  # seconds
_END_TIMEOUT = 10.0  # seconds


def find_program(name: str) -> str | None:
    """Return the path of a program, also of one that only root has in its PATH."""
    return shutil.which(name, path=clean_environment()["PATH"])


def let_alice_in(accounts: Sshd) -> None:
    """Put alice's public key where servers other than our sshds look for it."""
    folder = accounts.alice.files / ".ssh"
    folder.mkdir(mode=0o700)
    authorized = folder / "authorized_keys"
    authorized.write_text(accounts.alice.key.public_line + "\n")
    authorized.chmod(0o600)
    for path in (folder, authorized):
        os.chown(path, accounts.alice.uid, accounts.alice.gid)
    accounts.alice.files.chmod(0o700)


@contextmanager
def running(
    command: list[str], log: Path, *, ready: str, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a server that writes to a log, from when `ready` stands there on; yield its pid."""
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
        wait_for_text(log, lambda text: ready in text, timeout=_START_TIMEOUT, writer=process.pid)
        yield process.pid
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(_END_TIMEOUT)
