"""hussh.aio as it is in this folder, in an asyncio loop that runs while something is to be done."""

from __future__ import annotations

import asyncio
from typing import Any

from hussh.aio import AsyncConnection


class Client:
    def __init__(self, bed: dict[str, Any]) -> None:
        self.bed = bed
        self.run = asyncio.new_event_loop().run_until_complete
        self.known: dict[str, AsyncConnection] = {}

    def connect(self, way: str) -> None:
        last: AsyncConnection | None = None
        for host, port in self.bed["ways"][way]:
            last = AsyncConnection(
                host,
                self.bed["user"],
                port=port,
                private_key=self.bed["key"],
                proxy_jump=last,
            )
        assert last is not None
        self.run(last.connect())
        self.known[way] = last

    def up(self, way: str, source: str, place: str) -> None:
        self.run(self.known[way].sftp_write(source, place))

    def down(self, way: str, source: str, place: str) -> None:
        self.run(self.known[way].sftp_read(source, place))
