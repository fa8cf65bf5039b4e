"""Accounts that exist for one test server only: passwd, shadow, group, PAM stacks, homes.

For ``tests/support/sshd.py``; tests see ``Account`` objects. Writes generated files into the
server's own directory. With namespaces the server sees them in place of the machine's; without,
``preload.py`` shows them to the server. Root's servers have a uid for each account; else all
accounts have the uid of the user who runs the tests.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import grp
import os
import pwd
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .keys import Key


def _find_obstacle() -> str:
    # Root of a container often lacks the right to make namespaces.
    if os.geteuid() != 0:
        return "not root"
    command = ["unshare", "--mount", "--pid", "--fork", "--", "mount", "-t", "tmpfs", "x", "/run"]
    done = subprocess.run(command, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or "unshare failed"


#: Why servers get no namespaces of their own; empty where they do.
OBSTACLE = _find_obstacle()
_NO_ROOT = os.geteuid() != 0
#: Whether we are root, and root may do what the servers need: mount, in namespaces of their own.
IS_ROOT = not OBSTACLE
NEEDS_ROOT = f"needs namespaces of the server's own: {OBSTACLE}"
SERVER_HOME = "/run/home"  # inside the server's mount namespace
SERVER_CONFIG = "/run/config"
_FIRST_UID = 61_100

# What /etc/pam.d/sshd says, by name. `nodelay`: a wrong password costs no two seconds.
PAM_STACKS = {
    # One prompt.
    "password": "auth required pam_unix.so nodelay\n",
    # Two rounds, the password and then Account.otp. pam_unix would reuse the first answer;
    # pam_ftp is the module of every installation that always asks, and its verdict is ignored.
    "password+otp": (
        "auth requisite pam_unix.so nodelay\n"
        "auth [default=ignore] pam_ftp.so\n"
        f"auth required pam_exec.so quiet expose_authtok {SERVER_CONFIG}/check-otp\n"
    ),
    # A text without a prompt, then one prompt.
    "text+password": (
        "auth optional pam_echo.so Hello %u, this is a test server\n"
        "auth required pam_unix.so nodelay\n"
    ),
    "deny": "auth required pam_deny.so\n",
}
_PAM_REST = (
    "account required pam_unix.so\nsession required pam_permit.so\npassword required pam_deny.so\n"
)
# pam_unix has a helper read the shadow file, on Debian 13 for root, too, and that one reads the
# machine's. These do the same for a server that sees its accounts by preload.py.
_PAM_BY_PRELOAD = (
    ("auth", f"pam_exec.so quiet expose_authtok {SERVER_CONFIG}/check-password"),
    ("account", "pam_permit.so"),
)
_CHECK = """#!/bin/sh
# Compare the answer with the account's in the folder $0.answers.
IFS= read -r expected <"$0.answers/$PAM_USER" && exec test "$(tr -d '\\0')" = "$expected"
"""


@dataclass(frozen=True)
class Account:
    """One login of one server. ``key`` is authorised there from the start."""

    name: str
    uid: int
    gid: int
    key: Key
    home: str  # as the server's processes see it
    files: Path  # the same directory as the tests see it
    _password: str
    _otp: str

    def __repr__(self) -> str:
        """Return a form without secrets."""
        return f"Account({self.name!r})"

    @property
    def password(self) -> str:
        """The login password."""
        return self._password

    @property
    def otp(self) -> str:
        """The second answer that the stack ``password+otp`` asks for."""
        return self._otp

    def path(self, name: str) -> str:
        """Return where the server's processes find what the tests see as ``files / name``."""
        return f"{self.home}/{name}"

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """Make an empty folder in its home, owned by it, and delete it afterwards."""
        folder = self.files / name
        folder.mkdir()
        os.chown(folder, self.uid, self.gid)
        try:
            yield folder
        finally:
            self._remove(folder)

    def _remove(self, folder: Path) -> None:
        for closed, names, _ in os.walk(folder):
            for name in names:
                if not (Path(closed) / name).is_symlink():
                    (Path(closed) / name).chmod(0o700)
        shutil.rmtree(folder)


def make_accounts(names: tuple[str, ...], homes: Path, key_of: dict[str, Key]) -> list[Account]:
    """Make one account per name with a fresh password and an empty home in ``homes``."""
    accounts = []
    for number, name in enumerate(names):
        files = homes / name
        files.mkdir(mode=0o700)
        uid, gid = os.getuid(), os.getgid()
        if not _NO_ROOT and name != "root":
            uid = gid = _FIRST_UID + number
            os.chown(files, uid, gid)
        accounts.append(
            Account(
                name=name,
                uid=uid,
                gid=gid,
                key=key_of[name],
                home=f"{SERVER_HOME}/{name}" if IS_ROOT else str(files),
                files=files,
                _password=f"pw-{name}-{secrets.token_hex(8)}",
                _otp=f"otp-{name}-{secrets.token_hex(4)}",
            )
        )
    return accounts


def write_shadow_files(
    directory: Path, accounts: list[Account], *, pam: str | None, hosts: dict[str, str]
) -> None:
    """Write the files that the server sees in place of the machine's, to ``directory / "etc"``.

    ``pam`` names one of ``PAM_STACKS`` or is a stack itself (text with newlines). ``hosts`` maps
    names to addresses that only this server can resolve.
    """
    system = [entry for entry in pwd.getpwall() if entry.pw_name in ("sshd", "nobody")]
    passwd = [
        f"{e.pw_name}:x:{e.pw_uid}:{e.pw_gid}:::/usr/sbin/nologin" for e in system
    ]  # sshd: its unprivileged half
    group = [f"{e.gr_name}:x:{e.gr_gid}:" for e in grp.getgrall() if e.gr_gid < 1000]
    if _NO_ROOT:
        # sshd would give terminals to this group, as only root can.
        group = [line for line in group if not line.startswith("tty:")]
    shadow = [f"{e.pw_name}:*:19000:0:99999:7:::" for e in system]
    for account in accounts:
        passwd.append(f"{account.name}:x:{account.uid}:{account.gid}::{account.home}:/bin/sh")
        shadow.append(f"{account.name}:{_crypt(account.password)}:19000:0:99999:7:::")
        if account.gid >= 1000:
            group.append(f"{account.name}:x:{account.gid}:")
    names = ["127.0.0.1 localhost", "::1 localhost"]
    names += [f"{address} {name}" for name, address in hosts.items()]
    stack = PAM_STACKS.get(pam or "deny", pam or "").rstrip("\n") + "\n" + _PAM_REST
    if not IS_ROOT:
        for kind, module in _PAM_BY_PRELOAD:
            stack = re.sub(rf"^({kind}\s+\S+\s+)pam_unix\.so.*$", rf"\1{module}", stack, flags=re.M)
        # pam_exec has no opinion of setcred(3), and one module must have one.
        stack = stack.replace(SERVER_CONFIG, str(directory)) + "auth optional pam_permit.so\n"
    texts = {
        "passwd": passwd,
        "group": group,
        "shadow": shadow,
        "hosts": names,
        # No other source: a lookup must neither leave the machine nor find its real users.
        "nsswitch.conf": [f"{what}: files" for what in ("passwd", "group", "shadow", "hosts")],
        "pam.d/sshd": [stack.rstrip("\n")],
    }
    (directory / "etc").mkdir()
    for name, lines in texts.items():
        file = directory / "etc" / name
        file.parent.mkdir(exist_ok=True)
        file.parent.chmod(0o755)
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o640 if name == "shadow" else 0o644)
    (directory / "etc/empty").mkdir(mode=0o755)
    _write_check(
        directory / "check-password", {account.name: account.password for account in accounts}
    )
    _write_check(directory / "check-otp", {account.name: account.otp for account in accounts})


def _write_check(program: Path, answers: dict[str, str]) -> None:
    program.write_text(_CHECK)
    program.chmod(0o755)
    folder = program.with_name(f"{program.name}.answers")
    folder.mkdir(mode=0o700)
    for name, answer in answers.items():
        (folder / name).write_text(f"{answer}\n")


def _crypt(password: str) -> str:
    # Python's own crypt module is gone in 3.13; the library is the one that PAM itself uses.
    # PyDLL keeps the GIL: crypt has one buffer for all threads.
    library = ctypes.PyDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = f"$6$rounds=1000${secrets.token_hex(8)}$"
    hashed: bytes | None = library.crypt(password.encode(), salt.encode())
    if hashed is None or not hashed.startswith(b"$6$"):
        raise OSError("crypt(3) does not know SHA-512")
    return hashed.decode()
