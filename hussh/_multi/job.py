"""What is done on each host of a batch, and how its failures become results.

`host_group` makes jobs and runs them; `batch` says when. Nothing here opens or closes anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from time import monotonic
from typing import Any, NamedTuple

from .._api.async_connection import AsyncConnection
from .._api.internals import get_shared
from .._connect.connect_attempt import get_noted_place
from .._connect.shared_session import Limit, Shared
from .._host_results import HostResult
from .._policy.file_cache import set_batch_start
from ..errors import ConnectionClosed, HusshError, Phase
from .batch import HereDrain

__all__ = ["CLOSED", "AsyncOnResult", "Host", "Job", "OnResult", "Results", "make_item_work",
           "make_missing_results", "place_failure"]  # fmt: skip

#: Called with each host and its result, as it comes.
OnResult = Callable[[str, HostResult], object]
#: The same in tasks; what a coroutine function returns is awaited.
AsyncOnResult = Callable[[str, HostResult], Awaitable[object] | object]

CLOSED = "the MultiConnection is closed; connect() it again"


class Host:
    """One host.

    Attributes:
        shared: the session of its connection, which others may use, too.
        failure: why the last attempt to connect it failed.
        given: the time that an operation gave that attempt; None if it had as much as
            connecting has.
    """

    __slots__ = ("connection", "failure", "given", "host", "shared")

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection: AsyncConnection = connection
        self.shared: Shared = get_shared(connection)
        self.failure: HusshError | None = None
        self.given: Limit | None = None
        self.host: str = connection.host


class Job(NamedTuple):
    """One operation: what to do, on which hosts, each with an argument of its own.

    Attributes:
        title: for a progress display.
        phase: for errors that do not know it.
        again: whether it may open what was closed or has been lost.
    """

    title: str
    phase: Phase
    do: Callable[[Host, Any], Awaitable[HostResult]]
    items: list[tuple[Host, Any]]
    again: bool = False


def make_item_work(work: Job) -> Callable[[tuple[Host, Any]], Awaitable[HostResult]]:
    """Return the work on one item, whose failures are results."""
    start = monotonic()

    async def do(item: tuple[Host, Any]) -> HostResult:
        member, argument = item
        set_batch_start(start)
        try:
            return await work.do(member, argument)
        except Exception as error:
            return HostResult.failed(member.host, place_failure(member, error, work.phase))

    return do


def place_failure(member: Host, error: Exception, phase: Phase) -> HusshError:
    """Return the error with its hop, and without the frames of a stack.

    Frames would hold all objects that they used.
    """
    endpoint = member.shared.endpoint
    if isinstance(error, HusshError):
        explained = error
    else:
        explained = HusshError(f"{type(error).__name__}: {error}")
        explained.__cause__ = error
        endpoint, phase = get_noted_place(error) or (endpoint, phase)
    endpoint.mark(explained, phase)
    link: BaseException | None = explained
    while link is not None:
        link.__traceback__ = link.__context__ = None
        link = link.__cause__
    return explained


def make_missing_results(work: Job, missing: bytearray) -> Iterator[tuple[int, HostResult]]:
    """Return results for hosts that got none, because all was closed meanwhile."""
    for index, (member, _) in enumerate(work.items):
        if missing[index]:
            error = place_failure(member, ConnectionClosed(CLOSED), work.phase)
            yield index, HostResult.failed(member.host, error)


class Results:
    """The results of a job, for ``async for``: pairs of an item's index and its result."""

    def __init__(self, work: Job, drain: HereDrain[tuple[Host, Any], HostResult] | None) -> None:
        self._drain = drain
        self._missing = bytearray(b"\1") * len(work.items)
        self._rest = make_missing_results(work, self._missing)

    def __aiter__(self) -> Results:
        return self

    async def __anext__(self) -> tuple[int, HostResult]:
        if self._drain is not None:
            try:
                index, result = await self._drain.__anext__()
            except StopAsyncIteration:
                self._drain = None
            else:
                self._missing[index] = 0
                return index, result
        for pair in self._rest:
            return pair
        raise StopAsyncIteration
