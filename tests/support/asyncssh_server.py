"""asyncssh's SSH server with SFTP, as a program and as what starts it; PyPI's package.

It takes SYMLINK's paths in the order of the draft from clients that do not call themselves
OpenSSH or paramiko, and tells types, sizes and long names.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PIPE = subprocess.PIPE
PASSWORD = "only for the tests"


@contextlib.contextmanager
def asyncssh_server(folder: Path, **options: Any) -> Iterator[int]:
    """Serve a folder, where sessions and commands start; yield the port on 127.0.0.1.

    Args:
        folder: the folder.
        options: for `asyncssh.listen`, such as ``kex_algs``.
    """
    if importlib.util.find_spec("asyncssh") is None:
        pytest.skip("asyncssh is not installed")
    with subprocess.Popen(
        [sys.executable, __file__, json.dumps(options)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
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

        def connection_requested(self, *_: object) -> bool:
            return True

    async def run(process: asyncssh.SSHServerProcess[bytes]) -> None:
        # A client may have gone, and what is raised here would end its whole connection.
        with contextlib.suppress(asyncssh.SignalReceived, OSError):
            command = await asyncio.create_subprocess_shell(
                process.command or "", stdin=PIPE, stdout=PIPE, stderr=PIPE
            )
            out, err = await command.communicate(await process.stdin.read())
            process.stdout.write(out)
            process.stderr.write(err)
            process.exit(command.returncode or 0)

    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[key],
        server_factory=Anybody,
        process_factory=run,
        encoding=None,
        sftp_factory=True,
        **json.loads(sys.argv[1]),
    )
    print(server.get_port(), flush=True)
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve())
