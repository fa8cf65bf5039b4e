"""Proxy commands for the tests of this folder, and a census of what they started."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from tests.support.leaks import MARK
from tests.support.processes import children_of, wait_gone
from tests.support.sshd import Sshd

#: A relay that is there wherever Python is; options of ``relay.py`` may follow.
RELAY = [sys.executable, "-I", "-S", str(Path(__file__).with_name("relay.py")), "%h", "%p"]

#: The quickest one, for tests in which it does not matter.
NC: str | list[str] = "nc %h %p" if shutil.which("nc") else RELAY

_QUICK = ["nc", "%h", "%p"] if shutil.which("nc") else RELAY

#: Three processes in one session, of which the middle one is a grandchild.
PIPELINE = ["/bin/sh", "-c", 'cat | "$@" | cat', "sh", *_QUICK]


def needs(program: str) -> pytest.MarkDecorator:
    """Skip where a program is not installed."""
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"needs the program {program}")


def connect(server: Sshd, command: str | list[str] | None = None, **options: Any) -> Connection:
    """Log in as alice, by default with her key, through a proxy command if one is given."""
    options = {
        "username": server.alice.name,
        "private_key": str(server.alice.key.path),
        "timeout": 30_000,
        "host": server.host,
        **options,
    }
    return Connection(port=server.port, proxy_command=command, **options)


def started() -> set[int]:
    """Return every process that this test started and that is there now, zombies of ours too.

    Servers do not count: they do not inherit the mark.
    """
    wanted = f"{MARK}={os.environ[MARK]}".encode()
    found = {process.pid for process in children_of(os.getpid()) if process.state == "Z"}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    found.add(int(name))
            except OSError:
                continue
    return found


def left_over() -> set[int]:
    """Return what is still there of `started` once those that were killed had a moment to die."""
    wait_gone(started(), 5.0)
    return started()


def descriptors() -> dict[int, str]:
    """Return what each descriptor of this process refers to."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


def run_script(text: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program of its own, with its own interpreter and signals."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", text, *(str(argument) for argument in arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=root,
        **options,
    )
