"""`MultiFileTailer` and its async twin: follow what is added to a file of many hosts.

The methods `tail` and `tail_map` of `multi_files.py` and `async_multi_files.py` make them. Each
host has an `AsyncFileTailer`. A host that fails becomes an entry of `errors`, and stops no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Protocol

from .._api.arguments import check_position
from .._host_results import HostResult, MultiResult
from .._policy.sftp import AnyPath, encode_path
from ..errors import HusshError, Phase
from .host_group import HostGroup
from .job import Host, Job

__all__ = ["AsyncMultiFileTailer", "MultiFileTailer", "TailJob"]


class Tailer(Protocol):
    """The methods of what `AsyncConnection.tail` returns."""

    contents: str | None

    async def __aenter__(self) -> Any: ...

    async def __aexit__(self, kind: Any, error: Any, trace: Any) -> None: ...

    async def read(self, from_pos: int | None = None) -> str: ...


class Tail:
    """One host's file; `tailer` exists from the beginning of the block on, unless that failed."""

    __slots__ = ("path", "tailer", "failure")

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self.tailer: Tailer | None = None
        self.failure: Exception | None = None


class TailJob:
    """What both tailers do on the hosts, as jobs, and the results."""

    def __init__(self, group: HostGroup, found: list[tuple[Host, AnyPath]]) -> None:
        self._group = group
        self._items = [(member, Tail(path)) for member, path in found]
        self.hosts: list[str] = [member.host for member, _ in found]
        self.contents: dict[str, str] = {}
        self.errors: dict[str, HusshError] = {}

    @classmethod
    def everywhere(cls, group: HostGroup, path: AnyPath) -> TailJob:
        """Follow the same path on all hosts."""
        return cls(group, group.pair_all(_check(path)))

    @classmethod
    def mapped(cls, group: HostGroup, paths: Mapping[str, AnyPath]) -> TailJob:
        """Follow a different path on each host that the mapping names."""
        return cls(group, group.pair_mapped(paths, _check))

    def enter(self) -> Job:
        async def enter(member: Host, tail: Tail) -> HostResult:
            tail.tailer = None
            try:
                connection: Any = await self._group.get_connected(member)
                tailer = connection.tail(tail.path)
                await tailer.__aenter__()
            except Exception as error:
                tail.failure = error
                raise
            tail.tailer = tailer
            return HostResult(member.host, status=0)

        return Job("tail", Phase.SFTP, enter, list(self._items))

    def read(self, from_pos: int | None) -> Job:
        check_position(from_pos)

        async def read(member: Host, tail: Tail) -> HostResult:
            text = await self._get_tailer(tail).read(from_pos)
            return HostResult(member.host, text.encode(), status=0)

        return Job("tail", Phase.SFTP, read, list(self._items))

    def leave(self) -> Job:
        async def leave(member: Host, tail: Tail) -> HostResult:
            tailer = self._get_tailer(tail)
            await tailer.__aexit__(None, None, None)
            return HostResult(member.host, (tailer.contents or "").encode(), status=0)

        return Job("tail", Phase.SFTP, leave, list(self._items))

    def join_texts(self, results: MultiResult) -> dict[str, str]:
        """Return the texts by host; those of several files of one host are joined, in order."""
        texts: dict[str, str] = {}
        for host, result in results.items():
            if result.error is not None:
                self.errors[host] = result.error
            # stderr names the bastion, too, that took the host with it.
            text = result.stdout if result.error is None else f"Error: {result.stderr}"
            texts[host] = texts.get(host, "") + text
        return texts

    def note(self, results: MultiResult) -> None:
        for host, result in results.items():
            if result.error is not None:
                self.errors[host] = result.error

    def _get_tailer(self, tail: Tail) -> Tailer:
        if tail.tailer is None:
            raise tail.failure or RuntimeError("the tailer's block has not begun")
        return tail.tailer


def _check(path: AnyPath) -> AnyPath:
    encode_path(path)
    return path


class _Common:
    """The part of both tailers that waits for nothing."""

    def __init__(self, work: TailJob) -> None:
        self._work = work

    @property
    def hosts(self) -> list[str]:
        return list(self._work.hosts)

    @property
    def contents(self) -> dict[str, str]:
        """All that came since the block began, by host; empty before the block ends."""
        return self._work.contents

    @property
    def errors(self) -> dict[str, HusshError]:
        """The last error of each host that failed."""
        return self._work.errors

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._work.hosts)} hosts)"


class MultiFileTailer(_Common):
    """Follows a file of many hosts from the moment its ``with`` block begins.

    `MultiConnection.tail` and `tail_map` make it. A host that fails does not stop the others: its
    text is ``"Error: …"``, and its error is in `errors`.
    """

    def __init__(self, run: Callable[[Job], MultiResult], work: TailJob) -> None:
        super().__init__(work)
        self._run = run

    def read(self, from_pos: int | None = None) -> dict[str, str]:
        """Return by host what was added since the last read, or everything from an offset on."""
        return self._work.join_texts(self._run(self._work.read(from_pos)))

    def __enter__(self) -> MultiFileTailer:
        self._work.note(self._run(self._work.enter()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._work.contents = self._work.join_texts(self._run(self._work.leave()))


class AsyncMultiFileTailer(_Common):
    """`MultiFileTailer` for tasks: ``async with``, and `read` is awaited."""

    def __init__(self, run: Callable[[Job], Awaitable[MultiResult]], work: TailJob) -> None:
        super().__init__(work)
        self._run = run

    async def read(self, from_pos: int | None = None) -> dict[str, str]:
        """Return by host what was added since the last read, or everything from an offset on."""
        return self._work.join_texts(await self._run(self._work.read(from_pos)))

    async def __aenter__(self) -> AsyncMultiFileTailer:
        self._work.note(await self._run(self._work.enter()))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self._work.contents = self._work.join_texts(await self._run(self._work.leave()))
