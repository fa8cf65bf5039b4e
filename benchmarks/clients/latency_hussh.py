"""hussh's sync API; the 20 targets with its async one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hussh import Connection
from hussh.aio import AsyncConnection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.kept: dict[str, Any] = {}

    def connect(self, name: str, jump: Any = None, kind: Any = Connection, **more: Any) -> Any:
        host, port = self.bed[name]
        options = {"private_key": self.bed["key"], **more}
        known = self.bed["known_hosts"]
        return kind(host, port=port, username=self.bed["user"], known_hosts=known,
                    proxy_jump=jump, **options)  # fmt: skip

    def run(self, connection: Any) -> None:
        assert connection.execute("true").status == 0

    def open(self, name: str, *, jump: bool = False, execs: int = 0, sftp: bool = False) -> Any:
        """A connection that stays open for all repetitions."""
        if name not in self.kept:
            carrier = self.connect("bastion") if jump else None
            made = self.kept[name] = self.connect("target" if jump else "bastion", carrier)
            for _ in range(execs):
                self.run(made)
            if sftp:
                made.sftp.stat("/")
        return self.kept[name]

    def row_connect(self) -> Any:
        return self.connect("bastion")

    def row_connect_exec(self) -> Any:
        connection = self.connect("bastion")
        self.run(connection)
        return connection

    def row_cold_jump(self) -> Any:
        connection = self.connect("target", self.connect("bastion"))
        self.run(connection)
        return connection

    def before_exec(self) -> Any:
        return self.open("exec", execs=3)

    def row_exec(self, connection: Any) -> None:
        self.run(connection)

    def before_exec_jump(self) -> Any:
        return self.open("jump", jump=True, execs=3)

    def row_exec_jump(self, connection: Any) -> None:
        self.run(connection)

    def before_sftp(self) -> Any:
        return self.connect("bastion")

    def row_sftp(self, connection: Any) -> Any:
        connection.sftp.stat("/")
        return connection

    def before_sftp_spare(self) -> Any:
        connection = self.connect("bastion")
        for _ in range(3):
            self.run(connection)
        return connection

    row_sftp_spare = row_sftp

    def before_put(self) -> Any:
        return self.open("sftp", sftp=True)

    before_get = before_put_tree = before_get_tree = before_put

    def row_put(self, connection: Any) -> None:
        connection.sftp_write(self.bed["small"], "put-hussh")

    def row_get(self, connection: Any) -> None:
        connection.sftp_read(self.bed["remote_small"], str(Path(self.bed["local"], "got")))

    def row_put_tree(self, connection: Any) -> None:
        done, failed = connection.sftp_put_dir(self.bed["tree"], "tree-hussh")
        assert len(done) == 200, failed

    def row_get_tree(self, connection: Any) -> None:
        done, failed = connection.sftp_get_dir(
            self.bed["remote_tree"], str(Path(self.bed["local"], "tree"))
        )
        assert len(done) == 200, failed

    def row_agent(self) -> Any:
        return self.connect("bastion", private_key=None, agent=self.bed["agent"])

    def row_targets20(self) -> Any:
        async def one(bastion: Any) -> None:
            async with self.connect("target", bastion, AsyncConnection) as target:
                assert (await target.execute("true")).status == 0

        async def work() -> None:
            async with self.connect("bastion", kind=AsyncConnection) as bastion:
                await asyncio.gather(*(one(bastion) for _ in range(20)))

        asyncio.run(work())

    def end(self) -> None:
        for connection in self.kept.values():
            connection.close()
