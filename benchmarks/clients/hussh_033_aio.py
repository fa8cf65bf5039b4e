"""The async API of hussh 0.3.3 from PyPI, in an environment of its own, on asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from hussh.aio import AsyncConnection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.loop = asyncio.new_event_loop()
        self.bastion = self.run(self.connected, "bastion")
        self.target = self.run(self.connected, "target", self.bastion)

    def run(self, job: Callable[..., Coroutine[Any, Any, Any]], *given: Any) -> Any:
        return self.loop.run_until_complete(job(*given))

    def make(self, name: str, jump: Any = None) -> Any:
        host, port = self.bed[name]
        return AsyncConnection(
            host,
            username=self.bed["user"],
            key_path=self.bed["key"],
            port=port,
            proxy_jump=jump,
        )

    async def connected(self, name: str, jump: Any = None) -> Any:
        connection = self.make(name, jump)
        await connection.connect()
        return connection

    async def close(self, connection: Any) -> None:
        await connection.close()

    async def true(self, connection: Any) -> None:
        assert (await connection.execute("true")).status == 0

    def row_connect(self) -> Any:
        return self.run(self.connected, "bastion")

    def after_connect(self, connection: Any) -> None:
        self.run(self.close, connection)

    def row_exec(self) -> None:
        self.run(self.true, self.bastion)

    def row_exec_jump(self) -> None:
        self.run(self.true, self.target)

    def row_exec40(self) -> None:
        async def work() -> None:
            await asyncio.gather(*(self.true(self.bastion) for _ in range(40)))

        self.run(work)

    async def one(self, bastion: Any) -> None:
        async with self.make("target", bastion) as target:
            await self.true(target)

    def row_cold_jump(self) -> None:
        async def cold() -> None:
            async with self.make("bastion") as bastion:
                await self.one(bastion)

        self.run(cold)

    def row_targets100(self) -> None:
        async def work() -> None:
            async with self.make("bastion") as bastion:
                await asyncio.gather(*(self.one(bastion) for _ in range(100)))

        self.run(work)

    def end(self) -> None:
        self.run(self.close, self.target)
        self.run(self.close, self.bastion)
        self.loop.close()
