"""An SSH server like a router's, as a program and as what starts it: a prompt, pages, no exec.

It is asyncssh's server (PyPI's package). Its shell needs a terminal, echoes what is typed, wants
``\\r`` or ``\\n`` at the end of a line, and shows ten lines at a time. It is a stand-in for devices
that no test can have; `hussh` knows nothing of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

PASSWORD = "only for the tests"
PAGE = 10
MORE = "--More-- "


@contextlib.contextmanager
def router() -> Iterator[int]:
    """Serve; yield the port on 127.0.0.1."""
    if importlib.util.find_spec("asyncssh") is None:
        pytest.skip("asyncssh is not installed")
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, __file__], stdout=pipe, stdin=pipe) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


async def _serve() -> None:
    import asyncssh

    class Anybody(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            return True

        def password_auth_supported(self) -> bool:
            return True

        def validate_password(self, username: str, password: str) -> bool:
            return password == PASSWORD

        def session_requested(self) -> Any:
            return Shell()

    class Shell(asyncssh.SSHServerSession[str]):
        prompt = "router>"
        line = ""
        pages: list[str]

        def connection_made(self, chan: Any) -> None:
            self.chan = chan
            self.pages = []

        def pty_requested(self, *_: object) -> bool:
            return True

        def shell_requested(self) -> bool:
            return True

        def exec_requested(self, command: str) -> bool:
            return False

        def session_started(self) -> None:
            self.chan.write(f"\r\nWelcome to the router\r\n\r\n{self.prompt}")

        def data_received(self, data: str, datatype: object) -> None:
            for char in data:
                if self.pages:
                    self.chan.write("\r" + " " * len(MORE) + "\r")
                    self.show()
                elif char in "\r\n":
                    line, self.line = self.line, ""
                    self.chan.write("\r\n")
                    self.run(line)
                else:
                    self.line += char
                    self.chan.write("*" if self.prompt == "Password: " else char)

        def run(self, line: str) -> None:
            if self.prompt == "Password: ":
                self.prompt = "router#" if line == PASSWORD else "router>"
            elif line == "enable":
                self.prompt = "Password: "
            elif line == "show all":
                self.pages = [f"interface number {number}" for number in range(25)]
                self.show()
                return
            elif line == "exit":
                self.chan.write("bye\r\n")
                self.chan.exit(0)
                return
            elif line:
                self.chan.write("% Unknown command\r\n")
            self.chan.write(self.prompt)

        def show(self) -> None:
            now, self.pages = self.pages[:PAGE], self.pages[PAGE:]
            self.chan.write("".join(f"{line}\r\n" for line in now))
            self.chan.write(MORE if self.pages else self.prompt)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        server_factory=Anybody,
        line_editor=False,
    )
    print(server.get_port(), flush=True)
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
