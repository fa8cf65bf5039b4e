"""`hussh.aio` as it is in this folder, on trio, whose loop runs in a thread and waits there."""

from __future__ import annotations

import queue
import threading
from typing import Any

import trio
from hussh_aio import Client as OnAsyncio
from hussh_aio import Job


class Client(OnAsyncio):
    """Rows are sent to the loop, which sleeps between them."""

    def begin(self) -> None:
        started: queue.SimpleQueue[trio.lowlevel.TrioToken] = queue.SimpleQueue()
        self.stop = trio.Event()

        async def serve() -> None:
            started.put(trio.lowlevel.current_trio_token())
            await self.stop.wait()

        self.thread = threading.Thread(target=trio.run, args=(serve,), daemon=True)
        self.thread.start()
        self.token = started.get()

    def run(self, job: Job) -> Any:
        async def main() -> Any:
            return await job()

        return trio.from_thread.run(main, trio_token=self.token)

    async def together(self, jobs: list[Job]) -> None:
        async with trio.open_nursery() as nursery:
            for job in jobs:
                nursery.start_soon(job)

    def end(self) -> None:
        self.run(self.bastion.close)
        self.token.run_sync_soon(self.stop.set)
        self.thread.join()
