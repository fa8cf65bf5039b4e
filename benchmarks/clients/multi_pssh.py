"""parallel-ssh with a pool of as many as there are targets."""

from __future__ import annotations

from typing import Any

from pssh.clients import ParallelSSHClient


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed

    def work(self, **jump: Any) -> None:
        hosts = self.bed["targets"]
        client = ParallelSSHClient(
            hosts,
            user=self.bed["user"],
            port=self.bed["port"],
            pkey=self.bed["key"],
            pool_size=len(hosts),
            allow_agent=False,
            identity_auth=False,
            **jump,
        )
        output = client.run_command("true")
        client.join(output)
        assert [host.exit_code for host in output] == [0] * len(hosts)

    def row_direct(self) -> None:
        self.work()

    def row_jump(self) -> None:
        host, port = self.bed["bastion"]
        self.work(
            proxy_host=host,
            proxy_port=port,
            proxy_user=self.bed["user"],
            proxy_pkey=self.bed["key"],
        )

    def end(self) -> None:
        pass
