"""A realm of Kerberos for one test: a KDC on loopback, a principal for alice, tickets.

For tests of ``gssapi=``.  Needs no root.  All files are in the realm's own folder, and no program
is started but by full settings of its own: the machine's Kerberos is never asked.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hussh._policy.kerberos import has_gssapi

from .listeners import free_port
from .processes import clean_environment
from .watch import WriterEnded, wait_for_text

__all__ = ["NO_GSSAPI", "OBSTACLE", "REALM", "Realm", "gssapi_of_ssh"]

REALM = "HUSSH.TEST"
_PROGRAMS = ("krb5kdc", "kdb5_util", "kadmin.local", "kinit")
_PATH = clean_environment()["PATH"]
_TIMEOUT = 20.0


NO_GSSAPI = "needs an OpenSSH that was built with GSSAPI"


def gssapi_of_ssh() -> bool:
    """Tell whether this OpenSSH has GSSAPI: not every system builds it so."""
    command = ["ssh", "-G", "-F", "none", "-oGSSAPIAuthentication=yes", "box"]
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    return "gssapiauthentication yes" in done.stdout


def _find_obstacle() -> str:
    missing = [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]
    if missing:
        return f"needs a KDC (krb5-kdc, krb5-admin-server): {', '.join(missing)} missing"
    if not gssapi_of_ssh():
        return NO_GSSAPI
    return "" if has_gssapi() else "needs the package gssapi (and to build it, libkrb5-dev)"


#: Why there can be no realm; empty where there can.
OBSTACLE = _find_obstacle()


class Realm:
    """A realm whose KDC runs while it is entered; ``alice`` is a user of it."""

    def __init__(self, folder: Path, *hosts: str) -> None:
        """Make the database, with a key for ``host/NAME`` of each of these names."""
        folder.mkdir(mode=0o755)
        self.folder = folder
        self.keytab = folder / "keytab"
        self.cache = folder / "tickets"
        self.log = folder / "kdc.log"
        self.log.touch()
        self._users = folder / "users.keytab"
        self._daemon: subprocess.Popen[bytes] | None = None
        self.port = 0
        self._take_port()
        self._run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        queries = ["addprinc -randkey alice", f"ktadd -k {self._users} alice"]
        for host in hosts:
            queries += [f"addprinc -randkey host/{host}", f"ktadd -k {self.keytab} host/{host}"]
        self._run("kadmin.local", "-r", REALM, input="\n".join([*queries, ""]))
        self.keytab.chmod(0o644)

    def _take_port(self) -> None:
        self.port = free_port()
        folder = self.folder
        (folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = \"\"\n kdc_tcp_listen = 127.0.0.1:{self.port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {folder}/principal\n"
            f"  key_stash_file = {folder}/stash\n  acl_file = {folder}/acl\n"
            f"  master_key_type = aes256-cts\n }}\n"
            f"[logging]\n kdc = FILE:{self.log}\n"
        )  # fmt: skip
        self.configure()

    def configure(self, *, port: int = 0, realm: str = REALM, extra: str = "") -> None:
        """Write krb5.conf, with a KDC at ``port`` and the realm as the usual one."""
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {realm}\n udp_preference_limit = 1\n"
            f" dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port or self.port}\n }}\n{extra}"
        )  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make Kerberos use this realm, on both sides."""
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5CCNAME": f"FILE:{self.cache}",
            "KRB5_KTNAME": f"FILE:{self.keytab}",
            "KRB5RCACHENAME": "none:",  # /var/tmp otherwise
        }

    def __enter__(self) -> Realm:
        """Start the KDC; it answers."""
        while True:
            try:
                self._start()
            except WriterEnded:  # somebody took the port
                self.stop()
                if "in use" not in self.log.read_text():
                    raise
                self.log.write_text("")
                self._take_port()
            else:
                return self

    def _start(self) -> None:
        self._daemon = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "krb5kdc", "-n", "-r", REALM],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=clean_environment(**self.environment),
            start_new_session=True,
        )
        try:
            wait_for_text(
                self.log,
                lambda text: "commencing operation" in text,
                timeout=_TIMEOUT,
                writer=self._daemon.pid,
            )
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        """End the KDC."""
        self.stop()

    def stop(self) -> None:
        """End the KDC now; idempotent."""
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.kill()
            daemon.wait(_TIMEOUT)

    def kinit(self, *arguments: str) -> None:
        """Get alice a ticket; ``arguments`` are those of kinit."""
        self._run("kinit", "-k", "-t", str(self._users), *arguments, f"alice@{REALM}")

    def change_key(self, host: str) -> None:
        """Give a host another key than that of its keytab."""
        self._run("kadmin.local", "-r", REALM, input=f"cpw -randkey host/{host}\n")

    def forget_tickets(self) -> None:
        """Have no ticket any more."""
        self.cache.unlink(missing_ok=True)

    def _run(self, *command: str, input: str = "") -> None:
        done = subprocess.run(
            command,
            input=input,
            capture_output=True,
            text=True,
            env=clean_environment(**self.environment),
            timeout=_TIMEOUT,
        )
        if done.returncode != 0:
            raise OSError(f"{command[0]}: {done.stderr.strip()}")
