"""Every exception that hussh raises, in one tree whose root is `HusshError`.

Each exception says *where* something failed (`hop`, such as ``"user@bastion:22"``) and *when*
(`phase`, the word of a `Phase`). Code written for hussh 0.3.3 catches ``OSError`` and
``TimeoutError`` from the sync API and ``RuntimeError`` from the async one. Where such code must
keep working, a class inherits from both.

Every layer raises these and users catch them. Of hussh, this module imports only the root and
the results that errors carry.
"""

from __future__ import annotations

from typing import Any, ClassVar

from ._error_base import HusshError
from ._error_base import Phase as Phase
from ._error_base import printable as printable
from ._host_results import PartialFailureException
from ._results.ssh_result import SSHResult

__all__ = [
    "AuthenticationError",
    "ChannelError",
    "ChannelRefused",
    "CommandFailed",
    "CommandTimeout",
    "ConfigError",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectTimeout",
    "ExpectEOF",
    "ExpectTimeout",
    "ForkedConnectionError",
    "ForwardRefused",
    "HostKeyError",
    "HusshError",
    "JumpRefused",
    "KeyFileError",
    "KeyRefused",
    "KeyUnreadable",
    "NegotiationError",
    "NotText",
    "OutputLimitExceeded",
    "PartialFailureException",
    "PassphraseRequired",
    "ProtocolError",
    "ProxyCommandError",
    "SFTPError",
    "SFTPExistsError",
    "SFTPIsDirectoryError",
    "SFTPNotDirectoryError",
    "SFTPNotFoundError",
    "SFTPPermissionError",
    "SFTPTimeout",
    "SFTPUnavailable",
    "ServerBusy",
    "SudoError",
    "SudoNeedsTerminal",
    "SudoNotPermitted",
    "SudoPasswordError",
    "TunnelRefused",
    "WrongPassphrase",
]


class ConfigError(HusshError, ValueError, OSError, RuntimeError):
    """The ssh configuration that ``config=`` names cannot be read, or not be followed safely."""

    default_phase: ClassVar[Phase | None] = Phase.CONFIG


class ConnectError(HusshError, ConnectionError, TimeoutError, RuntimeError):
    """There is no byte stream to the host: its name did not resolve, or nothing accepted it.

    It is a TimeoutError because the sync API of 0.3.3 raised that for a refused connection, too. If
    the time really was over, the error is a ConnectTimeout.
    """

    default_phase: ClassVar[Phase | None] = Phase.CONNECT


class ConnectionLost(HusshError, ConnectionError, RuntimeError):
    """The peer or the network ended the connection; it is unusable."""


class ServerBusy(ConnectionLost, TimeoutError):
    """The server refused the handshake because it has too many under way.

    OpenSSH refuses handshakes beyond ``MaxStartups`` and ``PerSourceMaxStartups``, and those of
    addresses that it punishes (``PerSourcePenalties``). hussh has tried no credential.

    It is a TimeoutError for the same reason as `ConnectError`: programs that wait for a host to
    start catch that, and its port may be open before it is ready.

    Attributes:
        server_text: the server's text, printable, at most 200 characters; it may be empty.
        tries: number of tries; more than 1 only in a `MultiConnection`. 0 means that the server
            refused other hosts until the time was over.
        may_be_ban: whether the text is the one for a punished address. OpenSSH 9.8 and later use
            that text for all refusals.
    """

    def __init__(
        self,
        text: str,
        *,
        server_text: str = "",
        tries: int = 1,
        may_be_ban: bool = False,
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.server_text = server_text
        self.tries = tries
        self.may_be_ban = may_be_ban

    def __str__(self) -> str:
        return super().__str__() + (f" after {self.tries} tries" if self.tries > 1 else "")


class ProxyCommandError(ConnectionLost):
    """The proxy command could not be started, or ended while it was needed.

    Attributes:
        exit_code: its exit status, or the negative number of the signal that killed it. It is
            None if the command was still running.
        stderr_tail: the last 4 KiB that it wrote to stderr.
    """

    default_phase: ClassVar[Phase | None] = Phase.PROXY

    def __init__(
        self, text: str, *, exit_code: int | None = None, stderr_tail: str = "", **place: Any
    ) -> None:
        super().__init__(text, **place)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class ConnectionClosed(HusshError, ConnectionError, RuntimeError):
    """The program closed the connection before, or the bastion that carried it."""


class ForkedConnectionError(ConnectionClosed):
    """The connection was opened before ``os.fork()`` and belongs to the parent process."""


class ProtocolError(HusshError, OSError, RuntimeError):
    """The peer broke the SSH protocol (RFC 4253, 4254); the connection is unusable."""


class NegotiationError(ProtocolError):
    """Client and server have no algorithm in common (RFC 4253 section 7.1).

    Attributes:
        ours: comma-separated names that hussh offered, by kind ("kex", "hostkey", "cipher", …).
        theirs: the same of the server; empty if they are not known.
    """

    default_phase: ClassVar[Phase | None] = Phase.KEX

    def __init__(
        self,
        text: str,
        *,
        ours: dict[str, str] | None = None,
        theirs: dict[str, str] | None = None,
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.ours: dict[str, str] = ours or {}
        self.theirs: dict[str, str] = theirs or {}


class HostKeyError(HusshError, OSError, RuntimeError):
    """The host key of a hop is not acceptable under the policy.

    Attributes:
        host: the name that was looked up, ``[host]:port`` for ports other than 22.
        reason: "changed", "revoked", "unknown", or "weak" for an RSA key that is too small.
        fingerprint: ``SHA256:…`` of the key that the server presented.
        recorded: fingerprints of the keys that known_hosts has for that name.
    """

    default_phase: ClassVar[Phase | None] = Phase.HOSTKEY

    def __init__(
        self,
        text: str,
        *,
        host: str = "",
        reason: str = "unknown",
        fingerprint: str = "",
        recorded: tuple[str, ...] = (),
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.host = host
        self.reason = reason
        self.fingerprint = fingerprint
        self.recorded = recorded


class AuthenticationError(HusshError, RuntimeError):
    """The server refused every credential that hussh was allowed to try (RFC 4252).

    Attributes:
        methods_left: methods that the server would still accept, as in its last answer.
        tried: descriptions of what was tried, in order; never a secret.
        banner: the server's last login banner as one line of at most 1000 characters; it may be
            empty.
    """

    default_phase: ClassVar[Phase | None] = Phase.AUTH

    def __init__(
        self,
        text: str,
        *,
        methods_left: tuple[str, ...] = (),
        tried: tuple[str, ...] = (),
        banner: str = "",
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.methods_left = methods_left
        self.tried = tried
        self.banner = banner


class KeyFileError(AuthenticationError):
    """hussh could not use a private key, and did not ask the server."""


class KeyUnreadable(KeyFileError):
    """The key file is missing, may not be read, or contains no key of a supported type."""


class PassphraseRequired(KeyFileError):
    """The key is encrypted, no passphrase was given, and the ssh-agent does not have it."""

    #: The public half of the key (RFC 4253 section 6.6), if it is known without a passphrase.
    public_blob: bytes | None = None


class WrongPassphrase(KeyFileError):
    """The key is encrypted and the passphrase does not fit."""


class KeyRefused(AuthenticationError):
    """The server does not accept this key for this user."""


class ChannelError(HusshError, OSError, RuntimeError):
    """A channel request failed (RFC 4254); the connection stays usable."""

    default_phase: ClassVar[Phase | None] = Phase.CHANNEL


class ChannelRefused(ChannelError):
    """The server refused to open a channel (RFC 4254 section 5.1).

    Attributes:
        reason_code: 1 prohibited, 2 connect failed, 3 unknown type, 4 resource shortage.
        reason_text: the server's text, printable.
    """

    def __init__(
        self, text: str, *, reason_code: int = 0, reason_text: str = "", **place: Any
    ) -> None:
        super().__init__(text, **place)
        self.reason_code = reason_code
        self.reason_text = reason_text


class JumpRefused(ChannelRefused, TimeoutError):
    """A bastion refused to connect to the next hop; a TimeoutError, as `ConnectError` is.

    Attributes:
        target: ``host:port`` to which the bastion should have connected.
    """

    def __init__(self, text: str, *, target: str = "", **more: Any) -> None:
        super().__init__(text, **more)
        self.target = target


class TunnelRefused(ChannelRefused, ConnectionRefusedError):
    """The server refused a tunnel, or could not connect it; the connection stays usable.

    Attributes:
        target: ``host:port``, or the path of a Unix socket, that the server was asked for.
    """

    def __init__(self, text: str, *, target: str = "", **more: Any) -> None:
        super().__init__(text, **more)
        self.target = target


class ForwardRefused(HusshError, OSError, RuntimeError):
    """A forward cannot listen, here or at the server, or cannot reach where it leads.

    Attributes:
        errno: of this machine's error; None where the server refused.
    """

    default_phase: ClassVar[Phase | None] = Phase.CHANNEL

    def __init__(self, text: str, *, errno: int | None = None, **place: Any) -> None:
        super().__init__(text, **place)
        self.errno = errno


class ConnectTimeout(HusshError, TimeoutError, RuntimeError):
    """The time allowed for connecting, over all hops and phases, ran out."""

    is_time_out: ClassVar[bool] = True


class _OutputError(HusshError):
    """What errors share that always have the output of a command so far."""

    result: SSHResult

    def __init__(self, text: str, *, result: SSHResult | None = None, **place: Any) -> None:
        super().__init__(text, **place)
        self.result = SSHResult() if result is None else result


class CommandTimeout(_OutputError, TimeoutError, RuntimeError):
    """The time allowed for a command ran out; the connection stays usable.

    Attributes:
        result: an ``SSHResult`` with all output that had arrived and status -1.
    """

    default_phase: ClassVar[Phase | None] = Phase.EXEC
    is_time_out: ClassVar[bool] = True


class ExpectTimeout(CommandTimeout):
    """What `expect` waits for has not come in time; the shell goes on.

    Attributes:
        result: an ``SSHResult`` with what came and nobody has taken; it is still there for the
            next call.
    """

    default_phase: ClassVar[Phase | None] = Phase.SHELL

    @property
    def before(self) -> str:
        """What came, both streams in the order of arrival."""
        return self.result.output_bytes.decode("utf-8", "replace")


class ExpectEOF(_OutputError, ChannelError, EOFError):
    """The shell has ended before what `expect` waits for came.

    Attributes:
        result: an ``SSHResult`` with what came and nobody has taken; its status is -1 if the
            server had not told it yet.
    """

    default_phase: ClassVar[Phase | None] = Phase.SHELL

    @property
    def before(self) -> str:
        """What came, both streams in the order of arrival."""
        return self.result.output_bytes.decode("utf-8", "replace")


class CommandFailed(_OutputError, OSError, RuntimeError):
    """A command that was run with ``check=True`` ended with another status than 0.

    Attributes:
        result: its ``SSHResult``.
    """

    default_phase: ClassVar[Phase | None] = Phase.EXEC


class SudoError(HusshError, PermissionError, RuntimeError):
    """sudo did not run the command; see its subclasses for the usual reasons."""

    default_phase: ClassVar[Phase | None] = Phase.EXEC


class SudoPasswordError(SudoError):
    """sudo did not accept the password, or wants one and none was given."""


class SudoNotPermitted(SudoError):
    """The server's sudoers file does not permit the user to run the command."""


class SudoNeedsTerminal(SudoError):
    """sudo wants a terminal (``requiretty``): give ``pty=True``."""


class OutputLimitExceeded(_OutputError, OSError, RuntimeError):
    """The output of a command, or a file, is longer than ``max_output``; the command was stopped.

    Attributes:
        result: an ``SSHResult`` with status -1 and the output up to the limit. For a file,
            ``stdout_bytes`` has its first bytes.
    """

    default_phase: ClassVar[Phase | None] = Phase.EXEC


class NotText(HusshError, ValueError, OSError, RuntimeError):
    """The contents of a file are not text in the requested encoding."""


class SFTPError(HusshError, OSError, RuntimeError):
    """A file operation failed, on the server or here; the connection stays usable.

    If Python has a class for the `errno`, the error is of that class, too: a missing file is a
    FileNotFoundError.

    Attributes:
        errno: as in any OSError; EIO if the server gives no reason.
        filename, filename2: the path. For a transfer or a renaming they are source and
            destination.
        status: the server's SSH_FX_* number, or None if the server did not refuse.
        transferred: number of bytes that a failed transfer had written and that are kept, or None
            if there was no transfer.
    """

    default_phase: ClassVar[Phase | None] = Phase.SFTP

    def __init__(
        self,
        text: str,
        *,
        errno: int | None = None,
        filename: str | None = None,
        filename2: str | None = None,
        status: int | None = None,
        transferred: int | None = None,
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.errno = errno
        self.strerror: str = text
        if filename is not None:
            self.filename = filename
        if filename2 is not None:
            self.filename2 = filename2
        self.status = status
        self.transferred = transferred

    def _copy_state(self) -> dict[str, Any]:
        names = ("errno", "strerror", "filename", "filename2")
        kept = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return self.__dict__ | kept


class SFTPNotFoundError(SFTPError, FileNotFoundError):
    """There is no such file or directory."""


class SFTPPermissionError(SFTPError, PermissionError):
    """The server, or this machine, does not permit the operation."""


class SFTPExistsError(SFTPError, FileExistsError):
    """A file or directory of that name exists already."""


class SFTPIsDirectoryError(SFTPError, IsADirectoryError):
    """The path is a directory, but the operation needs a file."""


class SFTPNotDirectoryError(SFTPError, NotADirectoryError):
    """The path is no directory, but the operation needs one."""


class SFTPTimeout(SFTPError, TimeoutError):
    """The time allowed for a file operation ran out; the connection stays usable."""

    is_time_out: ClassVar[bool] = True


class SFTPUnavailable(SFTPError):
    """The server offers no SFTP, or an SFTP that hussh cannot use."""
