"""Wraps the objects of each API so that one test can await them all.

An `Awaited` wraps a connection, an SFTP, a file, a process, a shell or a tailer of either API.
A test awaits every method of it, whether the real one waits in a thread, in a task, or not at
all. It also uses ``async for`` and ``async with`` on the result of a call without an ``await``.
Time limits are seconds. For tests that shall run over all APIs from one source.
"""

from __future__ import annotations

import inspect
import io
from collections.abc import Generator
from typing import Any

from hussh._api.closing import AsyncClosing, Closing
from hussh._api.sftp import SFTP
from hussh._api.sftp_entry import Entry
from hussh.aio import AsyncConnection, AsyncSFTP

__all__ = ["Awaited", "awaited"]


def awaited(value: Any) -> Any:
    """Wrap an object of hussh; return anything else as it is."""
    ours = type(value).__module__.startswith(("hussh._api", "hussh._multi"))
    if isinstance(value, Closing | AsyncClosing | SFTP | AsyncSFTP | Entry | io.IOBase) or ours:
        return Awaited(value)
    return value


class Awaited:
    """One object of hussh, whose methods are awaited.

    Attributes:
        real: the object.
    """

    def __init__(self, real: Any) -> None:
        """Wrap an object."""
        self.real = real

    def __repr__(self) -> str:
        return f"Awaited({self.real!r})"

    def __fspath__(self) -> Any:
        return self.real.__fspath__()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self.real, name)
        if not callable(member):
            return awaited(member)

        def call(*arguments: Any, **named: Any) -> _Call:
            given = [value.real if isinstance(value, Awaited) else value for value in arguments]
            if self._is_sync and isinstance(named.get("timeout"), int | float):
                named["timeout"] = round(named["timeout"] * 1000)
            return _Call(lambda: member(*given, **named))

        return call

    @property
    def _is_sync(self) -> bool:
        return not isinstance(self.real, AsyncConnection | AsyncSFTP | AsyncClosing)

    async def __aenter__(self) -> Any:
        if hasattr(self.real, "__aenter__"):
            return awaited(await self.real.__aenter__())
        return awaited(self.real.__enter__())

    async def __aexit__(self, *error: Any) -> None:
        if hasattr(self.real, "__aexit__"):
            await self.real.__aexit__(*error)
        else:
            self.real.__exit__(*error)

    def __aiter__(self) -> _Iteration:
        return _Iteration(lambda: self.real)

    async def say(self, data: bytes) -> None:
        """Write to the stdin of a process, which gets it at once."""
        await self.stdin.write(data)
        if isinstance(self.real.stdin, io.IOBase):
            self.real.stdin.flush()

    async def read_some(self, stream: str, size: int) -> bytes:
        """Read what is there of "stdout" or "stderr" of a process, at least a byte."""
        real = getattr(self.real, stream)
        some: bytes = real.read1(size) if hasattr(real, "read1") else await real.read(size)
        return some


class _Call:
    """A call of a method that is made when its result is awaited, entered or iterated."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._entered: Any = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._result().__await__()

    async def __aenter__(self) -> Any:
        self._entered = await self._result()
        return await self._entered.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        await self._entered.__aexit__(*error)

    def __aiter__(self) -> _Iteration:
        return _Iteration(self._make)

    async def _result(self) -> Any:
        made = self._make()
        return awaited(await made if inspect.isawaitable(made) else made)


class _Iteration:
    """Iterates over what a call returns. It is no generator, because a test may stop midway."""

    def __init__(self, make: Any) -> None:
        self._make = make
        self._steps: Any = None

    def __aiter__(self) -> _Iteration:
        return self

    async def __anext__(self) -> Any:
        if self._steps is None:
            made = self._make()
            real = await made if inspect.isawaitable(made) else made
            self._steps = aiter(real) if hasattr(real, "__aiter__") else iter(real)
        if hasattr(self._steps, "__anext__"):
            return awaited(await anext(self._steps))
        try:
            return awaited(next(self._steps))
        except StopIteration:
            raise StopAsyncIteration from None
