"""`Client`: what a conformance test works with, and `run_async_test`, which runs the test.

For the ``conftest.py`` of the suites and their tests. A client is a way (an API and the servers
to travel through) and the connections made on it; it knows no transport by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import pytest

from hussh import SSHResult
from tests.conformance.apis import Api, Job, Session
from tests.conformance.awaited import Awaited
from tests.support.accounts import Account
from tests.support.sshd import Sshd

__all__ = ["Client", "run_async_test"]

T = TypeVar("T")


class Client:
    """The connection under test, and more on the same way where a test needs them.

    Attributes:
        api: the API under test.
        server, account: where the connection ends, and as whom.
        hops: connections to the servers before it, in the order of travel.
        main: the connection itself.
    """

    def __init__(
        self,
        api: Api,
        way: list[Sshd],
        server: Sshd,
        first: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare; nothing is connected before `open`.

        ``first`` are options of the connection that begins the way (a ``proxy_command``).
        """
        self.api = api
        self.server = server
        self.account: Account = server.alice
        self.hops: list[Session] = []
        self.main: Session
        self._way = way
        self._first = dict(first or {})
        self._more: list[Session] = []

    async def open(self) -> None:
        """Connect, hop by hop."""
        for hop in self._way:
            self.hops.append(await self._login(hop))
        self.main = await self._login(self.server)

    @property
    def awaited(self) -> Awaited:
        """The whole API of the connection under test, awaited."""
        return Awaited(self.main.real)

    async def close(self) -> None:
        """Close everything, the last connection first."""
        for session in [*self._more[::-1], *([self.main] if hasattr(self, "main") else [])]:
            await session.close()
        while self.hops:
            await self.hops.pop().close()

    async def connect(self, host: str, port: int, **options: Any) -> Session:
        """Connect to another server on the same way; closed with the client."""
        if self.hops:
            options.setdefault("proxy_jump", self.hops[-1])
        if not options.get("proxy_jump"):
            options = {**await self._first_options(host, port), **options}
        session = await self.api.connect(host, port, **options)
        self._more.append(session)
        return session

    async def connect_to(self, server: Sshd, **options: Any) -> Session:
        """Connect as alice to another real server on the same way."""
        options = {"username": server.alice.name, "private_key": server.alice.key.path, **options}
        return await self.connect(server.host, server.port, **options)

    async def execute(
        self,
        command: str,
        *,
        timeout: float | None = None,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
    ) -> SSHResult:
        """Run a command on the connection under test."""
        return await self.main.execute(
            command, timeout=timeout, input=input, max_output=max_output, wait=wait
        )

    async def together(self, *jobs: Job[T]) -> list[T]:
        """Run jobs at once; raises the first error there was, else returns all values."""
        values: list[T] = []
        for outcome in await self.api.together(*jobs):
            if isinstance(outcome, BaseException):
                raise outcome
            values.append(outcome)
        return values

    async def _first_options(self, host: str, port: int) -> dict[str, Any]:
        """Return the options of a connection that begins the way; each gets its own stream."""
        make = self._first.get("stream")
        if make is None:
            return self._first
        return {"stream": await make(self.api, host, port)}

    async def _login(self, server: Sshd) -> Session:
        options: dict[str, Any]
        if self.hops:
            options = {"proxy_jump": self.hops[-1]}
        else:
            options = await self._first_options(server.host, server.port)
        return await self.api.connect(
            server.host,
            server.port,
            username=server.alice.name,
            private_key=server.alice.key.path,
            timeout=30,
            **options,
        )


def run_async_test(item: pytest.Function) -> bool | None:
    """Run a coroutine test with the API of its ``client`` or ``api``; None for other tests."""
    if not inspect.iscoroutinefunction(item.obj):
        return None
    names = item._fixtureinfo.argnames
    arguments = {name: item.funcargs[name] for name in names}
    fixtures: dict[str, Any] = item.funcargs
    client: Client | None = fixtures.get("client")

    async def main() -> None:
        if client is None:
            await item.obj(**arguments)
            return
        try:
            await client.open()
            await item.obj(**arguments)
        finally:
            await client.close()

    api: Api = fixtures["api"] if client is None else client.api
    api.run(main)
    return True
