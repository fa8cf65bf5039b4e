"""A light SSH server (asyncssh) that stands for many targets, one address each.

bench_scale starts some of these.  Every address of 127.0.0.0/8 that it is given
is a target with the same host key; a command ends at once with status 0.  Reads
its orders as one JSON line, says "ready", and ends with its stdin.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from typing import Any

import asyncssh

BACKLOG = 1024


class _Session(asyncssh.SSHServerSession[bytes]):
    """One command, which does nothing."""

    def connection_made(self, chan: Any) -> None:
        self._channel = chan

    def exec_requested(self, command: str) -> bool:
        return True

    def session_started(self) -> None:
        self._channel.exit(0)


class _Server(asyncssh.SSHServer):
    def session_requested(self) -> Any:
        return _Session()


async def serve(orders: dict[str, Any]) -> None:
    options = asyncssh.SSHServerConnectionOptions(
        server_factory=_Server,
        server_host_keys=[orders["host_key"]],
        authorized_client_keys=orders["authorized_keys"],
        kex_algs=["curve25519-sha256"],
        encryption_algs=["chacha20-poly1305@openssh.com"],
        encoding=None,
        login_timeout=0,
    )
    for address in orders["addresses"]:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, orders["port"]))
        sock.listen(BACKLOG)
        await asyncssh.listen(sock=sock, backlog=BACKLOG, options=options)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(serve(json.loads(sys.stdin.readline())))
