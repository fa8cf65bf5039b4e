"""Calls that the first of many tasks makes for all; needs no server."""

from __future__ import annotations

import anyio

from hussh._runtime.async_single_flight import single_flight
from hussh._runtime.loop_tools import Loop


class Work:
    """A call that waits until the test lets it end, and whether its result is kept."""

    def __init__(self, *, keeps: bool = True) -> None:
        self.keeps = keeps
        self.kept: str | None = None
        self.calls = 0
        self.may_end = anyio.Event()
        self.got: list[str] = []

    async def call(self) -> str:
        self.calls += 1
        await self.may_end.wait()
        if self.keeps:
            self.kept = "result"
        return "result"

    async def ask(self) -> None:
        self.got.append(await single_flight(Loop(), self, lambda: self.kept, self.call))


async def test_single_flight_serves_all(loop: str) -> None:
    """Of tasks that want the same at once, one makes the call and the others take its result."""
    work = Work()
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(work.ask)
        await anyio.wait_all_tasks_blocked()
        assert work.calls == 1
        work.may_end.set()
    assert work.got == ["result"] * 5
    assert work.calls == 1


async def test_what_is_not_kept_is_asked_again(loop: str) -> None:
    """Where a result does not hold for others, each makes its own call."""
    work = Work(keeps=False)
    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(work.ask)
        await anyio.wait_all_tasks_blocked()
        work.may_end.set()
    assert work.got == ["result"] * 5
    assert work.calls == 5


async def test_a_cancelled_call_leaves_the_others_theirs(loop: str) -> None:
    """The first one's cancellation is not the others': they make the call themselves."""
    work = Work()
    async with anyio.create_task_group() as group:
        first = anyio.CancelScope()

        async def cancelled() -> None:
            with first:
                await work.ask()

        group.start_soon(cancelled)
        await anyio.wait_all_tasks_blocked()
        group.start_soon(work.ask)
        await anyio.wait_all_tasks_blocked()
        assert work.calls == 1
        first.cancel()
        await anyio.wait_all_tasks_blocked()
        assert work.calls == 2
        work.may_end.set()
    assert work.got == ["result"]
