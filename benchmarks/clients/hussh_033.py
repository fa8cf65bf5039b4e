"""hussh 0.3.3 from PyPI, in an environment of its own; it has no chains."""

from __future__ import annotations

from typing import Any

from hussh import Connection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.bastion = self.connect("bastion")
        self.target = self.connect("target", self.bastion)

    def connect(self, name: str, jump: Any = None) -> Any:
        host, port = self.bed[name]
        return Connection(
            host, port, self.bed["user"], private_key=self.bed["key"], proxy_jump=jump
        )

    def row_connect(self) -> Any:
        return self.connect("bastion")

    def after_connect(self, connection: Any) -> None:
        connection.close()

    def row_exec(self) -> None:
        assert self.bastion.execute("true").status == 0

    def row_exec_jump(self) -> None:
        assert self.target.execute("true").status == 0

    def before_first_exec_inner(self) -> Any:
        return self.connect("target", self.bastion)

    def row_first_exec_inner(self, connection: Any) -> Any:
        assert connection.execute("true").status == 0
        return connection

    def after_first_exec_inner(self, connection: Any) -> None:
        connection.close()

    def row_cold_jump(self) -> None:
        bastion = self.connect("bastion")
        target = self.connect("target", bastion)
        assert target.execute("true").status == 0
        target.close()
        bastion.close()

    def end(self) -> None:
        self.target.close()
        self.bastion.close()
