"""hussh's sync API, as far as 0.3.3 has it, too; directories only where they are asked for."""

from __future__ import annotations

import os
from typing import Any

from hussh import Connection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.known: dict[str, list[Any]] = {}

    def to(self, way: str) -> Any:
        """The last of the connections that this way is made of."""
        if way not in self.known:
            self.known[way] = made = []
            for host, port in self.bed["ways"][way]:
                made.append(
                    Connection(
                        host,
                        port,
                        self.bed["user"],
                        private_key=self.bed["key"],
                        proxy_jump=made[-1] if made else None,
                    )
                )
        return self.known[way][-1]

    def connect(self, way: str) -> None:
        self.to(way)

    def up(self, way: str, source: str, place: str) -> None:
        self.to(way).sftp_write(source, place)

    def down(self, way: str, source: str, place: str) -> None:
        self.to(way).sftp_read(source, place)

    def tree_up(self, way: str, source: str, place: str) -> None:
        assert not self.to(way).sftp_put_dir(source, place)[1]

    def tree_down(self, way: str, source: str, place: str) -> None:
        assert not self.to(way).sftp_get_dir(source, place)[1]

    def single_up(self, way: str, source: str, place: str) -> None:
        self.to(way).sftp.makedirs(place, exist_ok=True)
        for name in os.listdir(source):
            self.to(way).sftp_write(f"{source}/{name}", f"{place}/{name}")

    def single_down(self, way: str, source: str, place: str) -> None:
        os.makedirs(place, exist_ok=True)
        for name in self.to(way).sftp.listdir(source):
            self.to(way).sftp_read(f"{source}/{name}", f"{place}/{name}")
