"""Programs that end while connections live: silently, quickly, with their own exit status."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

TOP = Path(__file__).resolve().parents[2]

BEGIN = """
import asyncio, os, sys, threading, warnings
import anyio
sys.path.insert(0, {top!r})
from hussh.aio import AsyncConnection
warnings.simplefilter("ignore", ResourceWarning)
OPTIONS = dict(port={port}, username={user!r}, private_key={key!r}, host_key_policy="ignore")
kept = []
async def connect(**more):
    connection = AsyncConnection({host!r}, **OPTIONS, **more)
    kept.append(connection)
    return await connection
def run(main):
    anyio.run(main, backend={loop!r})
"""

ENDINGS = {
    "open": """
async def main():
    await connect(keepalive_interval=0.01)
    jump = AsyncConnection({host!r}, **OPTIONS)
    await (await connect()).execute("true")
run(main)
""",
    "a process and a transfer": """
async def main():
    connection = await connect()
    kept.append(await connection.popen("sleep 1000"))
    async with anyio.create_task_group() as group:
        group.start_soon(connection.execute, "sleep 1000")
        group.start_soon(connection.sftp_read, "/dev/zero", os.path.expanduser("~/back"))
        await anyio.sleep(0.05)
        group.cancel_scope.cancel()
run(main)
""",
    "a daemon thread": """
begun = threading.Event()
def work():
    async def main():
        connection = await connect(keepalive_interval=0.01)
        begun.set()
        await connection.execute("sleep 1000")
    run(main)
threading.Thread(target=work, daemon=True).start()
begun.wait()
""",
    "sys.exit, and a proxy command": """
async def main():
    connection = await connect(proxy_command="nc %h %p")
    kept.append(await connection.popen("sleep 1000"))
    sys.exit(0)
run(main)
""",
    "a loop that is dropped": """
loop = asyncio.new_event_loop()
connection = loop.run_until_complete(connect(keepalive_interval=0.01))
task = loop.create_task(connection.execute("sleep 1000"))
loop.run_until_complete(asyncio.sleep(0.05))
task._log_destroy_pending = False
loop.close()
""",
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_exit(ending: str, backend: str, target: Sshd, home: Path) -> None:
    """The interpreter ends with status 0, without a word, while connections are open."""
    if ending == "a loop that is dropped" and backend == "trio":
        pytest.skip("a loop of trio's cannot be dropped")
    values = {
        "top": str(TOP),
        "host": target.host,
        "port": target.port,
        "user": target.alice.name,
        "key": str(target.alice.key.path),
        "loop": backend,
    }
    script = (BEGIN + ENDINGS[ending]).format(**values)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**clean_environment(), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
