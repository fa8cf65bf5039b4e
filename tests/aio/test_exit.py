"""Programs that end while connections live: silently, quickly, with their own exit status."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

TOP = Path(__file__).resolve().parents[2]

BEGIN = """
import asyncio, logging, os, sys, threading, warnings
import anyio
sys.path.insert(0, {top!r})
from hussh.aio import AsyncConnection
warnings.simplefilter("ignore", ResourceWarning)
logging.getLogger("asyncio").setLevel(logging.ERROR)  # slow steps are no news here
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
    "a loop that was stopped": """
async def main():
    connection = await connect(proxy_command="nc %h %p")
    await connection.sftp_write("/etc/passwd", "exits/sent", timeout=20)
    loop.stop()
loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_forever()
""",
    "SystemExit in a task": """
async def main():
    await connect()
    sys.exit(0)
loop = asyncio.new_event_loop()
task = loop.create_task(main())
try:
    loop.run_forever()
except SystemExit:
    task.exception()
    raise
""",
    "nest_asyncio": """
import nest_asyncio
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    nest_asyncio.apply()
async def main():
    await (await connect()).execute("true")
asyncio.run(main())
""",
    "a local file that never comes": """
os.mkfifo("pipe")
async def main():
    connection = await connect()
    try:
        await connection.sftp_write("pipe", "exits/sent", timeout=0.1)
    except TimeoutError:
        return
    raise AssertionError("it came")
run(main)
""",
    "a local file that nobody reads": """
os.mkfifo("pipe")
async def main():
    connection = await connect()
    try:
        await connection.sftp_read("/etc/passwd", "pipe", timeout=0.1)
    except TimeoutError:
        return
    raise AssertionError("somebody read it")
run(main)
""",
    "tasks that are pending": """
async def in_blocks():
    async with AsyncConnection({host!r}, **OPTIONS) as connection:
        async with await connection.popen("cat") as process:
            begun.set()
            await process.stdout.read()
async def main():
    connection = await connect(keepalive_interval=5)
    tasks = [connection.execute("sleep 1000"), connection.execute("sleep 1000", timeout=100)]
    tasks += [connect(proxy_command="sleep 1000"), in_blocks()]
    for coroutine in tasks:
        kept.append(asyncio.ensure_future(coroutine))
        kept[-1]._log_destroy_pending = False
    await begun.wait()
begun = asyncio.Event()
loop = asyncio.new_event_loop()
loop.run_until_complete(main())
if {close}:
    loop.close()
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


#: A daemon thread takes a lock, and the interpreter stops it before it lets go.  Its frame keeps
#: the names that it was defined among, so these are not those of the program.
TAKE = """
import threading, time
def take(lock):
    def hold():
        lock.acquire()
        taken.set()
        while True:
            time.sleep(0.001)
    taken = threading.Event()
    threading.Thread(target=hold, daemon=True).start()
    taken.wait()
"""

TAKEN = f"""
exec({TAKE!r}, names := dict())
take = names["take"]
class Last:
    def __init__(self, call):
        self.call = call
    def __del__(self):
        self.call()
"""

LOCKS = {
    "a proxy command's": """
connection = Connection({host!r}, proxy_command="nc %h %p", **OPTIONS)
stream, = [thing for thing in gc.get_objects() if isinstance(thing, ProxyStream)]
take(stream._lock)
last = Last(stream.close)
""",
    "a tree's": """
connection = Connection({host!r}, **OPTIONS)
driver, = [thing for thing in gc.get_objects() if isinstance(thing, ThreadDriver)]
take(driver._lock)
def use(driver=driver, suppress=contextlib.suppress):
    with suppress(RuntimeError), driver.locked():
        pass
last = Last(use)
""",
    "the idle thread's": """
connection = Connection({host!r}, **OPTIONS)
take(idle_thread._lock)
last = Last(connection.close)
""",
    "a loop's": """
loop = LoopThread("loop")
loop.launch()
take(loop._lock)
last = Last(lambda loop=loop: loop.leave(None))
""",
}


@pytest.mark.parametrize("whose", LOCKS)
def test_locks_of_threads_that_are_no_more(whose: str, target: Sshd, home: Path) -> None:
    """A finalizer at the interpreter's end does not wait for a lock that a daemon thread took."""
    options = {
        "port": target.port,
        "username": target.alice.name,
        "private_key": str(target.alice.key.path),
        "host_key_policy": "ignore",
    }
    script = (
        "import contextlib, gc\n"
        "from hussh import Connection\n"
        "from hussh._connect.proxy_command import ProxyStream\n"
        "from hussh._runtime import idle_thread\n"
        "from hussh._runtime.background_loops import LoopThread\n"
        "from hussh._runtime.thread_driver import ThreadDriver\n"
        f"OPTIONS = {options!r}\n" + TAKEN + LOCKS[whose].format(host=target.host)
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=TOP,
        env={**clean_environment(), "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def _cases() -> Iterator[Any]:
    """Yield each ending with each loop that knows it; asyncio and trio take turns."""
    for number, (ending, text) in enumerate(ENDINGS.items()):
        # trio's loops end with their main task.
        loops = ["asyncio", "trio"] if "run(main)" in text.splitlines() else ["asyncio"]
        chosen = loops[number % len(loops)]
        for loop in loops:
            for close in [False, True] if "{close}" in text else [False]:
                marks = () if loop == chosen else (pytest.mark.long,)
                name = f"{loop}-{ending}{'-closed' * close}"
                yield pytest.param(ending, loop, close, id=name, marks=marks)


@pytest.mark.parametrize(("ending", "backend", "close"), list(_cases()))
def test_exit(ending: str, backend: str, close: bool, target: Sshd, home: Path) -> None:
    """The interpreter ends with status 0, without a word, while connections are open."""
    values = {
        "close": close,
        "top": str(TOP),
        "host": target.host,
        "port": target.port,
        "user": target.alice.name,
        "key": str(target.alice.key.path),
        "loop": backend,
    }
    script = (BEGIN + ENDINGS[ending]).format(**values)
    with target.alice.folder("exits"):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-"],
            input=script,
            cwd=home,
            env={**clean_environment(), "HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
