"""`AsyncMultiConnection`: `MultiConnection` for tasks of asyncio or trio.

``async with MultiConnection(…)`` makes one. A `HostGroup` does the work, in threads or in the
caller's loop, which is never blocked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from types import TracebackType
from typing import Literal

from .._api.arguments import check_command, check_on_result
from .._connect.agent_forwarding import ForwardAgent
from .._host_results import HostResult, MultiResult, check_result
from .._policy.connection_options import Seconds
from .._protocol.process import Pty
from .async_multi_files import AsyncMultiFiles
from .host_group import HostGroup, OnHostOutput
from .job import AsyncOnResult, Job, Results
from .progress import Display

__all__ = ["AsyncMultiConnection"]


class AsyncMultiConnection(AsyncMultiFiles):
    """Connections to many hosts, for tasks: the methods of `MultiConnection`, awaited.

    ``async with MultiConnection(…) as multi`` and ``await MultiConnection(…)`` return one; in the
    latter case end it with `close`. Arguments, results and errors are those of `MultiConnection`.
    Your event loop goes on meanwhile, because the work is done in background threads. Only what
    depends on a connection or bastion that you have connected in your own loop is done in that
    loop. Cancelling a call stops what it has under way, on all hosts.
    """

    def __init__(self, group: HostGroup, progress: bool) -> None:
        self._group = group
        self._progress = progress

    @property
    def hosts(self) -> list[str]:
        """The hosts as they were given, in order, without those that `connect` pruned."""
        return self._group.hosts

    @property
    def batch_size(self) -> int:
        return self._group.batch_size

    def __repr__(self) -> str:
        return (
            f"AsyncMultiConnection({len(self._group.members)} hosts, batch_size={self.batch_size})"
        )

    async def connect(
        self,
        prune_failures: bool = False,
        timeout: Seconds | None = None,
        *,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Connect all hosts that are not connected; see `MultiConnection.connect`."""
        work = self._group.connect(timeout)
        result = await self._run(work, on_result)
        if prune_failures:
            self._group.prune(work, result.values())
        return result

    async def execute(
        self,
        command: str,
        timeout: Seconds | None = None,
        *,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
        check: bool = False,
        on_output: OnHostOutput | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Run the same command on all hosts; see `MultiConnection.execute`.

        `on_result` is called in this task; if it returns an awaitable, that is awaited.
        """
        items = self._group.pair_all(check_command(command))
        work = self._group.execute(
            items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
        )
        return check_result(await self._run(work, on_result), check)

    async def execute_map(
        self,
        host_command_map: Mapping[str, str],
        timeout: Seconds | None = None,
        *,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
        check: bool = False,
        on_output: OnHostOutput | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Run a different command on each host; see `MultiConnection.execute_map`."""
        items = self._group.pair_mapped(host_command_map, check_command)
        work = self._group.execute(
            items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
        )
        return check_result(await self._run(work, on_result), check)

    async def sudo(
        self,
        command: str | Sequence[str],
        timeout: Seconds | None = None,
        *,
        user: str = "root",
        password: str | Mapping[str, str] | None = None,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        forward_agent: ForwardAgent = None,
        on_output: OnHostOutput | None = None,
        on_result: AsyncOnResult | None = None,
    ) -> MultiResult:
        """Run the same command by sudo on all hosts; see `MultiConnection.sudo`."""
        items = self._group.pair_sudo(
            command,
            password,
            user=user,
            has_input=input is not None,
            pty=pty,
            env=env,
            may_ask=bool(forward_agent),
        )
        work = self._group.execute(
            items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
        )
        return check_result(await self._run(work, on_result), check)

    def stream(
        self,
        command: str | Mapping[str, str],
        timeout: Seconds | None = None,
        *,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
        on_output: OnHostOutput | None = None,
    ) -> AbstractAsyncContextManager[AsyncStream]:
        """Iterate over results as they come.

        Write ``async with multi.stream("…") as s: async for host, result in s``; see
        `MultiConnection.stream`. Leaving the block stops what is still under way.
        """
        items = self._group.pair_commands(command)
        return self._yield_results(
            self._group.execute(
                items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
            )
        )

    async def close(self) -> None:
        """End all connections, and the threads; a second call does nothing.

        A bastion that you connected yourself stays open.
        """
        await self._group.close_here()

    async def __aenter__(self) -> AsyncMultiConnection:
        try:
            await self.connect()
        except BaseException:  # the block was not entered, so nothing else would close it
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, work: Job, on_result: AsyncOnResult | None = None) -> MultiResult:
        check_on_result(on_result, can_await=True)
        results: list[HostResult | None] = [None] * len(work.items)
        with Display(self._progress, work.title, len(results)) as display:
            async with self._group.run_each_here(work) as each:
                async for index, result in each:
                    results[index] = result
                    display.add(result)
                    if on_result is not None:
                        returned = on_result(result.host, result)
                        if isawaitable(returned):
                            await returned
        return MultiResult(result for result in results if result is not None)

    @asynccontextmanager
    async def _yield_results(self, work: Job) -> AsyncIterator[AsyncStream]:
        with Display(self._progress, work.title, len(work.items)) as display:
            async with self._group.run_each_here(work) as each:
                yield AsyncStream(each, display)


class AsyncStream:
    """Hosts and their results, in the order in which they finish; for ``async for``."""

    def __init__(self, results: Results, display: Display) -> None:
        self._results = results
        self._display = display

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> tuple[str, HostResult]:
        _, result = await self._results.__anext__()
        self._display.add(result)
        return result.host, result
