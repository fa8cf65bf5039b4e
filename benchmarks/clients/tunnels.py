"""One client that holds a local forward open, for bench_tunnels.py; it ends with its stdin.

Usage: tunnels.py CLIENT HOST PORT USER KEY TARGET_PORT
"""

from __future__ import annotations

import asyncio
import sys


def hussh(host: str, port: int, user: str, key: str, target: int) -> None:
    """Hold a forward of the API for threads."""
    from hussh import Connection

    with (
        Connection(host, port, user, private_key=key, host_key_policy="ignore") as connection,
        connection.forward_local(0, ("127.0.0.1", target)) as forward,
    ):
        print(forward.port, flush=True)
        sys.stdin.read()


async def hussh_aio(host: str, port: int, user: str, key: str, target: int) -> None:
    """Hold a forward of the API for tasks."""
    from hussh.aio import AsyncConnection

    async with (
        AsyncConnection(
            host, user, port=port, key_path=key, host_key_policy="ignore"
        ) as connection,
        connection.forward_local(0, ("127.0.0.1", target)) as forward,
    ):
        print(forward.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def asyncssh(host: str, port: int, user: str, key: str, target: int) -> None:
    """Hold a forward of asyncssh."""
    import asyncssh as library

    async with library.connect(
        host, port, username=user, client_keys=[key], known_hosts=None, config=None
    ) as connection:
        listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", target)
        print(listener.get_port(), flush=True)
        await asyncio.to_thread(sys.stdin.read)


def sshtunnel(host: str, port: int, user: str, key: str, target: int) -> None:
    """Hold a forward of sshtunnel."""
    import sshtunnel as library

    with library.SSHTunnelForwarder(
        (host, port),
        ssh_username=user,
        ssh_pkey=key,
        ssh_config_file=None,
        allow_agent=False,
        host_pkey_directories=[],
        local_bind_address=("127.0.0.1", 0),
        remote_bind_address=("127.0.0.1", target),
    ) as forward:
        print(forward.local_bind_port, flush=True)
        sys.stdin.read()


def main(client: str, host: str, port: str, user: str, key: str, target: str) -> None:
    """Run one client."""
    given = (host, int(port), user, key, int(target))
    if client in ("hussh", "sshtunnel"):
        {"hussh": hussh, "sshtunnel": sshtunnel}[client](*given)
    else:
        asyncio.run({"hussh.aio": hussh_aio, "asyncssh": asyncssh}[client](*given))


if __name__ == "__main__":
    main(*sys.argv[1:])
