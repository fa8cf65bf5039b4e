"""``with`` and ``async with`` blocks of objects that are closed after use: two base classes.

`Connection`, `Process`, `Tunnel` and the other public classes inherit from them, in modules such as
`connection.py` and `tunnel.py`. The base classes know nothing of SSH.
"""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

__all__ = ["AsyncClosing", "Closing"]

S = TypeVar("S", bound="Closing")
A = TypeVar("A", bound="AsyncClosing")


class Closing:
    """A context manager that ends with `close`, after `_leave` if nothing was raised."""

    def close(self) -> None:
        raise NotImplementedError

    def _leave(self) -> None:
        """Do what is left to do at the end of a block that went well."""

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            if kind is None:
                self._leave()
        finally:
            self.close()


class AsyncClosing:
    """The same with `aclose`, which must not wait if its task is cancelled."""

    async def aclose(self) -> None:
        raise NotImplementedError

    async def _leave(self) -> None:
        """Do what is left to do at the end of a block that went well."""

    async def __aenter__(self: A) -> A:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        try:
            if kind is None:
                await self._leave()
        finally:
            await self.aclose()
