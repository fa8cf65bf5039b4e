"""The system's known_hosts files, in a mount namespace where /etc/ssh belongs to the test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.hostkeys.lines import line, name_of
from tests.support.keys import Keys
from tests.support.sshd import Sshd

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


@cache
def _enter() -> tuple[str, ...]:
    """Return the command that runs another where /etc/ssh is empty; none if there is no way."""
    for more in ((), ("--user", "--map-root-user")):
        command = ("unshare", *more, "--mount", "--", "sh", "-c",
                   'mount -n -t tmpfs own /etc/ssh && exec "$@"', "enter")  # fmt: skip
        if subprocess.run([*command, "true"], capture_output=True).returncode == 0:
            return command
    return ()


def run_inside(cases: list[dict[str, Any]]) -> list[list[str]]:
    """Return the outcomes of these cases."""
    if not _enter():
        pytest.skip("needs a mount namespace")
    done = subprocess.run(
        [*_enter(), sys.executable, "-W", "error", "-c", _INSIDE],
        input=json.dumps(cases), capture_output=True, text=True, timeout=60, cwd=TOP,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(told) for told in done.stdout.splitlines()]


def test_system_files(bastion: Sshd, target: Sshd, keys: Keys, home: Path) -> None:
    """Both files of the system make keys known, changed and revoked, on every hop, by default."""
    (own,) = [key for key in target.host_keys.values() if key.algorithm == "ssh-ed25519"]
    stranger = keys.get(name="stranger")
    direct = {"host": target.host, "port": target.port, "username": "alice",
              "private_key": str(target.alice.key.path)}  # fmt: skip
    behind = {**direct, "proxy_jump": f"{bastion.host}:{bastion.port}"}
    strict = {**direct, "host_key_policy": "strict"}
    name = name_of(target)
    good, revoked = line(name, own), line("*", own, "@revoked")
    cases: list[tuple[dict[str, str], dict[str, Any], str]] = [
        ({}, strict, "unknown 0"),
        ({"ssh_known_hosts": good}, strict, "in\n"),
        ({"ssh_known_hosts2": good}, strict, "in\n"),
        ({"ssh_known_hosts2": line(name, stranger)}, direct, "changed 0"),
        ({"ssh_known_hosts": good, "ssh_known_hosts2": revoked}, direct, "revoked 0"),
        ({"ssh_known_hosts": revoked}, behind, "revoked 1"),
        ({"ssh_known_hosts": good}, behind, "in\n"),
        # Where the caller names files, the system's are not read.
        ({"ssh_known_hosts": revoked}, {**direct, "known_hosts": str(home / "none")}, "in\n"),
    ]
    told = run_inside([{"files": files, "options": options} for files, options, _ in cases])
    assert told == [[expected] * 2 for _, _, expected in cases]
    (home / ".ssh").mkdir()
    (home / ".ssh/known_hosts").write_text(revoked)
    assert run_inside([{"files": {"ssh_known_hosts": good}, "options": direct}]) == [
        ["revoked 0"] * 2
    ]
    assert os.listdir(home / ".ssh") == ["known_hosts"]


def test_recording_goes_to_the_first_file(target: Sshd, home: Path) -> None:
    """accept-new writes to the user's file though the system's has other hosts."""
    options = {
        "host": target.host,
        "port": target.port,
        "username": "alice",
        "private_key": str(target.alice.key.path),
        "host_key_policy": "accept-new",
    }
    system = {"ssh_known_hosts": "other.test ssh-ed25519 AAAA\n"}
    assert run_inside([{"files": system, "options": options}]) == [["in\n"] * 2]
    recorded = (home / ".ssh/known_hosts").read_text()
    assert recorded.startswith(f"{name_of(target)} ")
    assert recorded.count("\n") == 1
