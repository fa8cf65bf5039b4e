"""dropbear with the accounts of one of our sshds; for fixtures of tests and for ``scripts/soak``.

It costs a third of what an sshd costs for each login, and forks once for each connection.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from pathlib import Path

from .listeners import free_port
from .processes import Process, clean_environment, descendants_of, kill_all
from .server_program import find_program, running
from .sshd import Sshd


class Dropbear:
    """A dropbear beside a running sshd, whose alice was let in; started by entering it.

    Attributes:
        host, port: where it listens.
        public_line: its host key, "type base64".
    """

    host = "127.0.0.1"

    def __init__(self, accounts: Sshd, log: Path) -> None:
        """Prepare a server with the accounts and files of another one."""
        self._accounts = accounts
        self._log = log
        self._pid: int | None = None
        self._stack = ExitStack()
        key = accounts.alice.files / "dropbear-key"
        made = subprocess.run(
            [find_program("dropbearkey") or "dropbearkey", "-t", "ed25519", "-f", key],
            check=True,
            capture_output=True,
            text=True,
        )
        lines = [line for line in made.stdout.splitlines() if line.startswith("ssh-ed25519 ")]
        self.public_line = " ".join(lines[0].split()[:2])
        self.port = free_port()

    def known_hosts_line(self) -> str:
        """Return the known_hosts line of its address, ending in a newline."""
        return f"[{self.host}]:{self.port} {self.public_line}\n"

    def processes(self) -> list[Process]:
        """Return what runs on this server now, the daemon excluded: sessions, commands."""
        if self._pid is None:
            return []
        return [process for process in descendants_of(self._pid) if process.state != "Z"]

    def __enter__(self) -> Dropbear:
        """Start it; returns when it listens."""
        command = self._accounts.inside(
            find_program("dropbear") or "dropbear", "-F", "-E", "-p", f"{self.host}:{self.port}",
            "-r", self._accounts.alice.path("dropbear-key"),
        )  # fmt: skip
        self._pid = self._stack.enter_context(
            running(command, self._log, ready="Not backgrounding", env=clean_environment())
        )
        return self

    def __exit__(self, *_: object) -> None:
        """End it and all of its sessions; idempotent."""
        kill_all([process.pid for process in self.processes()])
        self._pid = None
        self._stack.close()
