"""`MultiConnection`: one blocking call does the same, or something different, on many hosts.

Users import it from `hussh.multi_conn`. A `HostGroup` does the work; the methods here check
arguments and return results. They open nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .._api.arguments import check_command, check_no_coroutine, check_on_result
from .._api.async_connection import AsyncConnection
from .._api.connection import Connection
from .._api.declared import documents_constructor, refuse_unknown, takes_options
from .._api.transfer_bars import check_bars
from .._connect.agent_forwarding import ForwardAgent
from .._host_results import HostResult, MultiResult, check_result
from .._policy.connection_options import Seconds
from .._policy.route import DEFAULT_PORT
from .._protocol.process import Pty
from .async_multi_connection import AsyncMultiConnection
from .host_group import HostGroup, OnHostOutput
from .hosts import make_connections
from .job import Job, OnResult
from .multi_files import MultiFiles
from .multi_options import (
    GROUP_ARGUMENTS,
    SHARED_ARGUMENTS,
    MultiOptions,
    SharedAuthOptions,
    add_group_defaults,
)
from .progress import Display

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["MultiConnection"]


@documents_constructor
class MultiConnection(MultiFiles):
    """Connections to many hosts, and one blocking call for all of them.

    `AsyncConnection` objects in event loops of background threads do the work. So it may be used
    anywhere: in plain code, from several threads at once, and inside a running event loop, which it
    then blocks. In a task use the async twin instead: ``async with MultiConnection(…) as multi``,
    or ``multi = await MultiConnection(…)``, see `AsyncMultiConnection`.

    The constructor opens nothing. A ``with`` block and `connect` connect all hosts. Any other
    operation first connects those hosts that nobody has tried yet. Every operation returns a
    `MultiResult` with a result for each host, in the order of the hosts. A host's failure is its
    result: status -1, the reason in `stderr`, the error in `error`. A host that could not be
    reached keeps that result until `connect` is called again.

    Args: see `GROUP_ARGUMENTS` and `MultiOptions` in `multi_options.py`.

    Raises:
        TypeError, ValueError: an argument is not usable.
        ImportError: `progress` is wanted and `rich` is not installed.
    """

    @takes_options(MultiOptions, GROUP_ARGUMENTS)
    def __init__(
        self,
        connections: Iterable[AsyncConnection | Connection],
        batch_size: int | None = None,
        timeout: Seconds | None = None,
        **options: Unpack[MultiOptions],
    ) -> None:
        refuse_unknown("MultiConnection.__init__", options, MultiOptions)
        settings = add_group_defaults(options)
        self._given = {"batch_size": batch_size, "timeout": timeout, **options}
        self._progress = check_bars(settings["progress"])
        self._group = HostGroup(connections, batch_size, timeout, settings)

    @classmethod
    @takes_options(MultiOptions)
    def from_connections(
        cls,
        connections: Iterable[AsyncConnection | Connection],
        batch_size: int | None = None,
        timeout: Seconds | None = None,
        **options: Unpack[MultiOptions],
    ) -> MultiConnection:
        """Make one from `Connection` objects; the constructor under the name that 0.3.3 had."""
        return cls(connections, batch_size, timeout, **options)

    @classmethod
    @takes_options(SharedAuthOptions, SHARED_ARGUMENTS, is_async=True)
    def from_shared_auth(
        cls,
        hosts: Iterable[str | Mapping[str, Any]],
        username: str | None = None,
        password: str | None = None,
        key_path: Any = None,
        port: int | None = DEFAULT_PORT,
        timeout: Seconds | None = 0,
        batch_size: int | None = None,
        *,
        private_key: Any = None,
        proxy_jump: Any = None,
        proxy_command: str | Sequence[str] | None = None,
        keepalive_interval: Seconds = 0,
        **options: Unpack[SharedAuthOptions],
    ) -> MultiConnection:
        """Make one for hosts that are reached with the same options, except those of one host.

        Args: see `SHARED_ARGUMENTS` and `SharedAuthOptions` in `multi_options.py`.
        """
        refuse_unknown("MultiConnection.from_shared_auth", options, SharedAuthOptions)
        of_group: Any = {n: v for n, v in options.items() if n in MultiOptions.__annotations__}
        common = {
            "username": username,
            "password": password,
            "key_path": key_path,
            "private_key": private_key,
            "proxy_jump": proxy_jump,
            "proxy_command": proxy_command,
            "port": port,
            "keepalive_interval": keepalive_interval,
            "timeout": timeout,
            **{name: value for name, value in options.items() if name not in of_group},
        }
        return cls(make_connections(hosts, common), batch_size, **of_group)

    # -- what it was made with

    @property
    def hosts(self) -> list[str]:
        """The hosts as they were given, in order, without those that `connect` pruned."""
        return self._group.hosts

    @property
    def batch_size(self) -> int:
        return self._group.batch_size

    def __repr__(self) -> str:
        return f"MultiConnection({len(self._group.members)} hosts, batch_size={self.batch_size})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what it was made with, **secrets included**, for another process to use it.

        Raises:
            TypeError: it is connected; a live connection cannot be sent.
        """
        if self._group.placement.is_open:
            raise TypeError(
                f"cannot pickle {self!r}: it is connected; pickle it before, or close it"
            )
        return _rebuild, (type(self), [m.connection for m in self._group.members], self._given)

    # -- connecting

    def connect(
        self,
        prune_failures: bool = False,
        timeout: Seconds | None = None,
        *,
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Connect all hosts that are not connected; after `close` they may be connected again.

        Args:
            prune_failures: remove the hosts that fail.
            timeout: **seconds** for one host; None means the limit of the class, 0 no limit.
            on_result: see `execute`.

        Returns:
            Status 0 and no output for each host that is connected.
        """
        work = self._group.connect(timeout)
        result = self._run(work, on_result)
        if prune_failures:
            self._group.prune(work, result.values())
        return result

    # -- commands

    def execute(
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
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Run the same command on all hosts.

        Args:
            command: for the user's login shell on the server.
            timeout: **seconds** on one host; None means the connection's limit, 0 no limit.
            input: what the command reads from its stdin; None means nothing.
            max_output: most bytes of stdout and stderr together that are kept of one host. What
                is beyond that is dropped while the command goes on, and the result's
                `truncated` is True. None means no limit.
            wait: with "eof", until all output has come and the channel is closed; with "exit",
                until the command itself has ended, even if processes that it left behind may
                still write.
            pty: True or a `Pty` gives it a terminal; stderr then comes with stdout.
            env: variables to set, as far as the servers accept them.
            forward_agent: True or the path of an agent's socket lends the ssh-agent to the command
                on each host while it runs. A person who controls one of the hosts can use it
                meanwhile.
            check: if any host has failed, raise PartialFailureException, which has all results.
            on_output: is called with the host, ``"stdout"`` or ``"stderr"``, and the bytes that
                have come, while the commands run; in other threads, one at a time. If it
                raises, that host has failed.
            on_result: is called with the host and its result as soon as the host is done, in
                the calling thread, one at a time. If it raises, what is still under way is
                stopped, and the exception goes on.

        Returns:
            Output and exit status of each host; see the class for failures.
        """
        items = self._group.pair_all(check_command(command))
        work = self._group.execute(
            items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
        )
        return check_result(self._run(work, on_result), check)

    def execute_map(
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
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Run a different command on each host that is in the mapping; otherwise as `execute`.

        Names in the mapping that are none of our hosts are ignored.
        """
        items = self._group.pair_mapped(host_command_map, check_command)
        work = self._group.execute(
            items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
        )
        return check_result(self._run(work, on_result), check)

    def sudo(
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
        on_result: OnResult | None = None,
    ) -> MultiResult:
        """Run the same command as another user, by sudo, on all hosts.

        A host where sudo does not run it has failed, with a `SudoError` as its `error`.

        Args:
            command: for ``/bin/sh``, or a list of a program and its arguments; see
                `Connection.sudo`.
            timeout: **seconds** on one host; None means the connection's limit, 0 no limit.
            user: a name, or ``#`` and a uid.
            password: for sudo, the same on all hosts, or a mapping from host to password. None,
                or a host that is not in the mapping, means that sudo must not ask.
            on_result: see `execute`, as all other arguments.

        Returns:
            Output and exit status of each host; see the class for failures.
        """
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
        return check_result(self._run(work, on_result), check)

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
    ) -> Generator[tuple[str, HostResult], None, None]:
        """Yield results as they come; runs `execute`, or with a mapping `execute_map`.

        No result waits for another host, nor for its connecting. At most `batch_size` results wait
        for you. Closing the generator stops what is still under way.

        Yields:
            The host and its result, in the order in which the hosts finish.
        """
        items = self._group.pair_commands(command)
        return self._yield_results(
            self._group.execute(
                items, timeout, max_output, input, wait, pty, env, forward_agent, on_output
            )
        )

    # -- ending

    def close(self) -> None:
        """End all connections, and the threads; a second call does nothing.

        A bastion that you connected yourself stays open.
        """
        self._group.close()

    def __enter__(self) -> MultiConnection:
        try:
            self.connect()
        except BaseException:  # the block was not entered, so nothing else would close it
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.close()

    # -- the async twin

    def __await__(self) -> Generator[Any, Any, AsyncMultiConnection]:
        return self._make_async().__await__()

    async def _make_async(self) -> AsyncMultiConnection:
        return await AsyncMultiConnection(self._group, self._progress).__aenter__()

    async def __aenter__(self) -> AsyncMultiConnection:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._group.close_here()

    # -- running

    def _run(self, work: Job, on_result: OnResult | None = None) -> MultiResult:
        check_on_result(on_result, can_await=False)
        results: list[HostResult | None] = [None] * len(work.items)
        with (
            Display(self._progress, work.title, len(results)) as display,
            contextlib.closing(self._group.run_each(work)) as each,
        ):
            for index, result in each:
                results[index] = result
                display.add(result)
                if on_result is not None:
                    check_no_coroutine(on_result(result.host, result), "on_result")
        return MultiResult(result for result in results if result is not None)

    def _yield_results(self, work: Job) -> Generator[tuple[str, HostResult], None, None]:
        with (
            Display(self._progress, work.title, len(work.items)) as display,
            contextlib.closing(self._group.run_each(work)) as each,
        ):
            for _, result in each:
                display.add(result)
                yield result.host, result


def _rebuild(
    kind: type[MultiConnection], connections: list[AsyncConnection], given: dict[str, Any]
) -> MultiConnection:
    return kind(connections, **given)
