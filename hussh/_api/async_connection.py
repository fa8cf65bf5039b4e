"""`AsyncConnection`: an SSH connection for tasks of asyncio or trio.

Users import it from `hussh.aio`; `_multi` is made of such connections. Its methods check arguments
and run operations. They contain no protocol and never block the loop.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Generator, Mapping, Sequence
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .._connect.agent_forwarding import ForwardAgent, lend_agent
from .._connect.async_connect import AsyncSession
from .._connect.shared_session import Limit, Shared
from .._policy.algorithms import HopAlgorithms
from .._policy.connection_options import ConnectionOptions, Seconds
from .._policy.options import Options
from .._policy.route import DEFAULT_PORT
from .._protocol.execute import Execution, OnOutput, execute
from .._protocol.process import Pty, start
from .._results.ssh_result import SSHResult
from ..errors import Phase
from .arguments import (
    check_command,
    check_number,
    check_pty,
    check_sudo,
)
from .async_files import AsyncFiles
from .async_port_forwarding import AsyncPortForwarding
from .async_process import AsyncInteractiveShell, AsyncProcess
from .configure_plan import make_endpoint
from .connection import Connection
from .declared import documents_constructor, takes_options
from .documented import details_of
from .execution import make_execution
from .plan import Plan, make_plan
from .planned import Planned

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["AsyncConnection"]

DEFAULTS_FAILED = "Failed to authenticate with default SSH keys, nor with ssh-agent"


@documents_constructor
class AsyncConnection(AsyncFiles, AsyncPortForwarding):
    """An authenticated SSH connection for tasks of one event loop, asyncio's or trio's.

    The constructor opens nothing.  ``await connection``, ``await connection.connect()``
    and ``async with connection`` connect, check the host keys of all hops and log in.
    One connection may be used by any number of tasks at once, and as `proxy_jump` of
    any number of others.  It belongs to the event loop that opened it.

    Args: see `ARGUMENTS` and `ConnectionOptions` in `_policy/connection_options.py`.

    Raises (on connecting):
        AuthenticationError, HostKeyError, ConnectError, JumpRefused,
        ConnectTimeout (a TimeoutError), ConnectionLost, ProxyCommandError,
        NegotiationError: see `hussh.errors`; each knows its `.hop` and `.phase`.
    Raises (at once):
        TypeError, ValueError: an argument is not usable.
    """

    @takes_options(ConnectionOptions, is_async=True)
    def __init__(
        self,
        host: str,
        username: str | None = None,
        password: str | None = None,
        key_path: Any = None,
        private_key: Any = None,
        proxy_jump: Any = None,
        proxy_command: str | Sequence[str] | None = None,
        port: int | None = DEFAULT_PORT,
        keepalive_interval: Seconds = 0,
        timeout: Seconds | None = 0,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        if key_path is not None and private_key is not None:
            raise TypeError("key_path and private_key are aliases; provide only one")
        plan = make_plan(
            AsyncConnection,
            "an AsyncConnection",
            host=host,
            port=port,
            username=username,
            password=password,
            private_key=private_key if key_path is None else key_path,
            proxy_jump=proxy_jump,
            proxy_command=proxy_command,
            keepalive_interval=keepalive_interval,
            options=options,
            defaults_failed=DEFAULTS_FAILED,
            can_await=True,
        )
        self._prepare(plan, check_number(timeout, "seconds"))

    def _prepare(self, plan: Plan[AsyncConnection], timeout: float) -> None:
        self._planned = planned = Planned(plan)
        self._timeout: float = timeout
        bastion = plan.bastion  # alive as long as we are
        self._shared: Shared = Shared(
            plan.hops,
            bastion._shared if bastion is not None else None,
            make_endpoint(plan),
            timeout,
        )
        if plan.request.config:
            self._shared.configure = planned.configure

    @property
    def _plan(self) -> Plan[AsyncConnection]:
        """What it was made with, and where that has a `config=`, what came of it last."""
        return self._planned.plan

    @property
    def _options(self) -> Options:
        return self._planned.plan.target

    @classmethod
    def _make_from_plan(cls, plan: Plan[AsyncConnection], timeout: float) -> AsyncConnection:
        made = cls.__new__(cls)
        made._prepare(plan, timeout)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what it was made with, **secrets included**, for another process to connect it.

        Raises:
            TypeError: it is connected; a live connection cannot be sent.
        """
        if self._shared.is_open:
            raise TypeError(
                f"cannot pickle a live connection ({self!r}): pickle one that is not connected, "
                "and connect it where it is unpickled"
            )
        return _make_from_plan, (type(self), self._planned.given, self._timeout)

    # -- what it was made with

    @property
    def host(self) -> str:
        return self._plan.request.host

    @property
    def port(self) -> int:
        return self._options.port

    @property
    def username(self) -> str:
        return self._options.username

    @property
    def password(self) -> str:
        """The password as given; "" if it was not given."""
        return self._options.password or ""

    @property
    def private_key(self) -> str:
        """The path of the key as given; "" if it was not given."""
        return self._options.private_key

    key_path = private_key

    @property
    def timeout(self) -> float:
        """The time limit in seconds; 0 means no limit."""
        return self._timeout

    @property
    def proxy_command(self) -> str | Sequence[str] | None:
        """The proxy command as given."""
        return self._plan.proxy_command

    @property
    def algorithms(self) -> tuple[HopAlgorithms, ...]:
        """What was agreed on with the server of each hop, in the order of travel, ours last.

        Raises:
            ConnectionClosed: it is not connected, or is closed.
        """
        return self._get_session().list_algorithms()

    def __repr__(self) -> str:
        return (
            f"AsyncConnection(host={self.host}, port={self.port}, "
            f"username={self.username}, password=*****)"
        )

    # -- connecting

    async def connect(self, timeout: Seconds | None = None) -> None:
        """Connect, unless it is connected; after `close` it may be connected again.

        Args:
            timeout: **seconds** for all hops and phases; None means the connection's limit, 0
                no limit.

        Raises:
            HusshError: see the class.
        """
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        await self._shared.connect(Limit.after(seconds))

    def __await__(self) -> Generator[Any, Any, AsyncConnection]:
        return self._connect_self().__await__()

    async def _connect_self(self) -> AsyncConnection:
        await self.connect()
        return self

    # -- work

    @details_of(Connection.execute)
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
        check: bool = False,
        on_output: OnOutput | None = None,
        forward_agent: ForwardAgent = None,
    ) -> SSHResult:
        """Run a command on its own channel and wait for it."""
        line = check_command(command)
        how, seconds = self._prepare_execution(
            timeout, input, max_output, wait, pty, env, check, on_output, forward_agent
        )
        return await self._execute(line, how, seconds)

    @details_of(Connection.sudo)
    async def sudo(
        self,
        command: str | Sequence[str],
        timeout: Seconds | None = None,
        *,
        user: str = "root",
        password: str | None = None,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        check: bool = False,
        on_output: OnOutput | None = None,
        forward_agent: ForwardAgent = None,
    ) -> SSHResult:
        """Run a command as another user, by sudo; otherwise as `execute`."""
        run = check_sudo(
            command,
            user,
            password,
            has_input=input is not None,
            env=env,
            pty=check_pty(pty),
            may_ask=bool(forward_agent),
        )
        how, seconds = self._prepare_execution(
            timeout, input, max_output, wait, pty, env, check, on_output, forward_agent
        )
        return await self._execute(run.make_line(), how._replace(converse=run.converse), seconds)

    def _prepare_execution(
        self,
        timeout: Seconds | None,
        input: str | bytes | None,
        max_output: int | None,
        wait: Literal["eof", "exit"],
        pty: bool | Pty | None,
        env: Mapping[str, str] | None,
        check: bool,
        on_output: OnOutput | None,
        forward_agent: ForwardAgent,
    ) -> tuple[Execution, float]:
        seconds = self._timeout if timeout is None else check_number(timeout, "seconds")
        how = make_execution(
            self._get_session(),
            self._options,
            input,
            max_output,
            wait,
            pty,
            env,
            check,
            on_output,
            forward_agent,
            can_await=True,
        )
        return how, seconds

    async def _execute(self, line: bytes, how: Execution, seconds: float) -> SSHResult:
        session = self._get_session()
        op = execute(session.link, line, how, f" after {seconds:g} s")
        deadline = monotonic() + seconds if seconds else None
        in_loop = how.on_output is None
        return await session.run(op, deadline, Phase.EXEC, step_in_loop=in_loop)

    @details_of(Connection.popen)
    async def popen(
        self,
        command: str,
        *,
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
    ) -> AsyncProcess:
        """Start a command and exchange data with it while it runs, like `subprocess.Popen`."""
        session = self._get_session()
        op = start(
            session.link,
            check_command(command),
            pty=check_pty(pty),
            env=self._complete_env(env),
            lend=lend_agent(session, self._options, forward_agent),
        )
        channel = await session.call(op, self._timeout or None, Phase.EXEC)
        return AsyncProcess(session, channel, self._timeout)

    @details_of(Connection.shell)
    async def shell(
        self,
        pty: bool | Pty | None = None,
        *,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
    ) -> AsyncInteractiveShell:
        """Start a login shell; a context manager, see `AsyncInteractiveShell`."""
        session = self._get_session()
        terminal = check_pty(pty)
        op = start(
            session.link,
            None,
            pty=terminal,
            env=self._complete_env(env),
            lend=lend_agent(session, self._options, forward_agent),
        )
        channel = await session.call(op, self._timeout or None, Phase.SHELL)
        return AsyncInteractiveShell(session, channel, terminal, self._timeout)

    def _complete_env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return self._options.configured.complete_env(env)

    # -- ending

    @details_of(Connection.close)
    async def close(self) -> None:
        """End the connection and the jump hosts that it opened; a second call does nothing."""
        await self._shared.close()

    async def __aenter__(self) -> AsyncConnection:
        return await self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        shared = getattr(self, "_shared", None)
        if shared is None or not shared.is_open:
            return
        with contextlib.suppress(Exception):  # nobody would get a finalizer's error
            shared.collect()
        if shared.kept:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)

    def _get_session(self) -> AsyncSession:
        return self._shared.get_session()


def _make_from_plan(
    kind: type[AsyncConnection], plan: Plan[AsyncConnection], timeout: float
) -> AsyncConnection:
    return kind._make_from_plan(plan, timeout)
