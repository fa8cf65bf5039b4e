"""hussh with many targets through bastions: the measured process of bench_scale.

Reads one JSON line of orders, answers with one line of figures.  It imports
nothing but hussh and the standard library, so that its memory is theirs.

A process warms up first: it opens, uses and closes some connections, so that the
first target finds the modules, caches and threads that the last one finds.  Then
come the rounds: connect all, rest, run commands on each as often as ordered, close.
With "counted" one more round counts what woke whom; counting costs CPU time, so
the other rounds are without.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hussh._native.link import Link
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection

MALLOC_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)

Place = tuple[str, int]
Figures = dict[str, Any]


class Collector:
    """CPU seconds that Python's garbage collector has used so far."""

    used = _began = 0.0

    @classmethod
    def watch(cls, phase: str, _: object) -> None:
        if phase == "start":
            cls._began = time.thread_time()
        else:
            cls.used += time.thread_time() - cls._began


class Counts:
    """What woke whom, since the last look.

    polls: returns of the loop's selector that brought something; pumps: calls of the C
    pump; wakes: tasks that were resumed.
    """

    polls = pumps = wakes = 0

    @classmethod
    def take(cls) -> dict[str, int]:
        taken = {"polls": cls.polls, "pumps": cls.pumps, "wakes": cls.wakes}
        cls.polls = cls.pumps = cls.wakes = 0
        return taken


@contextmanager
def counting(tree: Any, selector: Any) -> Iterator[None]:
    pump, wait, select = Link.pump, tree._wait, selector.select

    def counted_pump(self: Link, budget: int) -> int:
        Counts.pumps += 1
        return pump(self, budget)

    def counted_wait(self: Any, *arguments: Any) -> Any:
        Counts.wakes += 1  # each wait ends with one
        return wait(self, *arguments)

    def counted_select(timeout: float | None = None) -> Any:
        ready = select(timeout)
        Counts.polls += bool(ready)
        return ready

    Link.pump = counted_pump  # type: ignore[method-assign]
    tree._wait = counted_wait
    selector.select = counted_select
    try:
        yield
    finally:
        Link.pump, tree._wait, selector.select = pump, wait, select  # type: ignore[method-assign]


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def settled() -> dict[str, int]:
    """Bytes resident after a collection: as the process is, and after malloc_trim(0)."""
    gc.collect()
    as_is = resident()
    MALLOC_TRIM(0)
    return {"as_is": as_is, "trimmed": resident()}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Phase:
    """Wall time and CPU time of a block, and how much of the latter the collector had.

    Args:
        items: how many connections or commands these are for.
    """

    def __init__(self, items: int) -> None:
        self.figures: Figures = {"items": items}

    def __enter__(self) -> Figures:
        # What an earlier round left free would be used again, so this one would cost less.
        settled()
        self._gc = Collector.used
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self.figures

    def __exit__(self, *_: object) -> None:
        cpu, wall = time.process_time() - self._cpu, time.perf_counter() - self._wall
        self.figures.update(wall=wall, cpu=cpu, gc=Collector.used - self._gc)


class Client:
    """What both APIs' clients share: the orders, and the figures of a round."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self.common = {
            "username": orders["user"],
            "private_key": orders["key"],
            "known_hosts": orders["known_hosts"],
            "host_key_policy": "strict",
            "agent": False,
        }
        self.places: list[Place] = [(host, port) for host, port in orders["targets"]]
        self.bastions = [
            AsyncConnection(host, port=port, **self.common) for host, port in orders["bastions"]
        ]

    def bastion(self, index: int) -> AsyncConnection:
        return self.bastions[index % len(self.bastions)]

    def warm_up_places(self) -> list[Place]:
        """As many as ordered, again from the first one where there are fewer."""
        places = self.places
        return [places[index % len(places)] for index in range(self.orders["warm_up"])]

    def first_round(self, before: dict[str, int], phases: Figures) -> Figures:
        """What memory and descriptors say, besides the phases of the first round."""
        count = len(self.places)
        peak = phases.pop("peak")
        return {
            "peak_per_target": (peak - before["trimmed"]) / count,
            "fds": phases.pop("fds"),
            **{
                when: {kind: (size - before["trimmed"]) / count for kind, size in now.items()}
                for when, now in (
                    ("idle", phases.pop("idle")), ("after_exec", phases.pop("after_exec")),
                )
            },
        }  # fmt: skip


class Connections(Client):
    """Tasks of one asyncio loop with an `AsyncConnection` for each target."""

    def __init__(self, orders: dict[str, Any]) -> None:
        super().__init__(orders)
        self.targets: list[AsyncConnection] = []

    async def each(self, call: Callable[[Any], Awaitable[Any]], items: list[Any]) -> None:
        """A call for each item, so many at once; as little besides as possible."""
        waiting = iter(items)

        async def work() -> None:
            for item in waiting:
                await call(item)

        tasks = min(self.orders["at_once"], len(self.targets) or len(items))
        await asyncio.gather(*(work() for _ in range(tasks)))

    async def connect(self, item: tuple[int, Place]) -> None:
        index, (host, port) = item
        connection = AsyncConnection(host, port=port, proxy_jump=self.bastion(index), **self.common)
        await connection.connect()
        self.targets.append(connection)

    async def execute(self, connection: AsyncConnection) -> None:
        assert (await connection.execute("true")).status == 0

    async def close(self, connection: AsyncConnection) -> None:
        await connection.close()

    async def round(self, places: list[Place], repeat: int) -> Figures:
        figures: Figures = {}
        with Phase(len(places)) as figures["connect"]:
            await self.each(self.connect, list(enumerate(places)))
        figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures["fds"] = descriptors()
        figures["idle"] = settled()
        with Phase(len(places) * repeat) as figures["exec"]:
            await self.each(self.execute, self.targets * repeat)
        figures["after_exec"] = settled()
        with Phase(len(places)) as figures["close"]:
            await self.each(self.close, self.targets)
        self.targets.clear()
        return figures

    def heard(self) -> int:
        return sum(c._get_session().link.get_info().packets for c in self.bastions)

    async def counted(self, loop: Any) -> Figures:
        figures: Figures = {}
        tree = type(self.bastions[0]._get_session().driver)
        calls = (
            ("connect", self.connect, list(enumerate(self.places))),
            ("exec", self.execute, self.targets),
        )
        with counting(tree, loop._selector):
            for name, call, items in calls:
                # Not before the connections are there whose commands these are.
                items = items * self.orders["repeat"] if name == "exec" else items
                Counts.take()
                before = self.heard()
                await self.each(call, items)
                packets = self.heard() - before
                figures[name] = {**Counts.take(), "packets": packets, "items": len(items)}
        await self.each(self.close, self.targets)
        return figures

    async def main(self) -> Figures:
        orders = self.orders
        for bastion in self.bastions:
            await bastion.connect()
        await self.round(self.warm_up_places(), 1)
        kept = [
            AsyncConnection(host, port=port, proxy_jump=self.bastion(0), **self.common)
            for host, port in self.places[:1] * orders.get("before", 0)
        ]
        for connection in kept:
            await connection.connect()
        before = settled()
        answer: Figures = {"fds_before": descriptors()}
        rounds = [await self.round(self.places, orders["repeat"]) for _ in range(orders["rounds"])]
        answer.update(self.first_round(before, rounds[0]), rounds=rounds)
        if orders.get("counted"):
            answer["counts"] = await self.counted(asyncio.get_running_loop())
        for connection in (*kept, *self.bastions):
            await connection.close()
        return answer

    def run(self) -> Figures:
        return asyncio.run(self.main())


class Batch(Client):
    """A blocking `MultiConnection` with all of its defaults."""

    def multi(self, places: list[Place]) -> MultiConnection:
        hosts = [
            {"host": host, "port": port, "proxy_jump": self.bastion(index)}
            for index, (host, port) in enumerate(places)
        ]
        return MultiConnection.from_shared_auth(hosts, **self.common)

    def round(self, places: list[Place], repeat: int) -> Figures:
        figures: Figures = {}
        multi = self.multi(places)
        with Phase(len(places)) as figures["connect"]:
            multi.connect().raise_if_any_failed()
        figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        figures["fds"] = descriptors()
        figures["idle"] = settled()
        with Phase(len(places) * repeat) as figures["exec"]:
            for _ in range(repeat):
                multi.execute("true").raise_if_any_failed()
        figures["after_exec"] = settled()
        figures["loops"] = multi._group.loops
        with Phase(len(places)) as figures["close"]:
            multi.close()
        return figures

    def run(self) -> Figures:
        orders = self.orders
        self.round(self.warm_up_places(), 1)
        before = settled()
        answer: Figures = {"fds_before": descriptors()}
        rounds = [self.round(self.places, orders["repeat"]) for _ in range(orders["rounds"])]
        answer.update(self.first_round(before, rounds[0]), rounds=rounds)
        return answer


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    gc.callbacks.append(Collector.watch)
    client = Batch(orders) if orders.get("api") == "multi" else Connections(orders)
    print(json.dumps(client.run()), flush=True)


if __name__ == "__main__":
    main()
