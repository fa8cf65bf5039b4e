"""parallel-ssh with a pool of as many as there are targets."""

from __future__ import annotations

from typing import Any

from pssh.clients import ParallelSSHClient


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed

    def work(self, **jump: Any) -> ParallelSSHClient:
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
        return client

    def row_direct(self) -> ParallelSSHClient:
        return self.work()

    def row_jump(self) -> ParallelSSHClient:
        host, port = self.bed["bastion"]
        return self.work(
            proxy_host=host,
            proxy_port=port,
            proxy_user=self.bed["user"],
            proxy_pkey=self.bed["key"],
        )

    def after_direct(self, client: ParallelSSHClient) -> None:
        """End what it leaves open, or the servers have that beside every other client's."""
        for connection in client._host_clients.values():
            connection._disconnect()
            if connection.sock is not None:
                connection.sock.close()

    after_jump = after_direct

    def end(self) -> None:
        pass
