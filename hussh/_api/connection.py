"""`Connection`: an SSH connection for threads, straight to a host or through bastions.

Users import it from `hussh`. Its methods check arguments and run operations. They contain no
protocol.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from .._connect.connect import Session, connect
from .._connect.forwarding import (
    Forwarding,
    LocalForwarding,
    RemoteForwarding,
    SocksForwarding,
)
from .._policy.connection_options import DEFAULT_USER, ConnectionOptions, Milliseconds, Seconds
from .._policy.forwarding import Address, Listen, check_listen, check_target
from .._policy.result import SSHResult
from .._policy.route import DEFAULT_PORT
from .._policy.sftp import AnyPath
from .._policy.transfer_result import TransferResult
from .._protocol import scp_files as scp
from .._protocol.core import Op
from .._protocol.execute import execute
from .._protocol.process import Pty, env_requests, start
from .._protocol.tunnel import open_tunnel
from ..errors import Phase, SFTPError
from .arguments import (
    check_command,
    check_max_output,
    check_memory_only,
    check_number,
    check_pty,
    check_wait,
    file_bytes,
    input_bytes,
)
from .closing import Closing
from .configure_plan import configure
from .contents import contents
from .declared import documents_constructor, takes_options
from .forward import Forward
from .plan import make_plan
from .process import Process
from .sftp import SFTP
from .sftp_calls import (
    COPY_BUFFER,
    Preserve,
    Progress,
    check_destination,
    check_longer,
    check_other_file,
    not_begun,
    one_server,
)
from .sftp_file import open_over
from .sftp_run import new_sftp
from .shell import InteractiveShell
from .tail import FileTailer
from .tunnel import Tunnel

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Connection"]

T = TypeVar("T")


@documents_constructor
class Connection(Closing):
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
        self._timeout = _milliseconds(timeout) or 0
        seconds, time_limit = self._timeout / 1000 or None, f" after {self._timeout} ms"
        if self._plan.request.config:
            self._plan, seconds, time_limit = configure(self._plan, seconds, time_limit)
        self._options = self._plan.target
        bastion = self._plan.bastion  # alive as long as we are
        self._session = connect(
            self._plan.hops, bastion._live() if bastion is not None else None, seconds, time_limit
        )
        self._sftp = new_sftp(self._session.link, self._options)

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
        timeout: int | None = None,
        *,
        input: str | bytes | None = None,
        max_output: int | None = None,
        wait: Literal["eof", "exit"] = "eof",
    ) -> SSHResult:
        """Run a command on its own channel and wait for it.

        Args:
            command: for the user's login shell on the server.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            input: what the command reads from its stdin; None means nothing.
            max_output: most bytes of stdout and stderr together.
            wait: with "eof", until all output has come and the channel is closed; with "exit",
                until the command itself has ended, even if processes that it left behind may
                still write.

        Returns:
            Its output and exit status. A command that a signal ended has status -1 and its
                `signal`.

        Raises:
            CommandTimeout: the time is over; `.result` has the output so far. The command was
                sent SIGKILL, and the connection stays usable. It is a TimeoutError.
            OutputLimitExceeded: the same for `max_output`.
            ChannelRefused, ChannelError: the server does not run it.
            ConnectionLost, ConnectionClosed: the connection ended; `.result` has the output so
                far.
        """
        session = self._live()
        milliseconds = self._timeout if timeout is None else _milliseconds(timeout)
        op = execute(
            session.link,
            check_command(command),
            stdin=input_bytes(input),
            max_output=check_max_output(max_output),
            wait=check_wait(wait),
            env=env_requests(self._env(None)),
            time_limit=f" after {milliseconds} ms",
        )
        deadline = monotonic() + milliseconds / 1000 if milliseconds else None
        return session.run(op, deadline, Phase.EXEC)

    def popen(
        self,
        command: str,
        *,
        pty: bool | Pty | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a command and exchange data with it while it runs, like `subprocess.Popen`.

        Args:
            command: for the user's login shell on the server.
            pty: True or a `Pty` gives it a terminal; stderr then comes with stdout.
            env: variables to set, as far as the server accepts them.

        Returns:
            A `Process`, best used in a ``with`` block.

        Raises:
            ChannelRefused, ChannelError: the server does not run it.
        """
        session = self._live()
        op = start(session.link, check_command(command), pty=check_pty(pty), env=self._env(env))
        return Process(session, session.call(op, self._seconds, Phase.EXEC), self._seconds)

    def shell(
        self, pty: bool | Pty | None = None, *, env: Mapping[str, str] | None = None
    ) -> InteractiveShell:
        """Start a login shell; a context manager, see `InteractiveShell`.

        Raises:
            ChannelRefused, ChannelError: the server gives no shell.
        """
        session = self._live()
        terminal = check_pty(pty)
        channel = session.call(
            start(session.link, None, pty=terminal, env=self._env(env)), self._seconds, Phase.SHELL
        )
        return InteractiveShell(session, channel, terminal, self._seconds)

    def _env(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return self._options.configured.env_for(env)

    # -- tunnels

    def open_connection(self, host: str, port: int, *, timeout: int | None = None) -> Tunnel:
        """Open a byte stream to a TCP port, from the server, which resolves the name.

        Args:
            timeout: **milliseconds** for the server to connect; None means the connection's
                limit, 0 no limit.

        Returns:
            A `Tunnel`, which has the methods of a socket.

        Raises:
            TunnelRefused: the server does not permit it, or cannot reach the port; see its
                `reason_code`. It is a ConnectionRefusedError.
            ConnectionLost, ConnectionClosed: the SSH connection ended.
        """
        return self._open_tunnel(check_target((host, port)), timeout)

    def open_unix_connection(self, path: AnyPath, *, timeout: int | None = None) -> Tunnel:
        """Open a byte stream to a Unix socket of the server; see `open_connection`."""
        return self._open_tunnel(check_target(path), timeout)

    def _open_tunnel(self, to: Address, timeout: int | None) -> Tunnel:
        session = self._live()
        milliseconds = self._timeout if timeout is None else _milliseconds(timeout)
        op = open_tunnel(session.link, to, session.hop)
        channel = session.call(op, milliseconds / 1000 or None, Phase.CHANNEL)
        return Tunnel(self, session, channel, to, self._seconds)

    def forward_local(self, listen: Listen, to: tuple[str, int] | AnyPath) -> Forward:
        """Listen on this machine, and carry each connection to where the server reaches.

        Args:
            listen: a port of the loopback (0: any), ``(host, port)``, or the path of a Unix
                socket, which only this user may connect to.
            to: ``(host, port)``, whose name the server resolves, or the path of a Unix socket
                of the server.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the address is in use, or may not be used.
        """
        session = self._live()
        return self._forward(LocalForwarding(session, check_listen(listen), check_target(to)))

    def forward_remote(self, listen: Listen, to: tuple[str, int] | AnyPath) -> Forward:
        """Let the server listen, and carry each connection to where this machine reaches.

        Args:
            listen: a port of the server's loopback (0: any), ``(host, port)`` (``""``: all its
                addresses, where it permits that), or the path of a Unix socket there.
            to: ``(host, port)``, whose name this machine resolves, or the path of a Unix
                socket of this machine.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the server does not listen there.
        """
        session = self._live()
        return self._forward(RemoteForwarding(session, check_listen(listen), check_target(to)))

    def forward_socks(self, listen: Listen = 0) -> Forward:
        """Listen on this machine as a SOCKS proxy (4, 4a and 5) that connects from the server.

        There is no authentication.  The server resolves names.

        Args:
            listen: as of `forward_local`.

        Returns:
            A `Forward`; best used in a ``with`` block.

        Raises:
            ForwardRefused (an OSError): the address is in use, or may not be used.
        """
        session = self._live()
        return self._forward(SocksForwarding(session, check_listen(listen), None))

    def _forward(self, forwarding: Forwarding) -> Forward:
        session = self._live()
        session.call(forwarding.begin(), self._seconds, Phase.CHANNEL)
        return Forward(self, session, forwarding)

    # -- scp

    def scp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
    ) -> str | bytes:
        """Fetch a file with the server's scp.

        Returns:
            Its contents as str (bytes with ``encoding=None``). With `local_path` they go to
                that file, and the result is ``"Ok"``.

        Raises:
            SFTPError: the file is missing, a directory, or not permitted, or the server has no
                scp. It is an OSError, also FileNotFoundError and the like.
            NotText: the contents are not text in that encoding.
        """
        session = self._live()
        if local_path is not None:
            self._scp(scp.fetch_file(session.link, remote_path, local_path))
            return "Ok"
        data = self._scp(scp.fetch(session.link, remote_path))
        return contents(data, encoding, remote_path, session, Phase.SCP)

    def scp_write(self, local_path: AnyPath, remote_path: AnyPath) -> None:
        """Store a local file, with its permission bits; raise as `scp_read`.

        A `remote_path` that ends in a slash is the directory for the file.
        """
        self._scp(scp.store_file(self._live().link, local_path, remote_path))

    def scp_write_data(self, data: str | bytes, remote_path: AnyPath) -> None:
        """Store `data` as a file (mode 644); raise as `scp_read`."""
        self._scp(scp.store(self._live().link, file_bytes(data), remote_path))

    def _scp(self, op: Op[T]) -> T:
        return self._live().call(op, self._seconds, Phase.SCP)

    # -- sftp

    @property
    def sftp(self) -> SFTP:
        """The files on the server, with the method names of `os`; see `SFTP`."""
        self._live()
        return SFTP(self)

    def sftp_read(
        self,
        remote_path: AnyPath,
        local_path: AnyPath | None = None,
        *,
        encoding: str | None = "utf-8",
        progress: Progress | None = None,
        timeout: int | None = None,
        resume: bool = False,
        max_output: int | None = None,
    ) -> str | bytes:
        """Fetch a file.

        Args:
            local_path: where to write it, see `SFTP.get`; with None its contents are returned.
            encoding: that of the contents; with None bytes are returned.
            progress: is called with the bytes so far and in all; see `SFTP.get`.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            resume: keep what `local_path` has of the file, see `SFTP.get`.
            max_output: most bytes to return, without a local_path; None means no limit.

        Returns:
            ``"Ok"`` if `local_path` was given, otherwise the contents.

        Raises:
            SFTPError: see `SFTP`; also SFTPTimeout and SFTPUnavailable. It is an OSError.
            NotText: the contents are not text in that encoding.
            OutputLimitExceeded: the file has more than `max_output` bytes; its `.result` has
                the first ones as `stdout_bytes`.
        """
        check_memory_only(max_output, local_path)
        if local_path is None:
            if resume:
                raise ValueError("resume= needs a local_path")
            hop = self._live()
            data = self.sftp.get_bytes(
                remote_path, progress=progress, timeout=timeout, max_output=max_output
            )
            return contents(data, encoding, remote_path, hop, Phase.SFTP)
        self.sftp.get(remote_path, local_path, progress=progress, timeout=timeout, resume=resume)
        return "Ok"

    def sftp_write(
        self,
        local_path: AnyPath,
        remote_path: AnyPath | None = None,
        *,
        progress: Progress | None = None,
        timeout: int | None = None,
        resume: bool = False,
    ) -> None:
        """Store a local file, at the same path if `remote_path` is None; see `SFTP.put`."""
        target = local_path if remote_path is None else remote_path
        self.sftp.put(local_path, target, progress=progress, timeout=timeout, resume=resume)

    def sftp_write_data(
        self, data: str | bytes, remote_path: AnyPath, *, timeout: int | None = None
    ) -> None:
        """Store `data` (text as UTF-8) as a file; raise as `sftp_read`."""
        self.sftp.put_bytes(file_bytes(data), remote_path, timeout=timeout)

    def sftp_put_dir(
        self,
        local_path: AnyPath,
        remote_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        timeout: int | None = None,
    ) -> TransferResult:
        """Store a directory; return source paths (transferred, failed); see `SFTP.put_dir`.

        If one of the two directories is not available, the source is the failed path; with
        `fail_fast` that raises.
        """
        try:
            return self.sftp.put_dir(
                local_path, remote_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return not_begun(error, local_path, fail_fast)

    def sftp_get_dir(
        self,
        remote_path: AnyPath,
        local_path: AnyPath,
        follow_symlinks: bool = True,
        preserve_permissions: bool = True,
        fail_fast: bool = False,
        *,
        preserve_times: bool = False,
        preserve: Preserve | None = None,
        timeout: int | None = None,
    ) -> TransferResult:
        """Fetch a directory; return source paths (transferred, failed); see `SFTP.get_dir`.

        If one of the two directories is not available, the source is the failed path; with
        `fail_fast` that raises.
        """
        try:
            return self.sftp.get_dir(
                remote_path, local_path, follow_symlinks, preserve_permissions, fail_fast,
                preserve_times=preserve_times, preserve=preserve, timeout=timeout,
            )  # fmt: skip
        except SFTPError as error:
            return not_begun(error, remote_path, fail_fast)

    def remote_copy(
        self, source_path: AnyPath, dest_conn: Connection, dest_path: AnyPath | None = None
    ) -> None:
        """Copy a file from this server to another, with bounded memory.

        Args:
            dest_conn: a connection of the same class to the other server; it may have its own
                bastions.
            dest_path: the path there; None means the same path.

        Raises:
            SFTPError: one side failed; the error has its path. See `SFTP`.
            shutil.SameFileError: it would be copied onto itself. If hussh cannot know that
                (another name of the server, a network drive), the file keeps its contents.
            TypeError: dest_conn is not a Connection.
        """
        check_destination(dest_conn, Connection, "a Connection")
        target = source_path if dest_path is None else dest_path
        if one_server(self._plan, dest_conn._plan) and dest_conn.sftp.exists(target):
            real = self.sftp.realpath(source_path), dest_conn.sftp.realpath(target)
            check_other_file(source_path, target, real)
        buffer = memoryview(bytearray(COPY_BUFFER))
        with self.sftp.open(source_path, "rb", buffering=0) as reader:
            with open_over(dest_conn.sftp._run, target) as writer:
                # It may be the source under another name, so nothing is cut before it was read.
                size = writer.stat().st_size
                while count := reader.readinto(buffer):  # type: ignore[attr-defined]
                    writer.write(buffer[:count])
                copied = writer.tell()
                if size is not None and size <= copied:
                    return
                try:
                    writer.truncate()
                    return
                except SFTPError as error:
                    # If the server refuses every change of attributes, opening still empties it.
                    check_longer(error, size, copied, reader.stat().st_size)  # type: ignore[attr-defined]
            reader.seek(0)
            with dest_conn.sftp.open(target, "wb", buffering=0) as writer:
                while count := reader.readinto(buffer):  # type: ignore[attr-defined]
                    writer.write(buffer[:count])

    def tail(self, remote_file: AnyPath) -> FileTailer:
        """Follow what is added to a file, in a context manager; see `FileTailer`."""
        return FileTailer(self, remote_file)

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

    @property
    def _seconds(self) -> float | None:
        return self._timeout / 1000 or None

    def _live(self) -> Session:
        if self._session is None:
            raise RuntimeError("the connection was never opened")
        return self._session


def _milliseconds(value: int | None) -> int:
    number = check_number(value, "milliseconds")
    return int(number) if number == int(number) or number >= 1 else 1
