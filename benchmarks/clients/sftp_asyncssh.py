"""asyncssh with its defaults, on one event loop that runs only within a call."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncssh


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete
        self.known: dict[str, Any] = {}
        self.connections: list[Any] = []

    def to(self, way: str) -> Any:
        if way not in self.known:
            self.known[way] = self.run(self.open(way))
        return self.known[way]

    async def open(self, way: str) -> Any:
        tunnel: Any = ()
        for host, port in self.bed["ways"][way]:
            tunnel = await asyncssh.connect(
                host,
                port,
                username=self.bed["user"],
                client_keys=[self.bed["key"]],
                known_hosts=self.bed["known_hosts"],
                config=None,
                tunnel=tunnel,
                agent_path=None,
            )
            self.connections.append(tunnel)
        return await tunnel.start_sftp_client()

    def connect(self, way: str) -> None:
        self.to(way)

    def up(self, way: str, source: str, place: str) -> None:
        self.run(self.to(way).put(source, place))

    def down(self, way: str, source: str, place: str) -> None:
        self.run(self.to(way).get(source, place))

    def end(self) -> None:
        for sftp in self.known.values():
            sftp.exit()
            self.run(sftp.wait_closed())
        for connection in reversed(self.connections):
            connection.close()
            self.run(connection.wait_closed())
