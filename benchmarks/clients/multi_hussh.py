"""hussh's MultiConnection: one object for all targets, all of them at once."""

from __future__ import annotations

from typing import Any

from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection


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

    def work(self, jump: Any = None) -> None:
        hosts, port = self.bed["targets"], self.bed["port"]
        with MultiConnection.from_shared_auth(
            hosts,
            port=port,
            proxy_jump=jump,
            batch_size=len(hosts),
            handshakes=len(hosts),
            **self.common,
        ) as multi:
            results = multi.execute("true")
            assert len(results) == len(hosts), len(results)
            results.raise_if_any_failed()

    def row_direct(self) -> None:
        self.work()

    def row_jump(self) -> None:
        host, port = self.bed["bastion"]
        self.work(AsyncConnection(host, port=port, **self.common))

    def end(self) -> None:
        pass
