"""Every operation, cancelled wherever it suspends, and in each of the loops' own ways.

`test_cancel` cancels connecting and commands through anyio. Here are the operations that it does
not have, and asyncio's and trio's own means: time limits, cancelled tasks, and groups of tasks in
which a neighbour fails. Tasks, descriptors and processes that are left fail the test by themselves.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

from hussh._protocol.session_slots import SessionSlots
from hussh._protocol.sftp.local_file import FileSink
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.aio.mute_peers import Silence
from tests.aio.steps import Stepped
from tests.aio.test_cancel import cancel_everywhere
from tests.proxy.commands import NC
from tests.support.sshd import Sshd

LONG = os.environ.get("HUSSH_LONG") == "1"
Begin = Callable[[], Awaitable[Any]]
TEXT = "x" * 100_000


class Work:
    """Operations on one connection, each of which can be begun again after it was given up.

    ``jump`` is an open connection to a bastion.
    """

    jump: AsyncConnection | None = None

    def __init__(self, connection: AsyncConnection, target: Sshd, make: Make, folder: Path) -> None:
        self.connection, self.target, self.make, self.folder = connection, target, make, folder
        self.local = folder / "local"
        for name in ("a", "b/c"):
            file = folder / "tree" / name
            file.parent.mkdir(parents=True)
            file.write_text(TEXT)
        self.local.write_text(TEXT * 5)

    def path(self, name: str) -> str:
        return str(self.target.alice.path(f"ways-{name}"))  # others share this home

    async def connect(self) -> None:
        await self._greet(self.make(self.target, proxy_jump=self.jump))

    async def proxy(self) -> None:
        await self._greet(self.make(self.target, proxy_command=NC))

    async def _greet(self, connection: AsyncConnection) -> None:
        async with connection:
            assert (await connection.execute("echo a")).stdout == "a\n"

    async def execute(self) -> None:
        assert (await self.connection.execute("cat", input=TEXT)).stdout == TEXT

    async def popen(self) -> None:
        async with await self.connection.popen("cat; exec sleep 60") as process:
            await process.stdin.write(b"a\n")
            assert await process.stdout.readline() == b"a\n"
            process.kill()

    async def shell(self) -> None:
        async with await self.connection.shell(pty=True) as shell:
            await shell.send("echo $((40 + 2))")
            assert (await shell.read()).stdout

    async def sftp(self) -> None:
        await self.connection.sftp_write(self.local, self.path("there"))
        await self.connection.sftp_read(self.path("there"), self.folder / "back")
        assert (self.folder / "back").read_text() == TEXT * 5

    async def contents(self) -> None:
        await self.connection.sftp_write_data(TEXT, self.path("contents"))
        assert await self.connection.sftp_read(self.path("contents")) == TEXT

    async def scp(self) -> None:
        await self.connection.scp_write(self.local, self.path("scp"))
        await self.connection.scp_read(self.path("scp"), self.folder / "back-scp")
        assert (self.folder / "back-scp").read_text() == TEXT * 5

    async def tree(self) -> None:
        sent, failed = await self.connection.sftp_put_dir(self.folder / "tree", self.path("tree"))
        assert (len(sent), failed) == (2, [])
        got, failed = await self.connection.sftp_get_dir(self.path("tree"), self.folder / "t")
        assert (len(got), failed) == (2, [])

    async def beside(self, work: Callable[[], Awaitable[object]]) -> None:
        """Do it while a neighbour uses the same connection, which must not notice."""
        done = anyio.Event()
        rounds = 0

        async def neighbour() -> None:
            nonlocal rounds
            while not done.is_set():
                await self.execute()
                rounds += 1

        async with anyio.create_task_group() as group:
            group.start_soon(neighbour)
            await work()
            done.set()
        assert rounds
        session: Any = self.connection._shared.session
        assert SessionSlots.of(session.link).used == 0
        assert session.driver._waiters == {}
        assert session.driver._leader is None


@pytest.mark.parametrize("operation", ["shell", "contents", "scp", "tree"])
async def test_every_place(
    loop: str, operation: str, target: Sshd, make: Make, tmp_path: Path, silence: Silence
) -> None:
    """Given up anywhere, an operation leaves its connection and its neighbours as they were."""
    async with make(silence.before(target)) as connection:
        work = Work(connection, target, make, tmp_path)

        async def everywhere() -> None:
            assert await cancel_everywhere(getattr(work, operation), silence) >= 3

        await work.beside(everywhere)


_asyncio: Any = asyncio  # which has more to offer since Python 3.11


async def test_a_file_that_is_opened_meanwhile(
    loop: str, target: Sshd, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A local file that a thread opens while its transfer is cancelled is closed, too."""
    begun, go_on, opening = threading.Event(), threading.Event(), FileSink.open

    def slow_open(sink: FileSink) -> None:
        begun.set()
        assert go_on.wait(20)
        opening(sink)

    monkeypatch.setattr(FileSink, "open", slow_open)
    path = str(target.alice.path("ways-opened"))
    async with make(target) as connection:
        await connection.sftp_write_data(TEXT, path)
        async with anyio.create_task_group() as group:
            group.start_soon(connection.sftp_read, path, tmp_path / "back")
            while not begun.is_set():
                await anyio.sleep(0.001)
            group.cancel_scope.cancel()
            go_on.set()
        assert await connection.sftp_read(path) == TEXT
    assert (tmp_path / "back").read_text() == ""


class Neighbour(Exception):
    """What a task of the group fails with."""


#: Begins an operation; it calls what it is given where it shall be cancelled.
Run = Callable[[Callable[[], object]], Awaitable[Any]]


async def by_timeout(run: Run) -> None:
    """Let an asyncio.timeout() expire."""
    try:
        async with _asyncio.timeout(None) as limit:
            await run(lambda: limit.reschedule(asyncio.get_running_loop().time()))
    except TimeoutError:
        assert limit.expired()


async def by_task(run: Run) -> None:
    """Cancel an asyncio task."""

    async def work() -> None:
        await run(lambda: task.cancel())

    task = asyncio.create_task(work())
    outcome = (await asyncio.gather(task, return_exceptions=True))[0]
    assert outcome is None or isinstance(outcome, asyncio.CancelledError)


async def by_task_group(run: Run) -> None:
    """Let a neighbour in an asyncio.TaskGroup fail."""
    now, done = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await run(now.set)
        done.set()

    async def fail() -> None:
        waits = [asyncio.create_task(event.wait()) for event in (now, done)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if now.is_set():
            raise Neighbour

    failed = await survived(_asyncio.TaskGroup, "create_task", lambda job: job(), work, fail)
    assert failed == now.is_set()


async def by_nursery(run: Run) -> None:
    """Let a neighbour in a trio nursery fail."""
    now, done = trio.Event(), trio.Event()

    async def work() -> None:
        await run(now.set)
        done.set()

    async def fail() -> None:
        async with trio.open_nursery() as nursery:
            for event in (now, done):
                nursery.start_soon(wait, event, nursery.cancel_scope)
        if now.is_set():
            raise Neighbour

    async def wait(event: trio.Event, scope: trio.CancelScope) -> None:
        await event.wait()
        scope.cancel()

    failed = await survived(trio.open_nursery, "start_soon", lambda job: job, work, fail)
    assert failed == now.is_set()


async def survived(
    group: Callable[[], Any], start: str, made: Callable[[Any], Any], *jobs: Any
) -> bool:
    """Run jobs in a group; whether one of them, and no more than one, failed as planned."""
    try:
        async with group() as members:
            for job in jobs:
                getattr(members, start)(made(job))
    except BaseException as error:
        errors = getattr(error, "exceptions", None)
        if errors is None:
            raise
        if [type(each) for each in errors] != [Neighbour]:
            raise
        return True
    return False


async def by_move_on(run: Run) -> None:
    """Let a trio.move_on_after() expire."""
    with trio.move_on_after(1000) as scope:

        def strike() -> None:
            scope.deadline = trio.current_time()

        await run(strike)


MEANS: dict[str, tuple[str, Callable[[Run], Awaitable[None]]]] = {
    "asyncio.timeout": ("asyncio", by_timeout),
    "asyncio task": ("asyncio", by_task),
    "asyncio.TaskGroup": ("asyncio", by_task_group),
    "trio.move_on_after": ("trio", by_move_on),
    "trio nursery": ("trio", by_nursery),
}
NEW = {"asyncio.timeout", "asyncio.TaskGroup"}  # since Python 3.11

#: At every n-th place, unless HUSSH_LONG is set; then at each, and for all operations.
STRIDE = 1 if LONG else 3
OPERATIONS = ["connect", "execute", "popen", "sftp"]
if LONG:
    OPERATIONS += ["proxy", "shell", "contents", "scp", "tree"]


@pytest.mark.parametrize("means", MEANS)
def test_own_means(
    means: str, bastion: Sshd, target: Sshd, make: Make, tmp_path: Path, silence: Silence
) -> None:
    """A loop's own means of cancellation end operations at once, and disturb nobody else."""
    if means in NEW and sys.version_info < (3, 11):
        pytest.skip(f"{means} came with Python 3.11")
    loop, cancel = MEANS[means]
    gate = silence.before(bastion)

    async def main() -> None:
        async with make(gate) as jump, make(target, proxy_jump=jump) as connection:
            work = Work(connection, target, make, tmp_path)
            work.jump = jump
            for operation in OPERATIONS:
                await work.beside(partial(sweep, getattr(work, operation)))

    async def sweep(begin: Begin) -> None:
        at = 1
        while True:
            await cancel(partial(stepped, begin, at))
            if not silence.is_over():
                break
            at += STRIDE
        assert at > 1

    def stepped(begin: Begin, at: int, strike: Callable[[], object]) -> Stepped[Any]:
        return Stepped(begin(), at=at, strike=silence.and_then(strike))

    if loop == "asyncio":
        asyncio.run(main(), debug=True)
    else:
        trio.run(main)
