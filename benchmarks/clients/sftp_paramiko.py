"""paramiko with its defaults; it reads ahead without limit."""

from __future__ import annotations

from typing import Any

import paramiko


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.known: dict[str, Any] = {}
        self.clients: list[Any] = []

    def to(self, way: str) -> Any:
        if way not in self.known:
            client: Any = None
            for host, port in self.bed["ways"][way]:
                sock = client and client.get_transport().open_channel(
                    "direct-tcpip", (host, port), ("127.0.0.1", 0)
                )
                client = paramiko.SSHClient()
                client.load_host_keys(self.bed["known_hosts"])
                client.connect(
                    host,
                    port,
                    self.bed["user"],
                    key_filename=self.bed["key"],
                    sock=sock,
                    allow_agent=False,
                    look_for_keys=False,
                )
                self.clients.append(client)
            self.known[way] = client.open_sftp()
        return self.known[way]

    def connect(self, way: str) -> None:
        self.to(way)

    def up(self, way: str, source: str, place: str) -> None:
        self.to(way).put(source, place)

    def down(self, way: str, source: str, place: str) -> None:
        self.to(way).get(source, place)
