"""The scheduler of many items in several loops, with work that only counts; needs no server."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import anyio
import pytest

from hussh._multi.batch import Batch, Here, HereDrain, Lane, drain
from hussh._runtime.background_loops import Loops, choose_count
from hussh.errors import ConnectError

Do = Callable[[int], Awaitable[int]]


@pytest.fixture
def loops() -> Iterator[Loops]:
    """Start three loops; they end with the test."""
    started = Loops(3)
    yield started
    started.close()


class Busy:
    """Work that counts how much of it is done at once, in all loops together."""

    def __init__(self, seed: int = 0) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        self.random = random.Random(seed)

    async def __call__(self, number: int) -> int:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
            self.seen[threading.current_thread().name] += 1
            turns = self.random.randrange(4)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        with self.lock:
            self.now -= 1
        return number * number


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("seed", range(5))
def test_everything_is_done_once(loops: Loops, limit: int, seed: int) -> None:
    """Every item has its result, once, and never more than `limit` are under way."""
    choose = random.Random(seed)
    items = [(choose.choice(loops.threads[: seed % 3 + 1]), n) for n in range(60)]
    busy = Busy(seed)
    assert sorted(drain(busy, items, limit)) == [(n, n * n) for n in range(60)]
    assert busy.most <= limit
    assert busy.now == 0


def test_slots_go_to_the_lane_that_has_work(loops: Loops) -> None:
    """When one loop is done, its slots work for another: all four run at once there."""
    together = 4
    arrived = threading.Semaphore(0)
    go = threading.Event()

    async def meet(number: int) -> int:
        if number >= 4:  # these must all be under way at once before any can end
            arrived.release()
            while not go.is_set():
                await anyio.sleep(0.001)
        return number

    def watch() -> None:
        for _ in range(together):
            assert arrived.acquire(timeout=30)
        go.set()

    thread = threading.Thread(target=watch)
    thread.start()
    first, second, _ = loops.threads
    items = [*((first, n) for n in range(4)), *((second, n) for n in range(4, 12))]
    assert len(list(drain(meet, items, together))) == 12
    thread.join()
    assert go.is_set()


def test_a_bug_in_the_work_comes_out(loops: Loops) -> None:
    """An exception of the work itself ends the batch and is raised, not lost."""

    async def fail(number: int) -> int:
        if number == 3:
            raise LookupError("three")
        await anyio.lowlevel.checkpoint()
        return number

    items = [(loops.threads[n % 3], n) for n in range(30)]
    with pytest.raises(LookupError, match="three"):
        list(drain(fail, items, 5))


def test_stopping_early(loops: Loops) -> None:
    """When the reader leaves, work that is under way is cancelled and finishes its clean-up."""
    begun, cleaned = threading.Semaphore(0), Counter[int]()

    async def wait(number: int) -> int:
        if number == 0:
            return 0
        begun.release()
        try:
            await anyio.sleep_forever()
        finally:
            cleaned[number] += 1
        return number

    items = [(loops.threads[n % 3], n) for n in range(20)]
    reading = drain(wait, items, 9)
    assert next(reading) == (0, 0)
    for _ in range(9):  # the slot of the first is taken again
        assert begun.acquire(timeout=30)
    reading.close()  # type: ignore[attr-defined]
    assert sorted(cleaned.values()) == [1] * 9


def test_loops_that_end_in_between(loops: Loops) -> None:
    """A batch whose loops are closed ends; what was not done is left out."""
    begun = threading.Event()

    async def wait(number: int) -> int:
        if number == 0:
            return 0
        begun.set()
        await anyio.sleep_forever()
        return number

    items = [(loops.threads[0], n) for n in range(9)]
    got = []
    for pair in drain(wait, items, 3):
        got.append(pair)
        assert begun.wait(30)
        loops.close()
    assert got == [(0, 0)]
    assert list(drain(wait, items, 3)) == []


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_with_a_lane_of_this_loop(loop: str, loops: Loops, limit: int) -> None:
    """Items of the caller's own loop and of others are one batch, in either kind of loop."""
    here = Here()
    placement: list[Lane] = [here, *loops.threads]
    busy = Busy()
    items = [(placement[n % 4], n) for n in range(40)]
    async with HereDrain(busy, items, limit, here) as drained:
        got = [pair async for pair in drained]
    assert sorted(got) == [(n, n * n) for n in range(40)]
    assert busy.most <= limit
    assert busy.seen[threading.current_thread().name] == 10


async def test_leaving_a_lane_of_this_loop(loop: str, loops: Loops) -> None:
    """Leaving the block early cancels the work here, too."""
    here = Here()
    begun: list[int] = []
    ended: list[int] = []

    async def wait(number: int) -> int:
        begun.append(number)
        try:
            while number or len(begun) < 8:  # the first ends once all have begun
                await anyio.sleep(0.001)
        finally:
            ended.append(number)
        return number

    items = [((here, loops.threads[0])[n % 2], n) for n in range(8)]
    async with HereDrain(wait, items, 8, here) as drained:
        assert await drained.__anext__() == (0, 0)
    assert sorted(ended) == list(range(8))


def test_how_many_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the cores, but no more than trees or than the number of hosts is worth."""
    monkeypatch.setattr("hussh._runtime.background_loops.count_cores", lambda: 4)
    assert choose_count(2000, 2000) == 4
    assert choose_count(2000, 1) == 1
    assert choose_count(200, 200) == 1
    assert choose_count(10, 10) == 1
    assert choose_count(0, 0) == 1
    monkeypatch.setattr("hussh._runtime.background_loops.count_cores", lambda: 64)
    assert choose_count(9000, 9000) == 8


def test_work_that_a_loop_takes_in_its_last_moment(loops: Loops) -> None:
    """What was given to a loop before it was told to end has an end, too."""

    async def forever(_: int) -> int:
        await anyio.sleep_forever()
        return 0

    lane, gate = loops.threads[0], threading.Event()
    batch = Batch(forever, [(lane, 0)], 1, lambda: None)
    lane.call_soon(lambda: gate.wait(30))
    batch.start()
    lane.stop()
    gate.set()
    lane.join()
    assert batch.over


def test_a_generator_that_a_loop_collects(loops: Loops) -> None:
    """Dropped in the thread that does its work, it stops that and does not wait for it."""
    ended = threading.Event()

    async def work(number: int) -> int:
        try:
            while number:
                await anyio.sleep(30)
        finally:
            if number:
                ended.set()
        return number

    lane, dropped = loops.threads[0], threading.Event()
    kept = [drain(work, [(lane, 0), (lane, 1)], 2)]
    assert next(kept[0]) == (0, 0)
    lane.call_soon(kept.clear)
    lane.call_soon(dropped.set)
    assert dropped.wait(20)
    assert ended.wait(20)


def test_no_descriptors_for_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a loop cannot be made, that is an error at once, and nobody waits for the loop."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr("selectors.DefaultSelector", refuse)
    with pytest.raises(ConnectError, match="cannot start an event loop: Too many open files"):
        Loops(2)


def test_one_wake_for_a_turn_of_the_loop(loops: Loops) -> None:
    """Results that come in the same turn of a loop wake the caller once."""
    woken: list[int] = []
    over = threading.Event()
    together = 0
    release = anyio.Event()

    async def do(number: int) -> int:
        nonlocal together
        together += 1
        if together == 8:
            release.set()
        await release.wait()
        return number

    def wake() -> None:
        woken.append(len(batch._results))
        if not batch._active:
            over.set()

    batch = Batch(do, [(loops.threads[0], n) for n in range(8)], 8, wake)
    batch.start()
    over.wait()
    assert woken == [8, 8], "once for the results, once for the end"
