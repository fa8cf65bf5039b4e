"""hussh 0.3.3's MultiConnection, from PyPI, in an environment of its own."""

from __future__ import annotations

from typing import Any

from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.common = {"username": bed["user"], "private_key": bed["key"]}

    def work(self, multi: Any) -> None:
        with multi:
            results = multi.execute("true")
            assert len(results) == len(self.bed["targets"])
            results.raise_if_any_failed()

    def row_direct(self) -> None:
        hosts = self.bed["targets"]
        self.work(
            MultiConnection.from_shared_auth(
                hosts,
                username=self.bed["user"],
                key_path=self.bed["key"],
                port=self.bed["port"],
                batch_size=len(hosts),
            )
        )

    def row_jump(self) -> None:
        host, port = self.bed["bastion"]
        bastion = AsyncConnection(host, port=port, **self.common)
        hosts = self.bed["targets"]
        targets = [
            AsyncConnection(host, port=self.bed["port"], proxy_jump=bastion, **self.common)
            for host in hosts
        ]
        self.work(MultiConnection(targets, batch_size=len(hosts)))

    def end(self) -> None:
        pass
