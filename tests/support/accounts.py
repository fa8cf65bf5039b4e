"""Accounts that exist for one test server only: passwd, shadow, group, PAM stacks, homes.

For ``tests/support/sshd.py``; tests see ``Account`` objects. Writes generated files into the
server's own directory; the server shadows the machine's files with them in its mount namespace.
Without root there are no accounts to make: every account is then the user who runs the tests, and
passwords do not exist.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import grp
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from .keys import Key


def _is_able_root() -> bool:
    # Root of a container often lacks the right to make namespaces.
    command = ["unshare", "--mount", "--pid", "--fork", "--", "mount", "-t", "tmpfs", "x", "/run"]
    return os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0


#: Whether we are root, and root may do what the servers need: mount, in namespaces of their own.
IS_ROOT = _is_able_root()
NEEDS_ROOT = (
    "needs root that may make namespaces: accounts with passwords live in one of the server's own"
)
SERVER_HOME = "/run/home"  # inside the server's mount namespace
OTP_DIRECTORY = "/run/config/otp"
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
        "auth required pam_exec.so quiet expose_authtok /run/config/check-otp\n"
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
_CHECK_OTP = f'#!/bin/sh\nexec test "$(tr -d \'\\0\')" = "$(cat {OTP_DIRECTORY}/"$PAM_USER")"\n'


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
        """The login password; skips the test where accounts cannot be made."""
        if not IS_ROOT:
            pytest.skip(NEEDS_ROOT)
        return self._password

    @property
    def otp(self) -> str:
        """The second answer that the stack ``password+otp`` asks for."""
        if not IS_ROOT:
            pytest.skip(NEEDS_ROOT)
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
        yield folder
        shutil.rmtree(folder)


def make_accounts(names: tuple[str, ...], homes: Path, key_of: dict[str, Key]) -> list[Account]:
    """Make one account per name with a fresh password and an empty home in ``homes``."""
    me = pwd.getpwuid(os.getuid())
    accounts = []
    for number, name in enumerate(names):
        files = homes / name
        files.mkdir(mode=0o700)
        uid, gid = (me.pw_uid, me.pw_gid)
        if IS_ROOT and name != "root":
            uid = gid = _FIRST_UID + number
            os.chown(files, uid, gid)
        accounts.append(
            Account(
                name=name if IS_ROOT else me.pw_name,
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
    shadow = [f"{e.pw_name}:*:19000:0:99999:7:::" for e in system]
    for account in accounts:
        passwd.append(f"{account.name}:x:{account.uid}:{account.gid}::{account.home}:/bin/sh")
        shadow.append(f"{account.name}:{_crypt(account.password)}:19000:0:99999:7:::")
        if account.gid >= 1000:
            group.append(f"{account.name}:x:{account.gid}:")
    names = ["127.0.0.1 localhost", "::1 localhost"]
    names += [f"{address} {name}" for name, address in hosts.items()]
    stack = PAM_STACKS.get(pam or "deny", pam or "")
    texts = {
        "passwd": passwd,
        "group": group,
        "shadow": shadow,
        "hosts": names,
        # No other source: a lookup must neither leave the machine nor find its real users.
        "nsswitch.conf": [f"{what}: files" for what in ("passwd", "group", "shadow", "hosts")],
        "pam.d/sshd": [stack.rstrip("\n"), _PAM_REST.rstrip("\n")],
    }
    (directory / "etc").mkdir()
    for name, lines in texts.items():
        file = directory / "etc" / name
        file.parent.mkdir(exist_ok=True)
        file.parent.chmod(0o755)
        file.write_text("\n".join(lines) + "\n")
        file.chmod(0o640 if name == "shadow" else 0o644)
    otp = directory / "otp"
    otp.mkdir(mode=0o700)
    for account in accounts:
        (otp / account.name).write_text(account.otp)
    check = directory / "check-otp"
    check.write_text(_CHECK_OTP)
    check.chmod(0o755)


def _crypt(password: str) -> str:
    # Python's own crypt module is gone in 3.13; the library is the one that PAM itself uses.
    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    salt = f"$6$rounds=1000${secrets.token_hex(8)}$"
    hashed: bytes | None = library.crypt(password.encode(), salt.encode())
    if hashed is None or not hashed.startswith(b"$6$"):
        raise OSError("crypt(3) does not know SHA-512")
    return hashed.decode()
