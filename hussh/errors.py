"""Every exception that hussh raises, in one tree; this module imports nothing of hussh.

`printable` is for what a peer says in them; whoever repeats that uses it.

All of them say *where* (`hop`, such as ``"user@bastion:22"``) and *when*
(`phase`: queue, dns, connect, proxy, banner, kex, hostkey, auth, channel, exec …)
something failed.  Code written for hussh 0.3.3 caught ``OSError`` and
``TimeoutError`` in the sync API and ``RuntimeError`` in the async one, so the
classes inherit from both where such code must keep working.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "ChannelError",
    "ChannelRefused",
    "CommandTimeout",
    "ConnectError",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectTimeout",
    "ForkedConnectionError",
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
    "WrongPassphrase",
]


def printable(text: str, most: int = 200) -> str:
    """A stranger's words, fit for an error: nothing in them moves a cursor or turns the writing."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else " " for char in text)
    return text.strip()[:most]


def _rebuild(
    cls: type[HusshError], text: str, state: dict[str, Any], cause: HusshError | None
) -> HusshError:
    # The first __new__ in the order of bases need not be the one that owns the memory layout.
    base = OSError if issubclass(cls, OSError) else Exception
    error = base.__new__(cls, text)
    Exception.__init__(error, text)
    for name, value in state.items():
        setattr(error, name, value)
    if cause is not None:
        error.__cause__ = cause
    return error


class HusshError(Exception):
    """Root of the tree.

    Attributes:
        hop: the hop that failed, as ``user@host:port``; None where no hop is meant.
        hop_index: its place in the order of travel, counted from 0.
        phase: what was being done, one of the words in the module docstring.
    """

    hop: str | None = None
    hop_index: int | None = None
    phase: str | None = None
    default_phase: ClassVar[str | None] = None

    def __init__(
        self,
        text: str,
        *,
        hop: str | None = None,
        hop_index: int | None = None,
        phase: str | None = None,
    ) -> None:
        super().__init__(text)
        self.text = text
        self.hop = hop
        self.hop_index = hop_index
        self.phase = phase or self.default_phase

    def at(self, hop: str, hop_index: int, phase: str | None = None) -> HusshError:
        """Fill in the place where it is not known yet; returns the error itself."""
        if self.hop is None:
            self.hop, self.hop_index = hop, hop_index
        if self.phase is None:
            self.phase = phase
        return self

    def add(self, words: str) -> None:
        """Say this, too; nothing for ""."""
        if words:
            self.text = f"{self.text}; {words}"
            self.args = (self.text,)

    def __str__(self) -> str:
        cause = self.__cause__
        if not isinstance(cause, HusshError) or cause.hop in (None, self.hop):
            return self.told()
        # The hop that took this one along is what the user has to look at.
        known = cause.hop is not None and cause.hop in self.text
        return self.told() if known else f"{self.told()}, because: {cause}"

    def told(self) -> str:
        """Its own text and place, without what it came from."""
        where = f" [{self.hop}, {self.phase}]" if self.hop and self.phase else ""
        return f"{self.text}{where}"

    def __reduce__(self) -> tuple[Any, ...]:
        # A cause of ours tells which hop took this one along; any other may not pickle.
        cause = self.__cause__ if isinstance(self.__cause__, HusshError) else None
        return _rebuild, (type(self), self.text, self._state(), cause)

    def _state(self) -> dict[str, Any]:
        return self.__dict__.copy()


class ConnectError(HusshError, ConnectionError, TimeoutError, RuntimeError):
    """No byte stream to the host: the name did not resolve or nothing accepted the connection.

    It is a TimeoutError for code written for 0.3.3, whose sync API raised that for a
    refused connection, too.  Where time really was over it is a ConnectTimeout.
    """

    default_phase = "connect"


class ConnectionLost(HusshError, ConnectionError, RuntimeError):
    """The world ended the connection: the peer closed it, or the stream under it died."""


class ServerBusy(ConnectionLost, TimeoutError):
    """The server refused the handshake because it has too many: before its banner, or by name.

    A TimeoutError for the same reason as `ConnectError`: who waits for a host that is still
    starting, perhaps behind a port that is open already, catches that.

    OpenSSH does so past ``MaxStartups`` and ``PerSourceMaxStartups``, and to addresses that it
    punishes (``PerSourcePenalties``).  Nothing was tried with any credential.

    Attributes:
        server_text: what the server said, printable, at most 200 characters; maybe empty.
        tries: how often it was tried; more than once only in a `MultiConnection`.  0: it
            refused others until the time was over.
        may_be_ban: the words are those for a punished address; OpenSSH 9.8 and later use
            them for all refusals.
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
        exit_code: its exit status; negative: the signal that killed it; None: it still ran.
        stderr_tail: the last 4 KiB of what it wrote to stderr.
    """

    default_phase = "proxy"

    def __init__(
        self, text: str, *, exit_code: int | None = None, stderr_tail: str = "", **place: Any
    ) -> None:
        super().__init__(text, **place)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class ConnectionClosed(HusshError, ConnectionError, RuntimeError):
    """You ended the connection, or closed the bastion that carried it."""


class ForkedConnectionError(ConnectionClosed):
    """The connection was opened before ``os.fork()`` and belongs to the parent process."""


class ProtocolError(HusshError, OSError, RuntimeError):
    """The peer broke the SSH protocol (RFC 4253, 4254); the connection is unusable."""


class NegotiationError(ProtocolError):
    """No common algorithm (RFC 4253 section 7.1).

    Attributes:
        ours: what we offered, by kind ("kex", "hostkey", "cipher", …).
        theirs: what the server offered, by kind; empty where it is not known.
    """

    default_phase = "kex"

    def __init__(
        self,
        text: str,
        *,
        ours: dict[str, str] | None = None,
        theirs: dict[str, str] | None = None,
        **place: Any,
    ) -> None:
        super().__init__(text, **place)
        self.ours = ours or {}
        self.theirs = theirs or {}


class HostKeyError(HusshError, OSError, RuntimeError):
    """The host key of a hop is not acceptable under the policy.

    Attributes:
        host: the name looked up, ``[host]:port`` off port 22.
        reason: "changed", "revoked" or "unknown".
        fingerprint: of the key that the server showed, ``SHA256:…``.
        recorded: fingerprints of the recorded keys for that name.
    """

    default_phase = "hostkey"

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
    """The server refused every credential that we were allowed to try (RFC 4252).

    Attributes:
        methods_left: what the server would still accept, as it said last.
        tried: what was tried, in order; never a secret.
        banner: the server's last login banner as one line, at most 1000 characters; maybe empty.
    """

    default_phase = "auth"

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
    """A private key could not be used; the server was not asked."""


class KeyUnreadable(KeyFileError):
    """The key file is missing, may not be read, or holds no key of a kind that we know."""


class PassphraseRequired(KeyFileError):
    """The key is encrypted and no passphrase was given."""


class WrongPassphrase(KeyFileError):
    """The key is encrypted and the passphrase does not fit."""


class KeyRefused(AuthenticationError):
    """The server does not accept this key for this user."""


class ChannelError(HusshError, OSError, RuntimeError):
    """A channel request failed (RFC 4254); the connection stays usable."""

    default_phase = "channel"


class ChannelRefused(ChannelError):
    """The server refused to open a channel (RFC 4254 section 5.1).

    Attributes:
        reason_code: 1 prohibited, 2 connect failed, 3 unknown type, 4 resource shortage.
        reason_text: the server's own words.
    """

    def __init__(
        self, text: str, *, reason_code: int = 0, reason_text: str = "", **place: Any
    ) -> None:
        super().__init__(text, **place)
        self.reason_code = reason_code
        self.reason_text = reason_text


class JumpRefused(ChannelRefused, TimeoutError):
    """A bastion refused to open the way to the next hop; a TimeoutError, as `ConnectError` is.

    Attributes:
        target: ``host:port`` that the bastion was asked for.
    """

    def __init__(self, text: str, *, target: str = "", **more: Any) -> None:
        super().__init__(text, **more)
        self.target = target


class ConnectTimeout(HusshError, TimeoutError, RuntimeError):
    """The time allowed for connecting, over all hops and phases, ran out."""


class CommandTimeout(HusshError, TimeoutError, RuntimeError):
    """The time allowed for a command ran out; the connection stays usable.

    Attributes:
        result: an ``SSHResult`` with all output that had arrived and status -1.
    """

    default_phase = "exec"

    def __init__(self, text: str, *, result: Any = None, **place: Any) -> None:
        super().__init__(text, **place)
        self.result = result


class OutputLimitExceeded(HusshError, OSError, RuntimeError):
    """A command wrote more than ``max_output``, and was told to stop; or a file has more.

    Attributes:
        result: an ``SSHResult`` with the output up to the limit and status -1; of a file its
            first bytes as ``stdout_bytes``.
    """

    default_phase = "exec"

    def __init__(self, text: str, *, result: Any = None, **place: Any) -> None:
        super().__init__(text, **place)
        self.result = result


class PartialFailureException(HusshError, RuntimeError):
    """Something failed on some hosts, or on all.

    Attributes:
        succeeded, failed: the two halves of the ``MultiResult``; None where one is empty.
    """

    def __init__(
        self, text: str, *, succeeded: Any = None, failed: Any = None, **place: Any
    ) -> None:
        super().__init__(text, **place)
        self.succeeded = succeeded
        self.failed = failed


class NotText(HusshError, ValueError, OSError, RuntimeError):
    """A file's contents are not text in the encoding that was asked for."""


class SFTPError(HusshError, OSError, RuntimeError):
    """Something about a file failed, on the server or here; the connection stays usable.

    Where Python has a class for the `errno`, the error is of that class, too:
    a missing file is a FileNotFoundError.

    Attributes:
        errno: as in any OSError; EIO where the server gives no reason.
        filename, filename2: the path; of a transfer or renaming, source and destination.
        status: the server's SSH_FX_* number, None where the failure was not the server's.
        transferred: bytes that a failed transfer had written, which are kept; else None.
    """

    default_phase = "sftp"

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
        self.strerror = text
        if filename is not None:
            self.filename = filename
        if filename2 is not None:
            self.filename2 = filename2
        self.status = status
        self.transferred = transferred

    def _state(self) -> dict[str, Any]:
        names = ("errno", "strerror", "filename", "filename2")
        kept = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return self.__dict__ | kept


class SFTPNotFoundError(SFTPError, FileNotFoundError):
    """There is no such file or directory."""


class SFTPPermissionError(SFTPError, PermissionError):
    """The server, or this machine, does not allow it."""


class SFTPExistsError(SFTPError, FileExistsError):
    """There already is something of that name."""


class SFTPIsDirectoryError(SFTPError, IsADirectoryError):
    """It is a directory where a file is needed."""


class SFTPNotDirectoryError(SFTPError, NotADirectoryError):
    """It is no directory where one is needed."""


class SFTPTimeout(SFTPError, TimeoutError):
    """The time allowed for a file operation ran out; the connection stays usable."""


class SFTPUnavailable(SFTPError):
    """The server offers no SFTP, or one that cannot be used."""
