"""asyncssh, on one event loop that runs only within a row."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.bastion = self.run(self.connect("bastion"))
        self.middle = self.run(self.connect("middle", self.bastion))
        self.target = self.run(self.connect("target", self.bastion))
        self.deep = self.run(self.connect("target", self.middle))

    async def connect(self, name: str, tunnel: Any = ()) -> Any:
        host, port = self.bed[name]
        return await asyncssh.connect(
            host,
            port,
            username=self.bed["user"],
            client_keys=[self.bed["key"]],
            known_hosts=self.bed["known_hosts"],
            config=None,
            tunnel=tunnel,
            agent_path=None,
        )

    async def true(self, connection: Any) -> None:
        assert (await connection.run("true")).exit_status == 0

    async def close(self, *connections: Any) -> None:
        for connection in connections:
            connection.close()
            await connection.wait_closed()

    def row_connect(self) -> Any:
        return self.run(self.connect("bastion"))

    def after_connect(self, connection: Any) -> None:
        self.run(self.close(connection))

    def row_exec(self) -> None:
        self.run(self.true(self.bastion))

    def row_exec_jump(self) -> None:
        self.run(self.true(self.target))

    def row_exec_chain3(self) -> None:
        self.run(self.true(self.deep))

    def before_first_exec_inner(self) -> Any:
        return self.run(self.connect("target", self.bastion))

    def row_first_exec_inner(self, connection: Any) -> Any:
        self.run(self.true(connection))
        return connection

    def after_first_exec_inner(self, connection: Any) -> None:
        self.run(self.close(connection))

    async def cold(self) -> None:
        bastion = await self.connect("bastion")
        target = await self.connect("target", bastion)
        await self.true(target)
        await self.close(target, bastion)

    def row_cold_jump(self) -> None:
        self.run(self.cold())

    def row_exec40(self) -> None:
        async def work() -> None:
            await asyncio.gather(*(self.true(self.bastion) for _ in range(40)))

        self.run(work())

    def row_targets100(self) -> None:
        async def one(bastion: Any) -> None:
            target = await self.connect("target", bastion)
            await self.true(target)
            await self.close(target)

        async def work() -> None:
            bastion = await self.connect("bastion")
            await asyncio.gather(*(one(bastion) for _ in range(100)))
            await self.close(bastion)

        self.run(work())

    def end(self) -> None:
        self.run(self.close(self.deep, self.target, self.middle, self.bastion))
        self.loop.close()
