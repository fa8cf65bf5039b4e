"""Connections in a mount namespace where /etc/ssh, and the home in /etc/passwd, are the test's.

For tests of what is read from there by default: `run_inside`.  Works for root, and for users who
may make user namespaces.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

__all__ = ["run_inside"]

TOP = Path(__file__).resolve().parents[2]
#: Runs in the namespace.  Cases come on stdin: which files of /etc/ssh there are, and how to
#: connect.  It prints what became of each, in both APIs.
_INSIDE = """
import anyio, json, os, sys
from hussh import Connection, HostKeyError
from hussh.aio import AsyncConnection

async def by_task(options):
    async with AsyncConnection(**options) as connection:
        return (await connection.execute("echo in")).stdout

def by_thread(options):
    with Connection(**options) as connection:
        return connection.execute("echo in").stdout

def outcome(call):
    try:
        return call()
    except HostKeyError as error:
        return f"{error.reason} {error.hop_index}"

for case in json.load(sys.stdin):
    for name in os.listdir("/etc/ssh"):
        os.unlink(f"/etc/ssh/{name}")
    for name, text in case["files"].items():
        with open(f"/etc/ssh/{name}", "w") as file:
            file.write(text)
    options = case["options"]
    print(json.dumps([outcome(lambda: by_thread(options)),
                      outcome(lambda: anyio.run(by_task, options))]))
"""
#: $1 is a passwd file; what follows is run as root of the namespace.
_MOUNT = """
mount -n -t tmpfs own /etc/ssh && mount -n --bind "$1" /etc/passwd && shift && exec "$@"
"""


@cache
def _unshare() -> tuple[str, ...]:
    """Return the command that runs a shell script in a namespace; none if there is no way."""
    for more in ((), ("--user", "--map-root-user")):
        command = ("unshare", *more, "--mount", "--", "sh", "-c")
        tried = [*command, _MOUNT, "enter", "/etc/passwd", "true"]
        if subprocess.run(tried, capture_output=True).returncode == 0:
            return command
    return ()


def run_inside(cases: list[dict[str, Any]], home: Path) -> list[list[str]]:
    """Return the outcome of each case, in both APIs; or skip the test.

    Args:
        cases: each has ``files`` (name in /etc/ssh -> text) and ``options`` of a connection.
        home: the home folder, for OpenSSH's programs, too.
    """
    if not _unshare():
        pytest.skip("needs a mount namespace")
    passwd = home.parent / "passwd"
    passwd.write_text(f"root:x:0:0::{home}:/bin/sh\n")
    done = subprocess.run(
        [*_unshare(), _MOUNT, "enter", str(passwd), sys.executable, "-W", "error", "-c", _INSIDE],
        input=json.dumps(cases), capture_output=True, text=True, timeout=60, cwd=TOP,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(told) for told in done.stdout.splitlines()]
