"""`Sshd` and `Bastion`: throw-away SSH servers on loopback, run by the user who runs the tests.

For `plugin.py`, and for fixtures of users' own. Needs neither root nor pytest. Everything that a
server reads or writes lies in the folder that it is given.

How it works. A server is a listening socket, and a process (`listener.py`) that runs the system's
sshd in its inetd mode for each connection. An sshd that is not run by root lets in the user who
runs it, and no other. So the login is that user's. Every session is made to begin in an empty home
below the server's folder, because the real one is not for tests.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypedDict, TypeVar

from .._api.connection import Connection

__all__ = ["Bastion", "ConnectOptions", "Sshd", "SshdUnavailable"]

_Self = TypeVar("_Self", bound="Sshd")
_HOST = "127.0.0.1"
_END_SECONDS = 20.0
_LISTENER = Path(__file__).with_name("listener.py")
_PACKAGES = "openssh-server of Debian, Fedora and others; openssh of Alpine and Arch"
#: Beside PATH, which often has none of them.
_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin")
_SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",  # Debian
    "/usr/libexec/openssh/sftp-server",  # Fedora
    "/usr/lib/ssh/sftp-server",  # Alpine, Arch, SUSE
    "/usr/libexec/sftp-server",
)

# What every session runs, in place of the command that it asked for: sshd begins in the real home.
_SESSION = """\
cd "$HOME" || exit
if [ -z "${SSH_ORIGINAL_COMMAND+given}" ]; then
    exec "$SHELL" -l
fi
command=$SSH_ORIGINAL_COMMAND
unset SSH_ORIGINAL_COMMAND
exec "$SHELL" -c "$command"
"""


class SshdUnavailable(RuntimeError):
    """No server can be started here; the text says what is missing, and what to do."""


class _Required(TypedDict):
    host: str
    port: int
    username: str
    private_key: str
    known_hosts: str
    host_key_policy: Literal["strict"]
    agent: Literal[False]


class ConnectOptions(_Required, total=False):
    """What `Connection` and `AsyncConnection` need to reach a server."""

    proxy_jump: list[tuple[str, int]]


class Sshd:
    """An SSH server of the system's OpenSSH, on a free port of 127.0.0.1.

    Entering it starts it, and leaving it ends it, with its sessions and all that they started.

    Attributes:
        host, port: where it listens; the port is 0 until the first start, and stays the same then.
        username: the account that can log in: the one that runs the tests.
        private_key_path: the key that is let in; it has no passphrase.
        known_hosts: a file with the host keys of this server and of those on the way to it.
        home: the folder in which its sessions begin, empty at first.
        behind: the server through which alone this one is reached, or None.
        log_path: what sshd says, with ``LogLevel VERBOSE``.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        behind: Sshd | None = None,
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Prepare a server.

        Args:
            folder: gets all its files; empty or absent.
            behind: a running server. Connections from its sessions are accepted, and no others.
            settings: keywords of sshd_config(5) with their values; they replace ours.

        Raises:
            SshdUnavailable: OpenSSH's server is not installed, or the account cannot be used.
            ValueError: a setting is not a line.
        """
        self._folder = Path(folder).absolute()
        self._settings = dict(settings or {})
        if any(re.search(r"[\r\n]", f"{key}{value}") for key, value in self._settings.items()):
            raise ValueError("a setting of sshd_config is one line")
        self._program = _find_sshd()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self.host: str = _HOST
        self.port: int = 0
        self.behind: Sshd | None = behind
        self.username: str = _find_account()
        self.home: Path = self._folder / "home"
        self.home.mkdir(parents=True, mode=0o700)
        self.log_path: Path = self._folder / "log"
        self.log_path.touch()
        self.known_hosts: Path = self._folder / "known_hosts"
        self._host_key = _make_key(self._folder / "host_key")
        self.private_key_path: Path
        if behind is None:
            self.private_key_path = self._folder / "id_ed25519"
            self._authorized = _make_key(self.private_key_path)
        else:  # one key for the whole way
            self.private_key_path, self._authorized = behind.private_key_path, behind._authorized
        (self._folder / "authorized_keys").write_text(self._authorized + "\n")
        (self._folder / "session").write_text(_SESSION)
        (self._folder / "sshd_config").write_text(self._make_configuration())

    def __repr__(self) -> str:
        """Return where it listens."""
        return f"<{type(self).__name__} {self.username}@{self.host}:{self.port}>"

    def start(self: _Self) -> _Self:
        """Start it, the first time on a free port; return it.

        Raises:
            SshdUnavailable: sshd does not start here, or does not take the settings.
            RuntimeError: it is running.
            OSError: its port was taken while it was stopped.
        """
        if self._process is not None:
            raise RuntimeError(f"{self!r} is running")
        if self.behind is not None and self.behind._process is None:
            raise RuntimeError(f"{self.behind!r}, the way to this server, is not running")
        self._ask_sshd()
        with ExitStack() as on_failure:
            control, other_end = socket.socketpair()
            on_failure.enter_context(control)
            with other_end, socket.create_server((self.host, self.port), backlog=128) as listener:
                self.port = listener.getsockname()[1]
                self._write_known_hosts()
                self._process = self._run_listener(other_end.fileno(), listener.fileno())
            on_failure.pop_all()
        self._control = control
        return self

    def _run_listener(self, *descriptors: int) -> subprocess.Popen[bytes]:
        only_from = "" if self.behind is None else str(self.behind._pid_file)
        files = [str(self._pid_file), str(self.log_path), only_from]
        # -I and -S: the listener needs no packages, and starts in a third of the time.
        command = [sys.executable, "-I", "-S", str(_LISTENER), *map(str, descriptors), *files]
        with self.log_path.open("ab") as log:
            return subprocess.Popen(  # noqa: S603 - no shell
                [*command, *self._make_argv("-i", "-e")],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                pass_fds=descriptors,
                start_new_session=True,  # Ctrl-C is for the tests, which end it in order
            )

    def stop(self) -> None:
        """End it, its sessions and all that they started; without effect if it does not run."""
        process, control = self._process, self._control
        self._process = self._control = None
        if process is None or control is None:
            return
        # Not only closed: a forked child of the tests may have a copy.
        with control, process:
            try:
                control.shutdown(socket.SHUT_RDWR)
                process.wait(_END_SECONDS)
            finally:
                process.kill()

    def end_sessions(self) -> None:
        """End all sessions as a crash would, and all that they started; it goes on listening."""
        if self._control is None:
            raise RuntimeError(f"{self!r} is not running")
        self._control.sendall(b"e")
        self._control.recv(1)

    def __enter__(self: _Self) -> _Self:
        """Start it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.stop()

    def options(self) -> ConnectOptions:
        """Return the arguments of `Connection` or `AsyncConnection` that lead to this server.

        They include the way there, `proxy_jump`, and a strict check of host keys. The user's
        ssh-agent, known_hosts files and configuration are left alone.
        """
        options: ConnectOptions = {
            "host": self.host,
            "port": self.port,
            "username": self.username,
            "private_key": str(self.private_key_path),
            "known_hosts": str(self.known_hosts),
            "host_key_policy": "strict",
            "agent": False,
        }
        way = self._list_way()
        if way:
            options["proxy_jump"] = [(each.host, each.port) for each in way]
        return options

    def connect(self, **more: Any) -> Connection:
        """Return a new `hussh.Connection` to this server; `more` are arguments that differ."""
        return Connection(**{**self.options(), **more})

    def log(self) -> str:
        """Return what sshd has said so far."""
        return self.log_path.read_text(errors="replace")

    @property
    def _pid_file(self) -> Path:
        return self._folder / "pid"

    def _list_way(self) -> list[Sshd]:
        """Return the servers on the way to this one, in the order of travel."""
        return [] if self.behind is None else [*self.behind._list_way(), self.behind]

    def _write_known_hosts(self) -> None:
        self.known_hosts.write_text(
            "".join(
                f"[{each.host}]:{each.port} {each._host_key}\n"
                for each in [*self._list_way(), self]
            )
        )

    def _make_argv(self, *arguments: str) -> list[str]:
        return [self._program, *arguments, "-f", str(self._folder / "sshd_config")]

    def _ask_sshd(self) -> None:
        """Let sshd look at its configuration and its surroundings."""
        done = subprocess.run(  # noqa: S603 - no shell
            self._make_argv("-t"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        stderr = done.stderr.strip()
        folder = re.search(r"Missing privilege separation directory: (\S+)", stderr)
        if folder is not None:
            raise SshdUnavailable(
                f"sshd that root runs needs the folder {folder[1]}, which a service of the system"
                f" makes where there is one: run mkdir -p {folder[1]}"
            )
        raise SshdUnavailable(f"{self._program} does not start: {stderr}")

    def _make_configuration(self) -> str:
        settings = {
            "HostKey": _quote(self._folder / "host_key"),
            "AuthorizedKeysFile": _quote(self._folder / "authorized_keys").replace("%", "%%"),
            "StrictModes": "no",  # the folder may lie below one that others can write to
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PermitUserRC": "no",
            "AcceptEnv": "*",
            "SetEnv": _quote(f"HOME={self.home}"),
            "ForceCommand": f"exec /bin/sh {shlex.quote(str(self._folder / 'session'))}",
            "Subsystem": f"sftp {shlex.quote(_find_sftp_server(self._program))}",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            "LogLevel": "VERBOSE",
        }
        # sshd takes the first value that it meets.
        lines = [*self._settings.items(), *settings.items()]
        return "".join(f"{keyword} {value}\n" for keyword, value in lines)


class Bastion(Sshd):
    """An `Sshd` with another one behind it, `target`, that is reached only through it.

    The target's socket is of this machine, too. It accepts connections of the bastion's sessions,
    and resets those of all other processes.
    """

    def __init__(
        self, folder: str | os.PathLike[str], *, settings: Mapping[str, str | int] | None = None
    ) -> None:
        """Prepare both; arguments are those of `Sshd`, and ``settings`` are for the bastion."""
        super().__init__(Path(folder) / "bastion", settings=settings)
        self.target: Sshd = Sshd(Path(folder) / "target", behind=self)

    def __enter__(self) -> Bastion:
        """Start the bastion, then the target."""
        self.start()
        try:
            self.target.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End both."""
        self.target.stop()
        self.stop()


def _find_sshd() -> str:
    """Return the absolute path of sshd, which it wants to know itself."""
    if find_spec("_ctypes") is None:  # the listener needs it, to find what loses its parent
        raise SshdUnavailable(f"{sys.executable} was built without the module ctypes")
    path = os.pathsep.join([os.environ.get("PATH", ""), *_SYSTEM_FOLDERS])
    found = shutil.which("sshd", path=path)
    if found is None:
        raise SshdUnavailable(f"there is no sshd: install OpenSSH's server ({_PACKAGES})")
    return os.path.abspath(found)


def _find_sftp_server(sshd: str) -> str:
    beside = Path(sshd).resolve().parent.parent / "libexec/sftp-server"
    for path in (*_SFTP_SERVERS, str(beside)):
        if os.access(path, os.X_OK):
            return path
    raise SshdUnavailable(f"there is no sftp-server: install all of OpenSSH's server ({_PACKAGES})")


def _find_account() -> str:
    """Return the name of the account that runs this; raise SshdUnavailable if it cannot log in."""
    uid = os.geteuid()
    try:
        account = pwd.getpwuid(uid)
    except KeyError:
        raise SshdUnavailable(
            f"no account has the uid {uid} that runs the tests: sshd asks /etc/passwd for one"
        ) from None
    if os.path.basename(account.pw_shell) in ("nologin", "false"):
        raise SshdUnavailable(
            f"the account {account.pw_name} that runs the tests has no login shell"
            f" (/etc/passwd says {account.pw_shell}): run them as another one"
        )
    if uid == 0 and _is_locked(account.pw_name):
        raise SshdUnavailable(
            f"the account {account.pw_name} is locked, and sshd lets nobody in there: run"
            f" usermod -p '*' {account.pw_name}, which unlocks it without a password"
        )
    return account.pw_name


def _is_locked(name: str) -> bool:
    try:
        lines = Path("/etc/shadow").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.startswith(f"{name}:!") for line in lines)


def _make_key(path: Path) -> str:
    """Write a new private key to a file; return the line of its public key."""
    # Only here: `hussh.testing` should load quickly in test runs that start no server.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return public.decode()


def _quote(text: str | Path) -> str:
    """Return a word for sshd_config."""
    return f'"{text}"'
