"""Servers that are programs of the machine: OpenSSH, dropbear, tinyssh, lshd, ProFTPD.

`catalogue` lists them. Those that look accounts up in /etc/passwd run in the mount namespace of one
of the test suite's sshds, which has accounts of its own, so the machine's files stay as they are.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from tests.support.accounts import IS_ROOT, NEEDS_ROOT
from tests.support.keys import Keys
from tests.support.sshd import Sshd

from ..peer import NotHere, Peer
from .server import (
    PASSWORD,
    START_TIMEOUT,
    USER,
    Server,
    find_program,
    make_key,
    package_version,
    process,
)

_NO_COMMANDS = ("a command", "20 commands at once", "5 MiB of stdin")


class OpenSSH(Server):
    """The machine's own sshd, which re-keys after each MiB."""

    name = "OpenSSH"

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Start it."""
        with _accounts(folder, {"RekeyLimit": "1M"}) as sshd:
            yield _peer(sshd, sshd.port, package_version("openssh-server"))


class Dropbear(Server):
    """dropbear, with OpenSSH's sftp-server where Debian puts it."""

    name = "dropbear"
    faults: ClassVar = {
        "20 commands at once": 'its process ends with "Failed assertion (common-channel.c:705): '
        "`!channel->sent_close'\" when several commands end at the same moment; 20 commands at "
        "once through one connection of OpenSSH's client (ControlMaster) end it in the same way",
    }

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Start it."""
        path = find_program("dropbear", "dropbear-bin")
        with _accounts(folder) as sshd:
            key = sshd.alice.files / "dropbear-key"
            make = [find_program("dropbearkey", "dropbear-bin"), "-t", "ed25519", "-f", str(key)]
            subprocess.run(make, check=True, capture_output=True)
            port = _free_port()
            command = [path, "-F", "-E", "-p", f"127.0.0.1:{port}"]
            command += ["-r", sshd.alice.path("dropbear-key")]
            with _listening(_inside(sshd, command), folder / "dropbear.log", port):
                yield _peer(sshd, port, package_version("dropbear-bin"))


class TinySSH(Server):
    """tinysshd, started for each connection as inetd would."""

    name = "tinyssh"
    faults: ClassVar = {
        "re-keying": "it loses what follows a key exchange that the client asks for; OpenSSH's "
        "client with RekeyLimit=64K stops for ever at its second one, too",
    }
    none: ClassVar = {
        "password login": "it has keys only",
        "wrong password": "it has keys only",
        "as a bastion": "it forwards nothing",
        "20 commands at once": "it has one session for each connection, and refuses a second one "
        "(also to OpenSSH's client with ControlMaster)",
    }

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Start it, with OpenSSH's sftp-server as its subsystem."""
        path = find_program("tinysshd", "tinysshd")
        socat = find_program("socat", "socat")
        with _accounts(folder) as sshd:
            keys = sshd.alice.files / "tinyssh-keys"
            subprocess.run([find_program("tinysshd-makekey", "tinysshd"), "-q", keys], check=True)
            port = _free_port()
            server = f"{path} -x sftp={_sftp_server()} {sshd.alice.path('tinyssh-keys')}"
            listen = f"TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr,fork,backlog=128"
            command = _inside(sshd, [socat, listen, f"EXEC:{server},nofork"])
            with _listening(command, folder / "tinyssh.log", port):
                yield _peer(sshd, port, package_version("tinysshd"), password=False)


class Lsh(Server):
    """GNU lsh's lshd, with OpenSSH's sftp-server as its subsystem."""

    name = "lshd"
    none: ClassVar = {
        "key login": "it takes RSA and DSA keys with SHA-1 only, which hussh does not sign with"
    }

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Make its keys with its own tools, and start it."""
        path = find_program("lshd", "lsh-server")
        with _accounts(folder) as sshd:
            home = sshd.alice.files
            environment = {
                **os.environ,
                "HOME": str(folder),
                "LSH_YARROW_SEED_FILE": f"{home}/seed",
            }

            def tool(*command: str, data: bytes = b"", package: str = "lsh-utils") -> bytes:
                program = [find_program(command[0], package), *command[1:]]
                done = subprocess.run(
                    program, check=True, input=data, capture_output=True, env=environment
                )
                return done.stdout

            tool("lsh-make-seed", "--sloppy", "-q", "-o", f"{home}/seed")
            made = tool("lsh-keygen", "--server", "-a", "rsa", "-l", "2048")
            tool("lsh-writekey", "--server", "-o", f"{home}/lsh-key", data=made)
            key = Keys(folder / "keys").get("rsa", name="alice")
            public = tool("ssh-conv", data=f"{key.public_line}\n".encode())
            digest = tool("sexp-conv", "--once", "--hash=sha1", data=public, package="nettle-bin")
            allowed = home / ".lsh" / "authorized_keys_sha1"
            allowed.mkdir(parents=True)
            line = tool("sexp-conv", "-s", "canonical", "--once", data=public, package="nettle-bin")
            (allowed / digest.decode().strip()).write_bytes(line)
            for item in (allowed.parent, allowed, *allowed.iterdir()):
                os.chown(item, sshd.alice.uid, sshd.alice.gid)
            port = _free_port()
            command = ["env", f"LSH_YARROW_SEED_FILE={sshd.alice.path('seed')}", path]
            command += ["-p", str(port), "--interface=127.0.0.1", "--no-syslog"]
            command += ["-h", sshd.alice.path("lsh-key"), f"--subsystems=sftp={_sftp_server()}"]
            command += ["-c", "aes256-ctr"]
            with _listening(_inside(sshd, command), folder / "lshd.log", port):
                peer = _peer(sshd, port, package_version("lsh-server"))
                yield replace(peer, key=key.path, keys=False, algorithms=self.algorithms)

    #: What it has is older than what hussh offers unasked.
    algorithms: ClassVar[dict[str, list[str]]] = {
        "key_exchange": ["diffie-hellman-group14-sha1"],
        "host_key_algorithms": ["ssh-rsa"],
        "ciphers": ["aes256-ctr"],
        "macs": ["hmac-sha1"],
    }


class ProFTPD(Server):
    """ProFTPD's mod_sftp, with an account file of its own."""

    name = "ProFTPD mod_sftp"
    none: ClassVar = {
        **dict.fromkeys(_NO_COMMANDS, "it has files only"),
        "as a bastion": "it forwards nothing",
    }
    faults: ClassVar = {
        "symbolic links": "LSTAT answers for the file that the link points at (OpenSSH's sftp "
        "shows the same by `ls -l` of the link); on disk and in listings the link is right",
    }

    @contextmanager
    def run(self, folder: Path) -> Iterator[Peer]:
        """Write its configuration and start it."""
        path = find_program("proftpd", "proftpd-core")
        if os.geteuid() != 0:
            raise NotHere("it starts as root only")
        key = make_key(folder / "key")
        host_key = make_key(folder / "host_key")
        done = subprocess.run(
            ["ssh-keygen", "-e", "-f", key.with_suffix(".pub")],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        (folder / "authorized").write_text(done.stdout)
        home = folder / "home"
        home.mkdir()
        uid = 61_234
        os.chown(home, uid, uid)
        hashed = subprocess.run(
            ["openssl", "passwd", "-6", PASSWORD], check=True, capture_output=True, text=True
        ).stdout.strip()
        (folder / "passwd").write_text(f"{USER}:{hashed}:{uid}:{uid}::{home}:/bin/sh\n")
        (folder / "group").write_text(f"{USER}:x:{uid}:\n")
        for name in ("passwd", "group"):
            (folder / name).chmod(0o600)
        port = _free_port()
        (folder / "proftpd.conf").write_text(
            _PROFTPD.format(folder=folder, port=port, key=host_key)
        )
        command = [path, "-n", "-c", str(folder / "proftpd.conf")]
        with _listening(command, folder / "proftpd.log", port):
            version = package_version("proftpd-core")
            yield Peer("127.0.0.1", port, USER, PASSWORD, key, str(home), home, version)


_PROFTPD = """
ModulePath /usr/lib/proftpd
LoadModule mod_sftp.c
ServerName zoo
ServerType standalone
DefaultAddress 127.0.0.1
Port {port}
User nobody
Group nogroup
UseReverseDNS off
MaxInstances 200
PidFile {folder}/pid
ScoreboardFile {folder}/scoreboard
SystemLog {folder}/system.log
WtmpLog off
AuthOrder mod_auth_file.c
AuthUserFile {folder}/passwd
AuthGroupFile {folder}/group
RequireValidShell off
SFTPEngine on
SFTPLog {folder}/sftp.log
SFTPHostKey {key}
SFTPAuthMethods publickey password
SFTPAuthorizedUserKeys file:{folder}/authorized
SFTPRekey required 3600 1
"""


@contextmanager
def _accounts(folder: Path, options: dict[str, str | int] | None = None) -> Iterator[Sshd]:
    if not IS_ROOT:
        raise NotHere(NEEDS_ROOT)
    (folder / "keys").mkdir()
    settings = {"MaxSessions": 100, **(options or {})}
    with Sshd(folder / "sshd", Keys(folder / "keys"), options=settings) as sshd:
        alice = sshd.alice
        ssh_folder = alice.files / ".ssh"
        ssh_folder.mkdir(mode=0o700)
        authorized = ssh_folder / "authorized_keys"
        authorized.write_text(alice.key.public_line + "\n")
        authorized.chmod(0o600)
        for path in (ssh_folder, authorized):
            os.chown(path, alice.uid, alice.gid)
        yield sshd


def _peer(sshd: Sshd, port: int, version: str, *, password: bool = True) -> Peer:
    alice = sshd.alice
    word = alice.password if password else None
    return Peer(
        "127.0.0.1", port, alice.name, word, alice.key.path, alice.home, alice.files, version
    )


def _inside(sshd: Sshd, command: Sequence[str]) -> list[str]:
    return ["nsenter", f"--mount=/proc/{sshd._pid}/ns/mnt", "--", *command]


@contextmanager
def _listening(command: Sequence[str], log: Path, port: int) -> Iterator[None]:
    with process(command, log) as child:
        # Its own words differ from server to server; that the port answers is the same for all.
        while True:
            if child.poll() is not None:
                raise OSError(f"{command}: {log.read_text()[-500:]}")
            try:
                socket.create_connection(("127.0.0.1", port), START_TIMEOUT).close()
            except ConnectionRefusedError:
                continue
            break
        yield


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def _sftp_server() -> str:
    for path in ("/usr/lib/openssh/sftp-server", "/usr/lib/sftp-server"):
        if os.access(path, os.X_OK):
            return path
    raise NotHere("sftp-server is not installed (Debian package openssh-sftp-server)")
