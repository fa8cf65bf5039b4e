"""asyncssh as a server: commands by /bin/sh, its own SFTP server, forwards.

Run by `zoo.servers.asyncssh_server`, in an environment that has asyncssh. Arguments: host key file,
user, password, authorized_keys file, folder that is the home. Prints "ready PORT", ends with stdin.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import Any

import asyncssh

HOST_KEY, USER, PASSWORD, AUTHORIZED, HOME = sys.argv[1:6]


class Server(asyncssh.SSHServer):
    """Lets the one user in, and connects to wherever a client asks."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)

    def connection_requested(self, *where: Any) -> bool:
        return True


async def run(process: Any) -> None:
    """Run one command with the three streams of the channel."""
    child = await asyncio.create_subprocess_shell(
        process.command or "exec sh",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=HOME,
    )
    await process.redirect(child.stdin, child.stdout, child.stderr, send_eof=False)
    await process.stdout.drain()
    await process.stderr.drain()
    process.exit(await child.wait())


async def main() -> None:
    os.chdir(HOME)
    os.environ["HOME"] = HOME
    listener = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_factory=Server,
        server_host_keys=[HOST_KEY],
        authorized_client_keys=AUTHORIZED,
        process_factory=run,
        sftp_factory=True,
        encoding=None,
        rekey_bytes=1 << 20,
    )
    print("ready", listener.get_port(), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


logging.basicConfig(level=logging.WARNING)
asyncio.run(main())
