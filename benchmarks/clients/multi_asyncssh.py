"""asyncssh with a semaphore; keys and known hosts are read once for all."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.common = {
            "username": bed["user"],
            "client_keys": [asyncssh.read_private_key(bed["key"])],
            "known_hosts": asyncssh.read_known_hosts(bed["known_hosts"]),
            "config": None,
            "agent_path": None,
        }

    async def one(self, host: str, tunnel: Any, limit: asyncio.Semaphore) -> None:
        async with (
            limit,
            asyncssh.connect(host, self.bed["port"], tunnel=tunnel, **self.common) as connection,
        ):
            assert (await connection.run("true")).exit_status == 0

    async def work(self, tunnel: Any = ()) -> None:
        hosts = self.bed["targets"]
        limit = asyncio.Semaphore(len(hosts))
        await asyncio.gather(*(self.one(host, tunnel, limit) for host in hosts))

    async def jump(self) -> None:
        host, port = self.bed["bastion"]
        async with asyncssh.connect(host, port, **self.common) as bastion:
            await self.work(bastion)

    def row_direct(self) -> None:
        asyncio.run(self.work())

    def row_jump(self) -> None:
        asyncio.run(self.jump())

    def end(self) -> None:
        pass
