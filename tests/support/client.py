"""OpenSSH's own ``ssh`` as a reference client, cut off from the user's configuration.

For tests that check the fixtures, and for those that compare us with OpenSSH.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .accounts import Account
from .askpass import Askpass
from .keys import Key
from .processes import clean_environment
from .sshd import Sshd


@dataclass(frozen=True)
class Ran:
    """What one run of ``ssh`` did."""

    status: int
    stdout: str
    stderr: str
    prompts: list[str]


class SshProgram:
    """Runs ``ssh`` against a test server; keeps its files in one directory."""

    def __init__(self, directory: Path) -> None:
        """Keep known_hosts and askpass files in ``directory``."""
        self._directory = directory

    def arguments(
        self, server: Sshd, account: Account, *, key: Key | None = None, methods: str = "publickey"
    ) -> list[str]:
        """Return a command line up to and including the host; a remote command may follow."""
        known_hosts = self._directory / "known_hosts"
        known_hosts.write_text(server.known_hosts_line())
        options = {
            "UserKnownHostsFile": known_hosts,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "PreferredAuthentications": methods,
            "NumberOfPasswordPrompts": 1,
            "IdentitiesOnly": "yes",
            "IdentityFile": key.path if key else "none",
            "ConnectTimeout": 20,
        }
        settings = [f"-o{name}={value}" for name, value in options.items()]
        where = ["-p", str(server.port), "-l", account.name, server.host]
        return ["ssh", "-F", "none", *settings, *where]

    def run(
        self,
        server: Sshd,
        account: Account,
        command: str = "true",
        *,
        key: Key | None = None,
        answers: Sequence[str] = (),
        methods: str = "publickey",
        options: Sequence[str] = (),
        stdin: bytes = b"",
    ) -> Ran:
        """Run one command; ``answers`` are given to prompts in order, ``options`` go to -o."""
        line = self.arguments(server, account, key=key, methods=methods)
        line[1:1] = [f"-o{option}" for option in options]
        with Askpass(self._directory, answers) as askpass:
            done = subprocess.run(
                [*line, command],
                input=stdin,
                capture_output=True,
                env=clean_environment(**askpass.environment),
                timeout=60,
            )
            return Ran(
                done.returncode,
                done.stdout.decode(errors="replace"),
                done.stderr.decode(errors="replace"),
                askpass.prompts,
            )
