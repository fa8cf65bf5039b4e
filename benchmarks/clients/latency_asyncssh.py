"""asyncssh with its defaults, on one event loop that runs only within a row."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncssh


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.kept: dict[str, Any] = {}
        self.do = asyncio.new_event_loop().run_until_complete

    async def connect(self, name: str, tunnel: Any = (), **more: Any) -> Any:
        host, port = self.bed[name]
        options = {"client_keys": [self.bed["key"]], "agent_path": None, **more}
        known = self.bed["known_hosts"]
        return await asyncssh.connect(host, port, username=self.bed["user"], known_hosts=known,
                                      config=None, tunnel=tunnel, **options)  # fmt: skip

    async def run(self, connection: Any) -> Any:
        assert (await connection.run("true")).exit_status == 0
        return connection

    async def jumped(self) -> Any:
        return await self.connect("target", await self.connect("bastion"))

    def row_connect(self) -> Any:
        return self.do(self.connect("bastion"))

    def row_connect_exec(self) -> Any:
        async def work() -> Any:
            return await self.run(await self.connect("bastion"))

        return self.do(work())

    def row_cold_jump(self) -> Any:
        async def work() -> Any:
            return await self.run(await self.jumped())

        return self.do(work())

    def before_exec(self) -> Any:
        if "exec" not in self.kept:
            self.kept["exec"] = self.do(self.connect("bastion"))
        return self.kept["exec"]

    def row_exec(self, connection: Any) -> None:
        self.do(self.run(connection))

    def before_exec_jump(self) -> Any:
        if "jump" not in self.kept:
            self.kept["jump"] = self.do(self.jumped())
        return self.kept["jump"]

    row_exec_jump = row_exec

    def before_sftp(self) -> Any:
        return self.do(self.connect("bastion"))

    def row_sftp(self, connection: Any) -> Any:
        async def work() -> None:
            sftp = await connection.start_sftp_client()
            await sftp.stat("/")

        self.do(work())
        return connection

    def before_put(self) -> Any:
        if "sftp" not in self.kept:
            connection = self.do(self.connect("bastion"))
            self.kept["sftp"] = self.do(connection.start_sftp_client())
        return self.kept["sftp"]

    before_get = before_put_tree = before_get_tree = before_put

    def row_put(self, sftp: Any) -> None:
        self.do(sftp.put(self.bed["small"], "put-asyncssh"))

    def row_get(self, sftp: Any) -> None:
        self.do(sftp.get(self.bed["remote_small"], str(Path(self.bed["local"], "got"))))

    def row_put_tree(self, sftp: Any) -> None:
        self.do(sftp.put(self.bed["tree"], "tree-asyncssh", recurse=True))

    def row_get_tree(self, sftp: Any) -> None:
        place = str(Path(self.bed["local"], "tree"))
        self.do(sftp.get(self.bed["remote_tree"], place, recurse=True))

    def row_agent(self) -> Any:
        return self.do(self.connect("bastion", client_keys=(), agent_path=self.bed["agent"]))

    def row_targets20(self) -> None:
        async def one(bastion: Any) -> None:
            await self.run(await self.connect("target", bastion))

        async def work() -> None:
            bastion = await self.connect("bastion")
            await asyncio.gather(*(one(bastion) for _ in range(20)))
            bastion.close()
            await bastion.wait_closed()

        self.do(work())

    def end(self) -> None:
        pass
