"""A process that may not have more memory (RLIMIT_AS): the error says so, whatever it was at."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

TOP = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LONG = os.environ.get("HUSSH_LONG") == "1"

PROGRAM = """
import asyncio, resource, sys
sys.path.insert(0, {top!r})
from hussh import Connection
from hussh.aio import AsyncConnection
OPTIONS = dict(port={port}, username={user!r}, private_key={key!r}, host_key_policy="ignore")
COMMAND = "head -c 300000000 /dev/zero"

def limit():
    size = int(open("/proc/self/statm").read().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (size + (100 << 20), resource.RLIM_INFINITY))

def told(error):
    print(isinstance(error, MemoryError) or "memory" in str(error), repr(error)[:200])

def sync():
    with Connection({host!r}, **OPTIONS) as connection:
        connection.execute("true")
        connection.sftp.exists("large")
        limit()
        try:
            {sync}
        except Exception as error:
            told(error)
        else:
            print("no error")

async def tasks():
    async with AsyncConnection({host!r}, **OPTIONS) as connection:
        await connection.execute("true")
        await connection.sftp.exists("large")
        limit()
        try:
            {tasks}
        except Exception as error:
            told(error)
        else:
            print("no error")

sync() if {kind!r} == "sync" else asyncio.run(tasks())
"""

#: How each is written for threads; for tasks there is an ``await``.
CALLS = {
    "get_bytes": "connection.sftp.get_bytes('large')",
    "sftp_read": "connection.sftp_read('large')",
    "execute": "connection.execute(COMMAND)",
    "scp_read": "connection.scp_read('large')",
    "popen": "WITH connection.popen(COMMAND) as it: it.stdout.read()",
    "open": "WITH connection.sftp.open('large', 'rb') as it: it.read()",
    "tail": "WITH connection.tail('large') as it: it.read(0)",
}


def spelled(call: str, kind: str) -> str:
    """The call in either API."""
    if not call.startswith("WITH "):
        return call if kind == "sync" else f"await {call}"
    opened, body = call.removeprefix("WITH ").split(": ")
    if kind == "sync":
        return f"with {opened}: {body}"
    opened = opened if ".tail(" in opened else f"await {opened}"
    return f"async with {opened}: await {body}"


#: Each call for threads or for tasks, those whose ways differ for both; all if HUSSH_LONG=1.
SYNC = [call for call in CALLS if LONG or call not in ("get_bytes", "sftp_read", "popen")]
TASKS = [call for call in CALLS if LONG or call in ("sftp_read", "execute", "popen")]


@pytest.mark.parametrize(
    ("call", "kind"), [*((call, "sync") for call in SYNC), *((call, "tasks") for call in TASKS)]
)
def test_no_more_memory(call: str, kind: str, target: Sshd) -> None:
    """It is a MemoryError, or one of ours that speaks of memory, never one of a closed file."""
    large = target.alice.files / "large"
    large.touch()
    os.truncate(large, 300 * MIB)
    large.chmod(0o644)
    line = spelled(CALLS[call], kind)
    program = PROGRAM.format(
        top=str(TOP), host=target.host, port=target.port, user=target.alice.name,
        key=str(target.alice.key.path), kind=kind,
        sync=line if kind == "sync" else "pass", tasks=line if kind == "tasks" else "pass",
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    large.unlink()
    assert done.stdout.startswith("True"), (done.stdout, done.stderr[-2000:])
