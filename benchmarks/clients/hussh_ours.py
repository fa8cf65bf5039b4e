"""hussh as it is in this folder."""

from __future__ import annotations

from typing import Any

from hussh import Connection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.bastion = self.connect("bastion")
        self.middle = self.connect("middle", self.bastion)
        self.target = self.connect("target", self.bastion)
        self.deep = self.connect("target", self.middle)

    def connect(self, name: str, jump: Connection | None = None) -> Connection:
        host, port = self.bed[name]
        return Connection(
            host,
            port,
            self.bed["user"],
            private_key=self.bed["key"],
            known_hosts=self.bed["known_hosts"],
            proxy_jump=jump,
        )

    def row_connect(self) -> Connection:
        return self.connect("bastion")

    def after_connect(self, connection: Connection) -> None:
        connection.close()

    def row_exec(self) -> None:
        assert self.bastion.execute("true").status == 0

    def row_exec_jump(self) -> None:
        assert self.target.execute("true").status == 0

    def row_exec_chain3(self) -> None:
        assert self.deep.execute("true").status == 0

    def before_first_exec_inner(self) -> Connection:
        return self.connect("target", self.bastion)

    def row_first_exec_inner(self, connection: Connection) -> Connection:
        assert connection.execute("true").status == 0
        return connection

    def after_first_exec_inner(self, connection: Connection) -> None:
        connection.close()

    def row_cold_jump(self) -> Connection:
        bastion = self.connect("bastion")
        target = self.connect("target", bastion)
        assert target.execute("true").status == 0
        target.close()
        bastion.close()
        return bastion

    def end(self) -> None:
        self.bastion.close()
