"""`hussh.aio` as it is in this folder, on asyncio; the loop runs only within a row."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hussh.aio import AsyncConnection

Job = Callable[[], Awaitable[Any]]


class Client:
    """The rows, for any loop: a subclass has another `begin`, `run` and `together`."""

    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.begin()
        self.bastion, self.target = self.run(self.prepare)

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()

    def run(self, job: Job) -> Any:
        async def main() -> Any:
            return await job()

        return self.loop.run_until_complete(main())

    async def together(self, jobs: list[Job]) -> None:
        await asyncio.gather(*(job() for job in jobs))

    def end(self) -> None:
        self.run(self.bastion.close)
        self.loop.close()

    def make(self, name: str, jump: AsyncConnection | None = None) -> AsyncConnection:
        host, port = self.bed[name]
        return AsyncConnection(
            host,
            port=port,
            username=self.bed["user"],
            private_key=self.bed["key"],
            known_hosts=self.bed["known_hosts"],
            proxy_jump=jump,
        )

    async def prepare(self) -> tuple[AsyncConnection, AsyncConnection]:
        bastion = await self.make("bastion")
        return bastion, await self.make("target", bastion)

    async def true(self, connection: AsyncConnection) -> None:
        assert (await connection.execute("true")).status == 0

    def row_connect(self) -> AsyncConnection:
        connection = self.make("bastion")
        self.run(connection.connect)
        return connection

    def after_connect(self, connection: AsyncConnection) -> None:
        self.run(connection.close)

    def row_exec(self) -> None:
        self.run(lambda: self.true(self.bastion))

    def row_exec_jump(self) -> None:
        self.run(lambda: self.true(self.target))

    def row_exec40(self) -> None:
        self.run(lambda: self.together([lambda: self.true(self.bastion)] * 40))

    def row_cold_jump(self) -> None:
        async def cold() -> None:
            bastion = self.make("bastion")
            async with bastion, self.make("target", bastion) as target:
                await self.true(target)

        self.run(cold)

    def row_targets100(self) -> None:
        async def one(bastion: AsyncConnection) -> None:
            async with self.make("target", bastion) as target:
                await self.true(target)

        async def work() -> None:
            async with self.make("bastion") as bastion:
                await self.together([lambda: one(bastion)] * 100)

        self.run(work)
