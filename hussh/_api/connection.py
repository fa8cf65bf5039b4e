"""`Connection`: an SSH connection for threads, straight to a host or through bastions.

Users import it from `hussh`. Its methods check arguments and run operations. They contain no
protocol.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from .._connect.agent_forwarding import ForwardAgent, lend_agent
from .._connect.connect import Session, connect
from .._policy.algorithms import HopAlgorithms
from .._policy.connection_options import DEFAULT_USER, ConnectionOptions, Milliseconds, Seconds
from .._policy.route import DEFAULT_PORT
from .._protocol.execute import Execution, OnOutput, execute
from .._protocol.process import Pty, start
from .._results.ssh_result import SSHResult
from .._runtime.workers import run_in_worker
from ..errors import Phase
from .arguments import (
    check_command,
    check_pty,
    check_sudo,
    to_milliseconds,
)
from .closing import Closing
from .declared import documents_constructor, takes_options
from .execution import make_execution
from .files import Files
from .plan import make_plan
from .port_forwarding import PortForwarding
from .process import Process
from .sftp_run import make_sftp_state
from .shell import InteractiveShell

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Connection"]

T = TypeVar("T")


@documents_constructor
class Connection(Files, PortForwarding, Closing):
    """An authenticated SSH connection.

    The constructor connects, checks the host keys of all hops and logs in.  One
    connection may be used by any number of threads at once, and as
    `proxy_jump` of any number of others.

    Args: see `ARGUMENTS` and `ConnectionOptions` in `_policy/connection_options.py`.

    Raises:
        AuthenticationError, HostKeyError, ConnectError, JumpRefused,
        ConnectTimeout (a TimeoutError), ConnectionLost, ProxyCommandError,
        NegotiationError: see `hussh.errors`; each knows its `.hop` and `.phase`.
        TypeError, ValueError: an argument is not usable; nothing was opened.
    """

    @takes_options(ConnectionOptions)
    def __init__(
        self,
        host: str,
        port: int | None = DEFAULT_PORT,
        username: str = DEFAULT_USER,
        password: str | None = None,
        private_key: Any = None,
        proxy_jump: Any = None,
        proxy_command: str | Sequence[str] | None = None,
        timeout: Milliseconds | None = 0,
        *,
        keepalive_interval: Seconds = 0,
        **options: Unpack[ConnectionOptions],
    ) -> None:
        self._session: Session | None = None
        self._plan = make_plan(
            Connection,
            "a Connection",
            host=host,
            port=port,
            username=username,
            password=password,
            private_key=private_key,
            proxy_jump=proxy_jump,
            proxy_command=proxy_command,
            keepalive_interval=keepalive_interval,
            options=options,
        )
        self._timeout = to_milliseconds(timeout) or 0
        seconds, time_limit = self._timeout / 1000 or None, f" after {self._timeout} ms"
        if self._plan.request.config:
            # Few programs need it. It is imported in a worker: see `ConnectAttempt.load`.
            run_in_worker(partial(import_module, "hussh._api.configure_plan"))
            from .configure_plan import configure

            self._plan, seconds, time_limit = configure(self._plan, seconds, time_limit)
        self._options = self._plan.target
        bastion = self._plan.bastion  # alive as long as we are
        self._session = connect(
            self._plan.hops,
            bastion._get_session() if bastion is not None else None,
            seconds,
            time_limit,
        )
        self._sftp = make_sftp_state(self._session.link, self._options)

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

    @property
    def timeout(self) -> int:
        """The time limit in milliseconds; 0 means no limit."""
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
            f"Connection(host={self.host}, port={self.port}, "
            f"username={self.username}, password=*****)"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle a live connection ({self!r}): pickle an AsyncConnection that is not "
            "connected, or what you made this one with"
        )

    # -- work

    def execute(
        self,
        command: str,
        timeout: Milliseconds | None = None,
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
        """Run a command on its own channel and wait for it.

        Args:
            command: for the user's login shell on the server.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            input: what the command reads from its stdin; None means nothing.
            max_output: most bytes of stdout and stderr together.
            pty: True or a `Pty` gives it a terminal; stderr then comes with stdout, and the end
                of `input` is typed as Ctrl-D.
            env: variables to set, as far as the server accepts them.
            check: a status other than 0 is a CommandFailed.
            on_output: is called with ``"stdout"`` or ``"stderr"`` and the bytes that have come,
                while the command runs. If it raises, the command is stopped, and the
                exception goes on. In the async API a coroutine function is awaited, and any
                other is called in a thread.
            forward_agent: True or the path of an agent's socket lends the ssh-agent to the command
                while it runs. A person who controls the server can use it
                meanwhile.
            wait: with "eof", until all output has come and the channel is closed; with "exit",
                until the command itself has ended, even if processes that it left behind may
                still write.

        Returns:
            Its output and exit status. A command that a signal ended has status -1 and its
                `signal`.

        Raises:
            CommandTimeout: the time is over; `.result` has the output so far. The command was
                sent SIGKILL, and the connection stays usable. It is a TimeoutError.
            CommandFailed: the status is not 0, with `check`; `.result` has it, and the output.
            OutputLimitExceeded: the same as for the time, for `max_output`.
            ChannelRefused, ChannelError: the server does not run it.
            ConnectionLost, ConnectionClosed: the connection ended; `.result` has the output so
                far.
        """
        line = check_command(command)
        how, milliseconds = self._prepare_execution(
            timeout, input, max_output, wait, pty, env, check, on_output, forward_agent
        )
        return self._execute(line, how, milliseconds)

    def sudo(
        self,
        command: str | Sequence[str],
        timeout: Milliseconds | None = None,
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
        """Run a command as another user, by sudo; otherwise as `execute`.

        sudo gets the password only when it asks for it, once, and by no way that others can see.
        What sudo itself writes is not in the result. A command without a terminal that runs as
        another user cannot be killed by the server, so it may go on after a time-out.

        Args:
            command: for ``/bin/sh``, which runs as that user; or a list of a program and its
                arguments, which is run as it is, for sudoers files that permit certain programs
                only. sudo's notes are then part of stderr.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            user: a name, or ``#`` and a uid.
            password: for sudo. None means that sudo must not ask (``-n``), except that with
                `forward_agent` its PAM modules may ask the agent.
            input: what the command reads from its stdin; not with a list and a password. The
                stdin of a list ends when sudo has got its password: give none where sudo asks for
                none.
            pty: see `execute`; sudo then asks on the terminal.
            env: variables that the server and sudo (``SETENV``) let the command have.

        Raises:
            SudoPasswordError: the password is wrong, or one is needed.
            SudoNotPermitted: the sudoers file does not permit it.
            SudoNeedsTerminal: give ``pty=True``.
            SudoError: sudo did not run the command for another reason; all of these are
                PermissionErrors, too.
            HusshError: what `execute` raises.
        """
        run = check_sudo(
            command,
            user,
            password,
            has_input=input is not None,
            env=env,
            pty=check_pty(pty),
            may_ask=bool(forward_agent),
        )
        how, milliseconds = self._prepare_execution(
            timeout, input, max_output, wait, pty, env, check, on_output, forward_agent
        )
        return self._execute(run.make_line(), how._replace(converse=run.converse), milliseconds)

    def _prepare_execution(
        self,
        timeout: Milliseconds | None,
        input: str | bytes | None,
        max_output: int | None,
        wait: Literal["eof", "exit"],
        pty: bool | Pty | None,
        env: Mapping[str, str] | None,
        check: bool,
        on_output: OnOutput | None,
        forward_agent: ForwardAgent,
    ) -> tuple[Execution, int]:
        milliseconds = self._timeout if timeout is None else to_milliseconds(timeout)
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
            can_await=False,
        )
        return how, milliseconds

    def _execute(self, line: bytes, how: Execution, milliseconds: int) -> SSHResult:
        session = self._get_session()
        deadline = monotonic() + milliseconds / 1000 if milliseconds else None
        op = execute(session.link, line, how, f" after {milliseconds} ms")
        return session.run(op, deadline, Phase.EXEC)

    def popen(
        self,
        command: str,
        *,
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
    ) -> Process:
        """Start a command and exchange data with it while it runs, like `subprocess.Popen`.

        Args:
            command: for the user's login shell on the server.
            pty: True or a `Pty` gives it a terminal; stderr then comes with stdout.
            env: variables to set, as far as the server accepts them.
            forward_agent: lends the ssh-agent while it runs, see `execute`.

        Returns:
            A `Process`, best used in a ``with`` block.

        Raises:
            ChannelRefused, ChannelError: the server does not run it.
        """
        session = self._get_session()
        op = start(
            session.link,
            check_command(command),
            pty=check_pty(pty),
            env=self._complete_env(env),
            lend=lend_agent(session, self._options, forward_agent),
        )
        return Process(session, session.call(op, self._seconds, Phase.EXEC), self._seconds)

    def shell(
        self,
        pty: bool | Pty | None = None,
        *,
        env: Mapping[str, str] | None = None,
        forward_agent: ForwardAgent = None,
    ) -> InteractiveShell:
        """Start a login shell; a context manager, see `InteractiveShell`.

        Raises:
            ChannelRefused, ChannelError: the server gives no shell.
        """
        session = self._get_session()
        terminal = check_pty(pty)
        channel = session.call(
            start(
                session.link,
                None,
                pty=terminal,
                env=self._complete_env(env),
                lend=lend_agent(session, self._options, forward_agent),
            ),
            self._seconds,
            Phase.SHELL,
        )
        return InteractiveShell(session, channel, terminal, self._seconds)

    def _complete_env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return self._options.configured.complete_env(env)

    # -- ending

    def close(self) -> None:
        """End the connection and the jump hosts that it opened; a second call does nothing.

        Connections that use this one as their `proxy_jump` fail with ConnectionLost or
        ConnectionClosed.
        """
        if self._session is not None:
            self._session.close()

    def __del__(self) -> None:
        session = getattr(self, "_session", None)
        if session is not None:
            with contextlib.suppress(Exception):  # nobody would get a finalizer's error
                session.collect()

    def _get_session(self) -> Session:
        if self._session is None:
            raise RuntimeError("the connection was never opened")
        return self._session
