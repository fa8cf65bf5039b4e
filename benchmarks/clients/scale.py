"""hussh with many targets through bastions: the measured process of bench_scale.

Reads one JSON line of orders, answers with one line of figures.  It imports
nothing but hussh and the standard library, so that its memory is theirs.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import selectors
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from hussh._native.link import Link
from hussh.aio import AsyncConnection

MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)
MIB = 1 << 20


class Counts:
    """What woke whom, since the last look.

    polls: returns of the loop's selector that brought something; pumps: calls of the C
    pump; wakes: operations that were resumed.
    """

    polls = pumps = wakes = 0

    @classmethod
    def take(cls) -> dict[str, int]:
        taken = {"polls": cls.polls, "pumps": cls.pumps, "wakes": cls.wakes}
        cls.polls = cls.pumps = cls.wakes = 0
        return taken


class CountingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(timeout)
        Counts.polls += bool(ready)
        return ready


def count_calls(tree: Any) -> None:
    pump, wait = Link.pump, tree._wait

    def counted_pump(self: Link, budget: int) -> int:
        Counts.pumps += 1
        return pump(self, budget)

    def counted_wait(self: Any, *arguments: Any) -> Any:
        Counts.wakes += 1  # each wait ends with one
        return wait(self, *arguments)

    Link.pump = counted_pump  # type: ignore[method-assign]
    tree._wait = counted_wait


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled() -> dict[str, int]:
    """Bytes resident after a collection: as the process is, and after malloc_trim(0)."""
    gc.collect()
    as_is = resident()
    MALLOC_TRIM(0)
    return {"as_is": as_is, "trimmed": resident()}


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def packets(connections: list[AsyncConnection]) -> int:
    return sum(c._live().link.look().packets for c in connections)


class Client:
    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.common = {
            "username": orders["user"],
            "private_key": orders["key"],
            "known_hosts": orders["known_hosts"],
            "host_key_policy": "strict",
            "agent": False,
        }
        self.bastions = [
            AsyncConnection(host, port=port, **self.common) for host, port in orders["bastions"]
        ]
        self.targets: list[AsyncConnection] = []

    def target(self, index: int, host: str, port: int) -> AsyncConnection:
        bastion = self.bastions[index % len(self.bastions)] if self.bastions else None
        return AsyncConnection(host, port=port, proxy_jump=bastion, **self.common)

    async def each(self, call: Callable[[Any], Awaitable[Any]], items: list[Any]) -> None:
        """A call for each item, so many at once; as little besides as possible."""
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                await call(item)

        await asyncio.gather(*(work() for _ in range(self.orders["at_once"])))

    async def phase(self, call: Callable[[Any], Awaitable[Any]], items: list[Any]) -> Any:
        gc.collect()
        heard = packets(self.bastions)
        inner = packets(self.targets)
        Counts.take()
        start, used = time.perf_counter(), cpu()
        await self.each(call, items)
        used, wall = cpu() - used, time.perf_counter() - start
        return {
            "wall": wall,
            "cpu": used,
            **Counts.take(),
            "outer_packets": packets(self.bastions) - heard,
            "inner_packets": packets(self.targets) - inner,
        }

    async def connect(self, item: tuple[int, tuple[str, int]]) -> None:
        index, (host, port) = item
        connection = self.target(index, host, port)
        await connection.connect()
        self.targets.append(connection)

    async def execute(self, connection: AsyncConnection) -> None:
        assert (await connection.execute("true")).status == 0

    async def close(self, connection: AsyncConnection) -> None:
        await connection.close()

    async def run(self) -> dict[str, Any]:
        addresses = [(host, port) for host, port in self.orders["targets"]]
        for bastion in self.bastions:
            await bastion.connect()
        count_calls(type(self.bastions[0]._live().tree))
        warm_up = self.target(0, *addresses[0])
        await warm_up.connect()
        await self.execute(warm_up)
        await warm_up.close()
        first = [self.target(0, *addresses[0]) for _ in range(self.orders.get("before", 0))]
        for connection in first:
            await connection.connect()
        before = settled()
        answer: dict[str, Any] = {"fds_before": len(os.listdir("/proc/self/fd"))}
        answer["connect"] = await self.phase(self.connect, list(enumerate(addresses)))
        answer["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        answer["fds"] = len(os.listdir("/proc/self/fd"))
        idle = settled()
        answer["exec"] = await self.phase(self.execute, self.targets)
        used = settled()
        for when, now in (("idle", idle), ("after_exec", used)):
            answer[when] = {
                kind: (now[kind] - before[kind]) / len(addresses) for kind in ("as_is", "trimmed")
            }
        answer["peak_per_target"] = (answer["peak"] - before["as_is"]) / len(addresses)
        targets, self.targets = self.targets + first, []
        answer["close"] = await self.phase(self.close, targets)
        for bastion in self.bastions:
            await bastion.close()
        return answer


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    loop = asyncio.SelectorEventLoop(CountingSelector())
    try:
        figures = loop.run_until_complete(Client(orders).run())
    finally:
        loop.close()
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
