"""hussh's AsyncConnection in one asyncio loop, the targets one task each."""

from __future__ import annotations

import asyncio
from typing import Any

from hussh.aio import AsyncConnection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.common = {
            "username": bed["user"],
            "private_key": bed["key"],
            "known_hosts": bed["known_hosts"],
            "host_key_policy": "strict",
            "agent": False,
        }

    async def one(self, host: str, jump: Any) -> None:
        port = self.bed["port"]
        async with AsyncConnection(host, port=port, proxy_jump=jump, **self.common) as connection:
            assert (await connection.execute("true")).status == 0

    async def work(self, jump: Any = None) -> None:
        await asyncio.gather(*(self.one(host, jump) for host in self.bed["targets"]))

    def row_direct(self) -> None:
        asyncio.run(self.work())

    def row_jump(self) -> None:
        host, port = self.bed["bastion"]
        asyncio.run(self.work(AsyncConnection(host, port=port, **self.common)))

    def end(self) -> None:
        pass
