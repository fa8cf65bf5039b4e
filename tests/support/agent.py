"""A real ssh-agent on a socket of its own.

For ``tests/conftest.py`` and tests. Never uses, and never is, the agent of the user.
"""

from __future__ import annotations

import os
import select
import subprocess
from pathlib import Path

from .askpass import Askpass
from .keys import Key
from .processes import clean_environment

_TIMEOUT = 20.0


class SshAgent:
    """One ssh-agent; started by entering it. ``socket`` is the path for SSH_AUTH_SOCK."""

    def __init__(self, directory: Path) -> None:
        """Keep the socket in ``directory``, whose path must be short (sockets: 107 bytes)."""
        self._directory = directory
        self.socket = directory / "agent"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make OpenSSH's programs use this agent."""
        return {"SSH_AUTH_SOCK": str(self.socket)}

    def __enter__(self) -> SshAgent:
        """Start the agent; its socket is ready."""
        self.socket.unlink(missing_ok=True)
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "ssh-agent", "-D", "-a", str(self.socket)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=clean_environment(),
            start_new_session=True,
        )
        self._process = process
        assert process.stdout is not None
        # The agent tells its socket once it listens.
        ready, _, _ = select.select([process.stdout], [], [], _TIMEOUT)
        line = process.stdout.readline() if ready else b""
        process.stdout.close()
        if not line.startswith(b"SSH_AUTH_SOCK="):
            self.__exit__()
            raise OSError(f"ssh-agent did not start: {line!r}")
        return self

    def __exit__(self, *_: object) -> None:
        """End the agent and remove its socket; idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_TIMEOUT)
        self.socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the agent now (for tests of an agent that dies)."""
        self.__exit__()

    def add(self, key: Key, *arguments: str) -> None:
        """Load ``key``; ``arguments`` are those of ssh-add, such as ``-t 60`` or ``-c``."""
        answers = [] if key.passphrase is None else [key.passphrase]
        with Askpass(self._directory, answers) as askpass:
            self._add([*arguments, str(key.path)], askpass.environment)

    def remove(self, key: Key) -> None:
        """Unload ``key``."""
        public = self._directory / "removed.pub"
        public.write_text(key.public_line + "\n")
        self._add(["-d", str(public)], {})

    def lock(self, password: str) -> None:
        """Lock the agent: it then lists nothing and signs nothing."""
        with Askpass(self._directory, [password, password]) as askpass:
            self._add(["-x"], askpass.environment)

    def public_lines(self) -> list[str]:
        """Return "type base64 comment" of each loaded key, in the agent's order."""
        listed = subprocess.run(
            ["ssh-add", "-L"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment(**self.environment),
        )
        return listed.stdout.splitlines() if listed.returncode == 0 else []

    def _add(self, arguments: list[str], more: dict[str, str]) -> None:
        done = subprocess.run(
            ["ssh-add", "-q", *arguments],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env=clean_environment(**self.environment, **more),
            timeout=_TIMEOUT,
        )
        if done.returncode != 0:
            raise OSError(f"ssh-add {' '.join(arguments)}: {os.fsdecode(done.stderr).strip()}")
