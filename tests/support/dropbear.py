"""dropbear with the accounts of one of our sshds; for fixtures of tests and for ``scripts/soak``.

It costs a third of what an sshd costs for each login, and forks once for each connection.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from .processes import Process, clean_environment, descendants_of, kill_all
from .sshd import Sshd
from .watch import wait_for_text

_START_TIMEOUT = 20.0  # seconds


def program(name: str) -> str | None:
    """Return the path of a program, also of one that only root has in its PATH."""
    return shutil.which(name, path=clean_environment()["PATH"])


class Dropbear:
    """A dropbear beside a running sshd; started by entering it.

    Attributes:
        host, port: where it listens.
        public_line: its host key, "type base64".
    """

    host = "127.0.0.1"

    def __init__(self, accounts: Sshd, log: Path) -> None:
        """Prepare a server where alice of ``accounts`` can log in with her key."""
        self._accounts = accounts
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        let_alice_in(accounts)
        key = accounts.alice.files / "dropbear-key"
        made = subprocess.run(
            [program("dropbearkey") or "dropbearkey", "-t", "ed25519", "-f", key],
            check=True,
            capture_output=True,
            text=True,
        )
        lines = [line for line in made.stdout.splitlines() if line.startswith("ssh-ed25519 ")]
        self.public_line = " ".join(lines[0].split()[:2])
        with socket.socket() as probe:
            probe.bind((self.host, 0))
            self.port: int = probe.getsockname()[1]

    def known_hosts_line(self) -> str:
        """Return the known_hosts line of its address, ending in a newline."""
        return f"[{self.host}]:{self.port} {self.public_line}\n"

    def processes(self) -> list[Process]:
        """Return what runs on this server now, the daemon excluded: sessions, commands."""
        if self._process is None:
            return []
        found = descendants_of(self._process.pid)
        return [process for process in found if process.state != "Z"]

    def __enter__(self) -> Dropbear:
        """Start it; returns when it listens."""
        command = self._accounts.inside(
            program("dropbear") or "dropbear", "-F", "-E", "-p", f"{self.host}:{self.port}",
            "-r", self._accounts.alice.path("dropbear-key"),
        )  # fmt: skip
        with self._log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env=clean_environment(),
            )
        try:
            wait_for_text(
                self._log,
                lambda text: "Not backgrounding" in text,
                timeout=_START_TIMEOUT,
                writer=self._process.pid,
            )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it and all of its sessions; idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        sessions = [each.pid for each in descendants_of(process.pid)]
        kill_all([process.pid, *sessions])
        process.wait(_START_TIMEOUT)


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
