"""The hosts of a `MultiConnection` and of its async twin, and what is done on each.

`MultiConnection` and `AsyncMultiConnection` import it. It makes the jobs, each of which `job`
describes. `batch` says when an item is done, in which event loop, and how many at a time. Nothing
here speaks to a host but by an `AsyncConnection`.
"""

from __future__ import annotations

import warnings
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Literal

from .._api.arguments import (
    check_command,
    check_max_output,
    check_no_coroutine,
    check_number,
    check_on_output,
    check_pty,
    check_sudo,
    check_wait,
    encode_input,
)
from .._api.async_connection import AsyncConnection
from .._api.internals import get_options
from .._connect.agent_forwarding import ForwardAgent, check_forward_agent, lend_agent
from .._connect.handshake_limits import HandshakeLimiter
from .._connect.shared_session import Failures, Limit, Shared, has_run_out
from .._host_results import HostResult
from .._policy.connection_options import Seconds
from .._protocol.execute import Execution, OnOutput, execute
from .._protocol.process import Pty, make_env_requests
from .._protocol.sudo import Sudo
from .._results.transfer_result import TransferResult
from .._runtime.async_workers import run_to_the_end
from .._runtime.background_loops import Loops
from ..errors import ConnectError, ConnectionClosed, Phase
from .batch import Batch, Here, HereDrain, Lane, drain
from .config_carriers import ConfigCarriers
from .hosts import as_async
from .job import CLOSED, Host, Job, Results, make_item_work, make_missing_results, place_failure
from .loop_placement import LoopPlacement
from .multi_options import MultiOptions

__all__ = ["HostGroup", "OnHostOutput", "check_limit"]

#: Called with a host, "stdout" or "stderr", and bytes that have come from there.
OnHostOutput = Callable[[str, str, bytes], object]

BATCH_SIZE = 100


class HostGroup:
    """The hosts of a `MultiConnection`, and the loops that drive their connections.

    Args: as those of `MultiConnection`.
    """

    def __init__(
        self,
        connections: Iterable[object],
        batch_size: int | None,
        timeout: Seconds | None,
        settings: MultiOptions,
    ) -> None:
        known: dict[int, AsyncConnection] = {}
        self.members: list[Host] = [Host(as_async(connection, known)) for connection in connections]
        self.batch_size: int = (
            BATCH_SIZE if batch_size is None else check_limit("batch_size", batch_size)
        )
        self.timeout: float | None = None if timeout is None else check_number(timeout, "seconds")
        loops = settings["loops"]
        self.loops: int | None = None if loops is None else check_limit("loops", loops)
        self.placement: LoopPlacement = LoopPlacement(self.loops, self.batch_size)
        limiter = HandshakeLimiter(check_limit("handshakes", settings["handshakes"]))
        carriers = ConfigCarriers()
        self._failures = Failures()
        self._running: set[Batch[Any, Any]] = set()
        for member in self.members:
            for shared in member.shared.walk_way():
                if not shared.is_open:
                    shared.limiter = limiter
                    shared.carriers = carriers

    @property
    def hosts(self) -> list[str]:
        return [member.host for member in self.members]

    def rename(self, names: Sequence[str]) -> None:
        """Call the hosts by other names, in their order, in results and callbacks."""
        for member, name in zip(self.members, names, strict=True):
            member.host = name

    # -- running work

    def run_each(self, work: Job) -> Generator[tuple[int, HostResult], None, None]:
        """Do the work, and yield each item's index and result as they come; for threads."""
        items = self._begin(work, None)
        missing = bytearray(b"\1") * len(work.items)
        if items is not None:
            for _ in drain(_close, self._list_lost(work, items), self.batch_size):
                pass
            for index, result in drain(make_item_work(work), items, self.batch_size, self._running):
                missing[index] = 0
                yield index, result
        yield from make_missing_results(work, missing)

    @asynccontextmanager
    async def run_each_here(self, work: Job) -> AsyncIterator[Results]:
        """Do the work as `run_each` does, for a task, whose loop goes on meanwhile."""
        here = Here()
        begin = partial(self._begin, work, here)
        # Threads that are to be started are waited for, which a loop must not.
        items = begin() if self.placement.is_open else await run_to_the_end(here.loop, begin)
        if items is None:
            yield Results(work, None)
            return
        async with HereDrain(_close, self._list_lost(work, items), self.batch_size, here) as closed:
            async for _ in closed:
                pass
        do = make_item_work(work)
        async with HereDrain(do, items, self.batch_size, here, self._running) as results:
            yield Results(work, results)

    def _begin(self, work: Job, here: Here | None) -> list[tuple[Lane, tuple[Host, Any]]] | None:
        """Return each item with its lane; None if all is closed."""
        users = [member.shared for member in self.members]
        if not self.placement.open(users, here=here is not None, again=work.again):
            return None
        found: list[tuple[Lane, tuple[Host, Any]]] = []
        for item in work.items:
            lane = self.placement.get_loop(item[0].shared) or here
            if lane is None:
                raise ConnectError("a connection is open in another event loop; use it there")
            found.append((lane, item))
        return found

    def _list_lost(
        self, work: Job, items: list[tuple[Lane, tuple[Host, Any]]]
    ) -> list[tuple[Lane, Shared]]:
        """Return the connections that must be closed before any is opened again.

        It returns all that are lost, because otherwise the first to connect would find the old
        bastion.
        """
        if not work.again:
            return []
        users = [(lane, member.shared) for lane, (member, _) in items]
        return [(lane, shared) for lane, shared in users if shared.is_lost]

    # -- what can be done

    def connect(self, timeout: Seconds | None) -> Job:
        seconds = _check_seconds(timeout)

        async def connect(member: Host, _: None) -> HostResult:
            member.given = None
            await self._connect(member, self._limit(member, seconds))
            return HostResult(member.host, status=0)

        for member in self.members:
            member.failure = None
        self._failures.forget()
        return Job(Phase.CONNECT, Phase.CONNECT, connect, self.pair_all(), again=True)

    def pair_all(self, argument: Any = None) -> list[tuple[Host, Any]]:
        return [(member, argument) for member in self.members]

    def pair_mapped(
        self, by_host: Mapping[str, Any], check: Callable[[Any], Any]
    ) -> list[tuple[Host, Any]]:
        """Return those hosts that a mapping names, in our order."""
        if not isinstance(by_host, Mapping):
            raise TypeError(f"a mapping by host is needed, not {type(by_host).__name__}")
        checked = {host: check(argument) for host, argument in by_host.items()}
        return [(m, checked[m.host]) for m in self.members if m.host in checked]

    def pair_commands(self, command: str | Mapping[str, str]) -> list[tuple[Host, bytes]]:
        """Return the job of one command for all, or of one for each host in a mapping."""
        if isinstance(command, Mapping):
            return self.pair_mapped(command, check_command)
        return self.pair_all(check_command(command))

    def execute(
        self,
        items: list[tuple[Host, Any]],
        timeout: Seconds | None,
        max_output: int | None,
        stdin: str | bytes | None,
        wait: Literal["eof", "exit"],
        pty: bool | Pty | None,
        env: Mapping[str, str] | None,
        forward_agent: ForwardAgent,
        on_output: OnHostOutput | None,
    ) -> Job:
        seconds = _check_seconds(timeout)
        check_on_output(on_output, can_await=False)
        check_forward_agent(forward_agent)
        make_env_requests(env or {})  # so that what is wrong with it is raised here
        how = Execution(
            stdin=encode_input(stdin),
            pty=check_pty(pty),
            max_output=check_max_output(max_output),
            discard=True,
            wait=check_wait(wait),
            turn=_OutputKey(),
        )

        async def run(member: Host, command: bytes | Sudo) -> HostResult:
            given = None if seconds is None else Limit.after(seconds)
            connection = await self.get_connected(member, given)
            limit = given or Limit.after(connection.timeout)
            session = member.shared.get_session()
            here = how._replace(
                env=make_env_requests(connection._complete_env(env)),
                lend=lend_agent(session, get_options(connection), forward_agent),
                on_output=_bind_to_host(on_output, member.host),
                converse=command.converse if isinstance(command, Sudo) else None,
            )
            line = command.make_line() if isinstance(command, Sudo) else command
            op = execute(session.link, line, here, str(limit))
            in_loop = on_output is None
            result = await session.run(op, limit.deadline, Phase.EXEC, step_in_loop=in_loop)
            return HostResult.of(member.host, result)

        is_sudo = bool(items) and isinstance(items[0][1], Sudo)
        return Job("sudo" if is_sudo else "execute", Phase.EXEC, run, items)

    def pair_sudo(
        self,
        command: str | Sequence[str],
        password: str | Mapping[str, str] | None,
        *,
        user: str,
        has_input: bool,
        pty: bool | Pty | None,
        env: Mapping[str, str] | None,
        may_ask: bool,
    ) -> list[tuple[Host, Sudo]]:
        """Return what sudo runs on all hosts, each with its password."""
        found = []
        for member in self.members:
            secret = password.get(member.host) if isinstance(password, Mapping) else password
            run = check_sudo(
                command,
                user,
                secret,
                has_input=has_input,
                env=env,
                pty=check_pty(pty),
                may_ask=may_ask,
            )
            found.append((member, run))
        return found

    def make_transfer(
        self,
        title: str,
        timeout: Seconds | None,
        move: Callable[
            [AsyncConnection, float | None], Awaitable[bytes | str | TransferResult | None]
        ],
    ) -> Job:
        """Return the job of a file operation; its result is the stdout, "Ok" for None."""
        seconds = _check_seconds(timeout)

        async def run(member: Host, _: None) -> HostResult:
            if seconds is None or member.shared.is_open:
                got = await move(await self.get_connected(member), seconds)
            else:
                given = Limit.after(seconds)
                connection = await self.get_connected(member, given)
                got = await move(connection, given.count_left())
            if isinstance(got, TransferResult):
                return HostResult.of_transfer(member.host, got)
            data = b"Ok" if got is None else got.encode() if isinstance(got, str) else got
            return HostResult(member.host, data, status=0)

        return Job(title, Phase.SFTP, run, self.pair_all())

    def prune(self, work: Job, results: list[HostResult]) -> None:
        """Remove the hosts for which `connect` has failed."""
        pairs = zip(work.items, results, strict=True)
        failed = {id(member) for (member, _), result in pairs if result.status != 0}
        self.members = [member for member in self.members if id(member) not in failed]

    # -- on one host

    def _limit(self, member: Host, seconds: float | None) -> Limit:
        given = self.timeout if seconds is None else seconds
        return Limit.after(member.connection.timeout if given is None else given)

    async def _connect(self, member: Host, limit: Limit) -> None:
        member.failure = None
        try:
            await member.shared.connect(limit, self._failures)
        except Exception as error:
            member.failure = place_failure(member, error, Phase.CONNECT)
            raise member.failure from member.failure.__cause__

    async def get_connected(self, member: Host, within: Limit | None = None) -> AsyncConnection:
        """Return the connection, connected.

        `within` is the operation's own limit, which holds for connecting, too. A host that could
        not be reached is not tried again, unless the limit of an operation was too short and now
        there is more time.
        """
        if self.placement.closed:
            raise ConnectionClosed(CLOSED)
        if not member.shared.is_open:
            limit = self._limit(member, None)
            if within is not None:
                limit = limit.choose_earlier(within)
            if member.failure is not None and not _is_worth_a_try(member, limit):
                raise member.failure
            member.given = within if limit is within else None
            await self._connect(member, limit)
            if self.placement.closed:  # meanwhile
                await member.connection.close()
                raise ConnectionClosed(CLOSED)
        return member.connection

    # -- ending

    def _shut(self) -> Loops | None:
        """Begin nothing more and stop what is under way; return None if nothing is to be closed."""
        loops = self.placement.shut()
        if loops is not None:
            for batch in list(self._running):
                batch.stop()
        return loops

    def close(self) -> None:
        """End all connections and the loops; a second call does nothing."""
        loops = self._shut()
        if loops is None:
            return
        try:
            # In the loop of a task: it cannot be waited for.
            for shared in self.placement.list_strangers():
                shared.collect()
            for _ in drain(_close, self.placement.list_shared(), self.batch_size):
                pass
        finally:
            try:
                loops.close()
            finally:
                for driver in self.placement.note_loops_ended():
                    driver.join()

    async def close_here(self) -> None:
        """Close as `close` does, for a task, even when it is cancelled."""
        loops = self._shut()
        if loops is None:
            return
        here = Here()
        try:
            open_ones: list[tuple[Lane, Shared]] = [*self.placement.list_shared()]
            open_ones += [(here, shared) for shared in self.placement.list_strangers()]
            with here.make_unhurried_scope():
                async with HereDrain(_close, open_ones, self.batch_size, here) as ended:
                    async for _ in ended:
                        pass
        finally:
            await loops.wait_closed()
            with here.make_unhurried_scope():
                for driver in self.placement.note_loops_ended():
                    await driver.wait_gone()

    def __del__(self) -> None:
        placement = getattr(self, "placement", None)
        if placement is not None and placement.collect() is not None and self.members:
            explained = f"unclosed MultiConnection({len(self.members)} hosts)"
            warnings.warn(explained, ResourceWarning, stacklevel=2, source=self)


async def _close(shared: Shared) -> None:
    await shared.close()


def _is_worth_a_try(member: Host, limit: Limit) -> bool:
    """Tell whether a host that failed may answer within this limit; never without a limit."""
    failure, given = member.failure, member.given
    if failure is None or given is None or not has_run_out(failure):
        return False
    return bool(limit.seconds) and limit.is_longer(given)


def _check_seconds(timeout: Seconds | None) -> float | None:
    return None if timeout is None else check_number(timeout, "seconds")


class _OutputKey:
    """What the hosts share of which only one at a time may hand out output."""


def _bind_to_host(on_output: OnHostOutput | None, host: str) -> OnOutput | None:
    """Return what is called with the output of one host."""
    if on_output is None:
        return None

    def take(stream: str, part: bytes) -> None:
        check_no_coroutine(on_output(host, stream, part), "on_output")

    return take


def check_limit(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1")
    return value
