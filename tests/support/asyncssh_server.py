"""asyncssh's SSH server with SFTP, as a program and as what starts it; PyPI's package.

It takes SYMLINK's paths in the order of the draft from clients that do not call themselves
OpenSSH or paramiko, and tells types, sizes and long names.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "only for the tests"


@contextlib.contextmanager
def asyncssh_server(folder: Path) -> Iterator[int]:
    """Serve a folder, where sessions start; yield the port on 127.0.0.1."""
    if importlib.util.find_spec("asyncssh") is None:
        pytest.skip("asyncssh is not installed")
    with subprocess.Popen(
        [sys.executable, __file__], cwd=folder, stdout=subprocess.PIPE, stdin=subprocess.PIPE
    ) as process:
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

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=Anybody, sftp_factory=True
    )
    print(server.get_port(), flush=True)
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
