"""An OpenSSH that has ML-KEM: this machine's, or that of another system in a folder.

The variable ``HUSSH_OTHER_ROOT`` names the folder, such as a chroot of Debian 13 (CONTRIBUTING). It
is used in a mount namespace of the test's own, which nothing outlives, and only read. The account
there is root.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from .accounts import IS_ROOT
from .keys import Keys
from .listeners import free_port
from .processes import clean_environment
from .sshd import START_TIMEOUT, openssh_version
from .watch import wait_for_text

__all__ = ["OtherOpenssh", "other_openssh"]

ROOT = "HUSSH_OTHER_ROOT"
#: The first OpenSSH that has it, and the first that prefers it.
HAS_ML_KEM, PREFERS_ML_KEM = (9, 9), (10, 0)

# $1: the root of the other system, $2: the folder with the server's files, $3: the port.
_START = r"""
set -eu
mount --make-rprivate /
mount --bind "$2" "$1/mnt"
mount --bind /dev "$1/dev"
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
mkdir -p "$1/run/sshd"
exec chroot "$1" /usr/sbin/sshd -D -e -f /mnt/config -p "$3"
"""
_CONFIG = """
ListenAddress 127.0.0.1
HostKey /mnt/host
AuthorizedKeysFile /mnt/authorized
StrictModes no
UsePAM no
LogLevel DEBUG1
PidFile none
RekeyLimit 150K
"""


class OtherOpenssh(NamedTuple):
    """Where it listens, who may log in with which key, and what it logs."""

    port: int
    user: str
    key: Path
    log: Path


@contextlib.contextmanager
def other_openssh(folder: Path, keys: Keys) -> Iterator[OtherOpenssh]:
    """Start it, on 127.0.0.1; skip the test where there is none."""
    root = os.environ.get(ROOT)
    if root is None:
        pytest.skip(f"OpenSSH {openssh_version()} has no ML-KEM, and {ROOT} names no other system")
    if not IS_ROOT:
        pytest.skip(f"{ROOT} needs root and namespaces")
    key, host = keys.get(name="alice"), keys.get(name="host-other")
    folder.mkdir()
    (folder / "config").write_text(_CONFIG)
    (folder / "host").write_text(host.text)
    (folder / "host").chmod(0o600)
    (folder / "authorized").write_text(f"{key.public_line}\n")
    log, port = folder / "log", free_port()
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-c", _START]
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [*command, "start", root, str(folder), str(port)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=clean_environment(),
            start_new_session=True,
        ) as daemon,
    ):
        try:
            listens = re.compile(r"^Server listening on ", re.MULTILINE).search
            wait_for_text(log, listens, timeout=START_TIMEOUT, writer=daemon.pid)
            yield OtherOpenssh(port, "root", key.path, log)
        finally:
            daemon.kill()  # and with process 1 of its namespace all that it started
