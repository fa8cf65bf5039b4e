"""Real OpenSSH servers for the tests, each in namespaces of its own where root allows it.

For ``tests/conftest.py`` and tests. A server never changes a file of the machine and never leaves
a process behind.

How it works. As root, ``unshare`` gives each server a mount namespace, in which generated files
(passwd, shadow, PAM stack, hosts …) are bind-mounted over the machine's, and a pid namespace, of
which sshd is process 1: ending that process makes the kernel end everything that any session ever
started, orphans included. Everything the server reads lies under its private /run, because the
tests' own directories are closed to the accounts. Where root may not make namespaces, and for other
users, ``preload.py`` shows sshd the generated files and makes it adopt all orphans, and its
descendants are ended one by one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from . import preload, sshd_log
from .accounts import IS_ROOT, Account, make_accounts, write_shadow_files
from .fido import FidoKey
from .keys import Key, Keys
from .listeners import free_port
from .processes import (
    Process,
    children_of,
    clean_environment,
    descendants_of,
    kill_all,
    wait_gone,
)
from .watch import WriterEnded, wait_for_text

START_TIMEOUT = 20.0  # seconds; a start takes about 0.05
_PORT_ATTEMPTS = 10
_SESSION_END = 2.0  # seconds that sshd gets to end a session whose client has gone
Options = Mapping[str, "str | int | Sequence[str | int]"]

# Shell, not Python: it runs between unshare and sshd and becomes sshd. $1 is the server's
# directory, $2 the configuration, $3 the sshd, and $4 its first argument.
#
# The whole of /etc is replaced: a folder of symbolic links, to our generated files and else to the
# machine's. A mount over a single file, /etc/passwd say, would not last. The kernel undoes such a
# mount in every namespace when a process of the machine renames a file to that name, and that is
# how useradd, passwd and editors replace files.
_ENTER = """
set -e
cd "$1"; config=$2; sshd=$3; first=$4
mount -n -t tmpfs -o mode=755 tmpfs run
mkdir run/sshd run/home run/config run/machine-etc
mount -n --bind home run/home
mount -n --bind config run/config
mount -n --bind /etc run/machine-etc
mount -n --move run /run
mount -n -t tmpfs -o mode=755 tmpfs /etc
mount -n -t tmpfs -o mode=755 tmpfs /var/log
mount -n -t proc proc /proc
# Link all that is in folder $1 and not yet in /etc/$2.
link_all() {
    [ -d "$1" ] || return 0
    cd "$1"
    into=/etc/$2
    set --
    for name in * .[!.]*; do
        if [ -e "$into/$name" ]; then
            continue
        elif [ -L "$name" ]; then
            cp -P "$name" "$into/" # its text may be relative
        elif [ -e "$name" ]; then
            set -- "$@" "$PWD/$name"
        fi
    done
    [ $# = 0 ] || ln -s "$@" "$into/"
}
mkdir /etc/pam.d
link_all /run/config/etc/pam.d pam.d
link_all /run/config/etc
link_all /run/machine-etc/pam.d pam.d
link_all /run/machine-etc
cd /
exec "$sshd" "$first" -e -f "$config"
"""


class Sshd:
    """One sshd on a loopback address; started by ``start()`` or by entering it.

    ``alice`` and ``bob`` (and ``root``, where the server has namespaces) can log in with their own
    ``Account.key`` and ``Account.password``.
    """

    def __init__(
        self,
        directory: Path,
        keys: Keys,
        *,
        name: str = "server",
        address: str = "127.0.0.1",
        port: int = 0,
        host_keys: Sequence[str] = ("ed25519",),
        options: Options | None = None,
        extra: str = "",
        pam: str | None = "password",
        hosts: Mapping[str, str] | None = None,
        library: Path | None = None,
        environment: Mapping[str, str] | None = None,
        etc: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a server in ``directory``, which must be empty or absent.

        ``options`` are sshd_config keywords; a sequence gives one line per item, and a keyword
        given here replaces our own setting. ``extra`` is appended verbatim (Match blocks).
        ``pam`` is a stack of ``accounts.PAM_STACKS``, a stack's text, or None for ``UsePAM no``.
        ``hosts`` maps names to addresses that only this server resolves. ``name`` also chooses
        the host keys and is ``$SERVER_NAME`` in every session. Port 0 means any free one.
        ``library`` is preloaded into the daemon (not where ``preload`` makes the accounts), and
        ``environment`` are more variables for it. ``etc`` are texts of more files in /etc, where
        the server has namespaces.
        """
        self.name = name
        self.host = address
        self.port = port
        self._any_port = port == 0
        self._extra = extra
        self._pam = pam
        self._library = library
        self._environment = dict(environment or {})
        self._daemon: subprocess.Popen[bytes] | None = None
        self._pid: int | None = None
        self._lasting: set[int] = set()  # sessions that settle() stopped waiting for
        if not IS_ROOT and os.geteuid() == 0:
            directory = Path(tempfile.mkdtemp(prefix="sshd-", dir=preload.open_folder()))
            directory.chmod(0o755)
        self._directory = directory
        self._config = directory / "config"
        for part in ("config", "home", "run"):
            (directory / part).mkdir(parents=True)
            (directory / part).chmod(0o755)
        self.log_path = directory / "log"
        self.log_path.touch()

        names = ("alice", "bob", "root") if IS_ROOT else ("alice", "bob")
        user_keys = {user: keys.get("ed25519", name=user) for user in names}
        made = make_accounts(names, directory / "home", user_keys)
        self.accounts: dict[str, Account] = dict(zip(names, made, strict=True))
        write_shadow_files(self._config, made, pam=pam, hosts=dict(hosts or {}))
        for file, text in (etc or {}).items():
            path = self._config / "etc" / file
            path.write_text(text)
            path.chmod(0o440)
        (self._config / "authorized_keys").mkdir()
        for account in made:
            self.authorize(account, account.key)

        self.host_keys = {kind: keys.get(kind, name=f"host-{name}") for kind in host_keys}
        for key in self.host_keys.values():
            shutil.copy(key.path, self._config / key.path.name)
        self._options = self._defaults()
        for keyword, value in (options or {}).items():
            clash = [known for known in self._options if known.lower() == keyword.lower()]
            for known in clash:
                del self._options[known]
            self._options[keyword] = value

    def __repr__(self) -> str:
        """Return name and address."""
        return f"<Sshd {self.name} {self.host}:{self.port}>"

    # -- what the server offers ----------------------------------------------------------------

    @property
    def alice(self) -> Account:
        """The account that most tests use."""
        return self.accounts["alice"]

    @property
    def bob(self) -> Account:
        """A second account; without namespaces it has the uid of ``alice``."""
        return self.accounts["bob"]

    @property
    def host_public_keys(self) -> dict[str, bytes]:
        """Host key type as SSH spells it -> public key in wire form."""
        return {key.algorithm: key.blob for key in self.host_keys.values()}

    def known_hosts_line(self, host: str | None = None, port: int | None = None) -> str:
        """Return a known_hosts line per host key, each ending in a newline, for this address."""
        host, port = host or self.host, port or self.port
        where = host if port == 22 else f"[{host}]:{port}"
        lines = [" ".join(key.public_line.split()[:2]) for key in self.host_keys.values()]
        return "".join(f"{where} {line}\n" for line in lines)

    def authorize(self, account: Account, *keys: Key | FidoKey, options: str = "") -> None:
        """Let ``keys`` in from now on; ``options`` are those of an authorized_keys line."""
        path = self._authorized_keys(account)
        with path.open("a") as file:
            for key in keys:
                file.write(f"{options} {key.public_line}\n".lstrip())
        path.chmod(0o644)

    def forget_keys(self, account: Account) -> None:
        """Let no key of ``account`` in any more."""
        self._authorized_keys(account).write_text("")

    def _authorized_keys(self, account: Account) -> Path:
        return self._config / "authorized_keys" / account.name

    # -- running it ----------------------------------------------------------------------------

    def start(self) -> Sshd:
        """Start the daemon; returns when it listens. Raises ``OSError`` with its log."""
        if self._daemon is not None:
            raise RuntimeError(f"{self!r} is running")
        for _ in range(_PORT_ATTEMPTS):
            if self._any_port:
                self.port = free_port(self.host)
            self._write_config()
            try:
                self._launch()
            except WriterEnded as ended:
                self.stop()
                # Somebody took the port between our look and sshd's bind.
                if not (self._any_port and "Address already in use" in str(ended)):
                    raise OSError(f"sshd did not start: {ended}") from None
            except BaseException:
                self.stop()
                raise
            else:
                return self
        raise OSError("found no free port for sshd")

    def stop(self) -> None:
        """End the daemon, every session and whatever they started; idempotent."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        if IS_ROOT:
            # Process 1 of the namespace: its end is the end of all others, and it is reaped
            # (by unshare) only once they are gone.
            kill_all(child.pid for child in children_of(daemon.pid))
            if daemon.poll() is None and self._pid is None:
                daemon.kill()  # still on its way to sshd
        else:
            # It adopts what loses its parent, so it comes last.
            while members := [process.pid for process in self.processes()]:
                kill_all(members)
                wait_gone(members, START_TIMEOUT)
            kill_all([daemon.pid])
        daemon.wait(START_TIMEOUT)
        self._pid = None
        self._lasting.clear()

    def restart(self) -> None:
        """Stop, then start again on the same port, with the same keys and accounts."""
        self.stop()
        fixed, self._any_port = self._any_port, False
        try:
            self.start()
        finally:
            self._any_port = fixed

    def __enter__(self) -> Sshd:
        """Start the server."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop the server."""
        self.stop()

    def kill_sessions(self) -> None:
        """Kill every session and command as a crash would; the daemon goes on listening."""
        pids = [process.pid for process in self.processes()]
        kill_all(pids)
        wait_gone(pids, START_TIMEOUT)

    def processes(self) -> list[Process]:
        """Return what runs on this server now, the daemon excluded: sessions, commands."""
        if self._pid is None:
            return []
        return [process for process in descendants_of(self._pid) if process.state != "Z"]

    # -- what the server saw -------------------------------------------------------------------

    def log_text(self) -> str:
        """Return the log so far."""
        return self.log_path.read_text(errors="replace")

    def wait_for_log(self, pattern: str, *, count: int = 1, timeout: float = 20.0) -> str:
        """Return the log once ``pattern`` (a regular expression) occurs ``count`` times in it.

        sshd logs on its own time: wait for the last thing of interest before counting others.
        """
        compiled = re.compile(pattern, re.MULTILINE)
        return wait_for_text(
            self.log_path,
            lambda text: len(compiled.findall(text)) >= count,
            timeout=timeout,
            writer=self._daemon.pid if self._daemon else None,
        )

    def settle(self) -> None:
        """Let sessions end, end orphaned commands, then forget the log.

        For servers that tests share. Sessions that outlive the wait belong to a fixture of wider
        scope; they are left alone and not waited for again.
        """
        processes = [process for process in self.processes() if process.pid not in self._lasting]
        sessions = [process.pid for process in processes if "sshd" in process.argv[0]]
        self._lasting |= set(wait_gone(sessions, _SESSION_END))
        if processes and not self._lasting:
            kill_all(process.pid for process in self.processes())
        os.truncate(self.log_path, 0)

    def authentications(self) -> list[sshd_log.Authentication]:
        """Return every authentication request that the log tells of, in order."""
        return sshd_log.authentications(self.log_text())

    def forwards(self) -> list[sshd_log.Forward]:
        """Return every direct-tcpip channel that was asked for, in order."""
        return sshd_log.forwards(self.log_text())

    def connections(self) -> int:
        """Return how many TCP connections were accepted."""
        return sshd_log.connections(self.log_text())

    # -- inside --------------------------------------------------------------------------------

    def inside(self, *command: str) -> list[str]:
        """Return the command that runs another where the accounts of this running server are."""
        if IS_ROOT:
            return ["nsenter", f"--mount=/proc/{self._pid}/ns/mnt", "--", *command]
        return preload.with_accounts(self._config / "etc", *command)

    def _preloaded(self) -> dict[str, str]:
        return {} if self._library is None else {"LD_PRELOAD": str(self._library)}

    def _seen(self, path: Path) -> str:
        return f"/run/config/{path.name}" if IS_ROOT else str(path)

    def _defaults(self) -> dict[str, str | int | Sequence[str | int]]:
        options: dict[str, str | int | Sequence[str | int]] = {
            "LogLevel": "DEBUG1",
            "PidFile": "none",
            "StrictModes": "no",
            "UseDNS": "no",
            "PrintMotd": "no",
            "PrintLastLog": "no",
            "PermitRootLogin": "yes",
            "UsePAM": "yes" if self._pam is not None else "no",
            "PasswordAuthentication": "yes",
            "KbdInteractiveAuthentication": "yes" if self._pam is not None else "no",
            "AuthorizedKeysFile": self._seen(self._config / "authorized_keys") + "/%u",
            "HostKey": [self._seen(key.path) for key in self.host_keys.values()],
            "Subsystem": "sftp internal-sftp",
            "SetEnv": f"SERVER_NAME={self.name}",
            # The tests of these limits set them; all others must never meet them.
            "MaxStartups": "1000",
        }
        if openssh_version() >= (9, 8):
            options["PerSourcePenalties"] = "no"
        if not IS_ROOT:
            options["HostKey"] = [
                str(self._config / key.path.name) for key in self.host_keys.values()
            ]
        return options

    def _write_config(self) -> None:
        address = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"ListenAddress {address}:{self.port}"]
        for keyword, value in self._options.items():
            values = [value] if isinstance(value, str | int) else value
            lines += [f"{keyword} {item}" for item in values]
        (self._config / "sshd_config").write_text("\n".join([*lines, self._extra, ""]))

    def _launch(self) -> None:
        config = self._seen(self._config / "sshd_config")
        # However the tests end, their servers end with them.
        command = ["setpriv", "--pdeathsig", "KILL", "--"]
        if not IS_ROOT:
            command += preload.with_accounts(
                self._config / "etc", _sshd_path(), _foreground(), "-e", "-f", config
            )
        else:
            # fmt: off
            command += [
                "unshare", "--mount", "--pid", "--fork", "--kill-child", "--",
                "sh", "-c", _ENTER, "enter", str(self._directory), config, _sshd_path(),
                _foreground(),
            ]
            # fmt: on
        self.log_path.write_text("")
        with self.log_path.open("ab") as log:
            self._daemon = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean_environment(**self._preloaded(), **self._environment),
                start_new_session=True,  # Ctrl-C is for pytest, which then stops us in order
            )
        wait_for_text(
            self.log_path,
            re.compile(r"^Server listening on ", re.MULTILINE).search,
            timeout=START_TIMEOUT,
            writer=self._daemon.pid,
        )
        self._pid = children_of(self._daemon.pid)[0].pid if IS_ROOT else self._daemon.pid


@cache
def openssh_version() -> tuple[int, int]:
    """Return major and minor version of the OpenSSH on this machine."""
    # The client tells in every release; `sshd -V` is an error in old ones.
    version = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr
    found = re.match(r"OpenSSH_(\d+)\.(\d+)", version)
    if found is None:
        raise OSError(f"no OpenSSH: {version!r}")
    return int(found[1]), int(found[2])


def _foreground() -> str:
    """Return the argument that keeps sshd in the foreground, and each connection cheap.

    Up to OpenSSH 9.7 it also saves that sshd executes itself again for each connection, which is a
    third of what a login costs; later ones execute `sshd-session` and know no such argument.
    """
    return "-rD" if openssh_version() < (9, 8) else "-D"


@cache
def _sshd_path() -> str:
    # sshd starts itself again for each connection and wants to know its absolute path.
    path = shutil.which("sshd", path=clean_environment()["PATH"])
    if path is None:
        raise FileNotFoundError("no sshd: install openssh-server")
    return path
