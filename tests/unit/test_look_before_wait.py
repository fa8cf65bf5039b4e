"""The drivers' promise to operations: what came since an operation's last look is never slept on.

Nothing arrives here: the operations themselves tell their driver that something has.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from time import monotonic
from typing import Any

import anyio
import pytest

from hussh._connect.tcp import SocketStream
from hussh._protocol.core import Checkpoint, DeadlineExceeded, Op, RunBlocking, WaitFor
from hussh._runtime.choose_driver import start_driver
from hussh._runtime.driver import Driver
from hussh._runtime.thread_driver import ThreadDriver

APIS = ["threads", "asyncio", "trio"]
HUNG = 30.0  # seconds; an operation that waits at all waits as long
MakeOp = Callable[[Driver[Any]], Op[int]]
Run = Callable[..., Any]


@pytest.fixture(params=APIS)
def run(request: pytest.FixtureRequest) -> Run:
    """Return what runs an operation over a socket on which nothing ever comes."""

    def run_op(make: MakeOp, within: float = HUNG) -> int:
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            if request.param == "threads":
                return in_thread(make, near, within)
            return anyio.run(in_loop, make, near, within, backend=request.param)

    return run_op


def in_thread(make: MakeOp, near: socket.socket, within: float) -> int:
    """Run it in a thread."""
    driver = ThreadDriver(SocketStream(near))
    try:
        return driver.run(make(driver), monotonic() + within)
    finally:
        driver.end(driver.root)


async def in_loop(make: MakeOp, near: socket.socket, within: float) -> int:
    """Run it in the event loop that runs."""
    driver = start_driver(SocketStream(near))
    try:
        return await driver.run(make(driver), monotonic() + within)
    finally:
        driver.end(driver.root)
        await driver.wait_gone()


@pytest.mark.parametrize("between", ["call", "checkpoint"])
def test_an_operation_looks_again(run: Run, between: str) -> None:
    """A wait after a call or checkpoint, in which something came, is answered at once."""

    def waits(driver: Driver[Any]) -> Op[int]:
        def arrive(_left: float | None = None) -> None:
            with driver.locked():
                driver.wake(driver.root.token)

        looks = 0
        for _ in range(3):
            looks += 1  # a look that finds nothing
            if between == "call":
                yield RunBlocking(arrive, in_caller=True)
            else:
                driver.wake(driver.root.token)
                yield Checkpoint()
            yield WaitFor(driver.root)
        return looks

    assert run(waits) == 3


def test_an_operation_that_has_looked_sleeps(run: Run) -> None:
    """One that finds nothing on its second look waits in earnest, and is looked at no more."""
    looks: list[None] = []

    def waits(driver: Driver[Any]) -> Op[int]:
        yield RunBlocking(lambda _: None, in_caller=True)
        driver.wake(driver.root.token)
        yield Checkpoint()
        while True:
            looks.append(None)
            yield WaitFor(driver.root)

    for within in (0.05, 2, HUNG):  # seconds; a busy machine may need more for its two looks
        looks.clear()
        with pytest.raises(DeadlineExceeded):
            run(waits, within)
        if len(looks) >= 2:
            break
    assert len(looks) == 2


def test_a_deadline_at_a_checkpoint(run: Run) -> None:
    """Work that is cut by checkpoints ends at its time limit."""

    def works(_: Driver[Any]) -> Op[int]:
        while True:
            yield Checkpoint()

    with pytest.raises(DeadlineExceeded):
        run(works, 0.05)


def test_others_have_turns_at_checkpoints() -> None:
    """A long operation does not keep the tasks of its loop waiting."""
    over: list[None] = []

    def works() -> Op[int]:
        while not over:
            yield Checkpoint()
        return 1

    async def ends_it() -> None:
        over.append(None)

    async def main(near: socket.socket) -> None:
        driver = start_driver(SocketStream(near))
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(ends_it)
                assert await driver.run(works(), monotonic() + HUNG) == 1
        finally:
            driver.end(driver.root)
            await driver.wait_gone()

    for backend in ("asyncio", "trio"):
        over.clear()
        near, far = socket.socketpair()
        near.setblocking(False)
        with far:
            anyio.run(main, near, backend=backend)
