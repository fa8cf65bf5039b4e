"""The APIs under test behind one asynchronous interface, so that one test serves them all.

For ``tests/conformance`` and ``tests/timeouts``. An `Api` makes connections and runs coroutines;
times are seconds here, whatever the API's own unit is. The sync API's adapter never suspends, so
`SyncApi.run` needs no event loop: one ``send(None)`` runs a test to its end. An adapter for
asyncio or trio awaits the real thing and starts the loop in ``run``; tests do not change.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Literal, Protocol, TypeVar

import anyio
import anyio.lowlevel

from hussh import Connection, SSHResult
from hussh.aio import AsyncConnection

__all__ = ["APIS", "LOOPS", "UVLOOP", "Api", "LoopApi", "Session", "SyncApi", "run_in"]

T = TypeVar("T")
Job = Callable[[], Coroutine[Any, Any, T]]


class Session(Protocol):
    """One connection of the API under test."""

    @property
    def real(self) -> Any:
        """The API's own object, which another connection takes as its ``proxy_jump``."""

    async def execute(
        self,
        command: str,
        *,
        timeout: float | None = None,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
    ) -> SSHResult:
        """Run a command; ``timeout`` in seconds, None for the connection's own."""

    async def close(self) -> None:
        """End the connection."""


class Api(Protocol):
    """One of hussh's APIs."""

    name: str

    def run(self, main: Job[None]) -> None:
        """Run a coroutine function to its end."""

    async def connect(
        self, host: str, port: int, *, timeout: float | None = None, **options: Any
    ) -> Session:
        """Open a connection; a `Session` as ``proxy_jump`` stands for its real object."""

    async def together(self, *jobs: Job[T]) -> list[T | BaseException]:
        """Run jobs at once (threads or tasks); what each returned or raised, in order."""


class SyncSession:
    """A `Connection` behind coroutines that call it and never suspend."""

    def __init__(self, real: Connection) -> None:
        """Wrap a connection."""
        self.real = real

    async def execute(
        self, command: str, *, timeout: float | None = None, **more: Any
    ) -> SSHResult:
        """Call ``Connection.execute``, whose unit is milliseconds."""
        milliseconds = None if timeout is None else round(timeout * 1000)
        return self.real.execute(command, milliseconds, **more)

    async def close(self) -> None:
        """Call ``Connection.close``."""
        self.real.close()


class SyncApi:
    """`hussh.Connection`."""

    name = "sync"

    def run(self, main: Job[None]) -> None:
        """Run a coroutine function, which must not suspend."""
        _drive(main())

    async def connect(
        self, host: str, port: int, *, timeout: float | None = None, **options: Any
    ) -> Session:
        """Make a ``Connection``."""
        jump = options.get("proxy_jump")
        if isinstance(jump, SyncSession):
            options["proxy_jump"] = jump.real
        limit = None if timeout is None else round(timeout * 1000)
        return SyncSession(Connection(host, port, timeout=limit, **options))

    async def together(self, *jobs: Job[T]) -> list[T | BaseException]:
        """Run every job in a thread of its own."""
        done: dict[int, T | BaseException] = {}

        def work(number: int) -> None:
            try:
                done[number] = _drive(jobs[number]())
            except BaseException as error:
                done[number] = error

        threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [done[number] for number in range(len(jobs))]


class LoopSession:
    """An `AsyncConnection`."""

    def __init__(self, real: AsyncConnection) -> None:
        """Wrap a connection."""
        self.real = real

    async def execute(
        self, command: str, *, timeout: float | None = None, **more: Any
    ) -> SSHResult:
        """Await ``AsyncConnection.execute``, whose unit is seconds."""
        return await self.real.execute(command, timeout, **more)

    async def close(self) -> None:
        """Await ``AsyncConnection.close``."""
        await self.real.close()


class LoopApi:
    """`hussh.aio.AsyncConnection` on one kind of event loop."""

    def __init__(self, name: str) -> None:
        """Choose the loop, one of `LOOPS`."""
        self.name = name

    def run(self, main: Job[None]) -> None:
        """Run a coroutine function in a loop of its own."""
        run_in(self.name, main)

    async def connect(
        self, host: str, port: int, *, timeout: float | None = None, **options: Any
    ) -> Session:
        """Await an ``AsyncConnection``."""
        jump = options.get("proxy_jump")
        if isinstance(jump, LoopSession):
            options["proxy_jump"] = jump.real
        return LoopSession(await AsyncConnection(host, port=port, timeout=timeout, **options))

    async def together(self, *jobs: Job[T]) -> list[T | BaseException]:
        """Run every job in a task of its own."""
        done: dict[int, T | BaseException] = {}

        async def work(number: int) -> None:
            try:
                done[number] = await jobs[number]()
            except Exception as error:
                done[number] = error

        async with anyio.create_task_group() as group:
            for number in range(len(jobs)):
                group.start_soon(work, number)
        return [done[number] for number in range(len(jobs))]


def run_in(loop: str, main: Job[None]) -> None:
    """Run a coroutine function in a new loop, one of `LOOPS`."""
    options: dict[str, Any] = {}
    if loop != "trio":
        # In debug mode asyncio reports what was forgotten: tasks, exceptions, slow steps.
        options["debug"] = sys.gettrace() is None
    if loop == "uvloop":
        loop, options["use_uvloop"] = "asyncio", True
    anyio.run(main, backend=loop, backend_options=options)


def _drive(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("the sync API suspended")


#: Every API that the suites run over.
APIS: tuple[Api, ...] = (SyncApi(), LoopApi("asyncio"), LoopApi("trio"))
#: The same on a loop that is asyncio's but not of its make; None: it is not installed.
UVLOOP: Api | None = LoopApi("uvloop") if importlib.util.find_spec("uvloop") else None
#: Kinds of event loops.
LOOPS = ("asyncio", "trio") if UVLOOP is None else ("asyncio", "trio", "uvloop")

if UVLOOP is not None:  # its library opens a pipe once for all, which no test has left behind
    run_in("uvloop", anyio.lowlevel.checkpoint)
