"""Beginning and end: threads, collection, Ctrl-C, fork and the interpreter's exit."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh.aio import AsyncConnection
from hussh.errors import ConnectError
from hussh.multi_conn import MultiConnection
from tests.multi.conftest import HOSTS, MINE, Multi, runs
from tests.proxy.commands import NC
from tests.support.limits import spare_descriptors
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

ROOT = str(Path(__file__).parents[2])


def loop_threads() -> list[threading.Thread]:
    """Return our background threads that live now."""
    return [t for t in threading.enumerate() if t.name.startswith("hussh-loop-")]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_threads_live_as_long_as_needed(multi: Multi, count: int) -> None:
    """There are as many loops as asked for, from the first operation on until `close`."""
    connection = multi(6, loops=count)
    assert loop_threads() == []
    with connection:
        assert len(loop_threads()) == count
        connection.execute("true")
        assert len(loop_threads()) == count
    assert loop_threads() == []


def test_a_tree_stays_in_one_loop(multi: Multi, bastion: Sshd) -> None:
    """All behind one bastion go to one loop, however many loops may be used."""
    with multi(6, loops=4, proxy_jump=f"{bastion.host}:{bastion.port}"):
        assert len(loop_threads()) == 1


def test_no_more_loops_than_hosts_may_be_busy(multi: Multi) -> None:
    """With batch_size=1 one loop is enough."""
    with multi(6, loops=4, batch_size=1) as connected:
        assert len(loop_threads()) == 1
        assert connected.execute("true").failed is None


def test_collected_while_open(multi: Multi, many: Sshd) -> None:
    """Losing the last reference to an open one warns, and ends connections and threads."""
    connections = [multi()]
    connections[0].connect()
    threads = loop_threads()
    with pytest.warns(ResourceWarning, match=r"unclosed MultiConnection\(3 hosts\)"):
        connections.clear()
    gc.collect()
    for thread in threads:
        thread.join(20)
    assert loop_threads() == []
    many.wait_for_log("Received disconnect|Connection (closed|reset) by|Broken pipe", count=3)


def test_a_generator_that_is_dropped(multi: Multi) -> None:
    """A stream that nobody reads any more stops its commands."""
    with multi(2) as connected:
        stream = connected.stream(
            {HOSTS[0]: runs(f"sleep 63.{MINE}"), HOSTS[1]: f"exec sleep 63.{MINE}"}
        )
        next(stream)
        del stream
        gc.collect()
        found = f"while pgrep -f '^sleep 63.{MINE}' >/dev/null; do sleep 0.02; done; echo gone"
        assert connected.execute(found, timeout=20).values()[0].stdout == "gone\n"


def test_ctrl_c(multi: Multi) -> None:
    """KeyboardInterrupt comes out, commands that run are told to stop, and all stays usable."""
    with multi(2) as connected:
        commands = {HOSTS[0]: runs(f"sleep 64.{MINE}"), HOSTS[1]: f"exec sleep 64.{MINE}"}
        begun = threading.Event()

        def interrupt() -> None:
            begun.wait()
            os.kill(os.getpid(), signal.SIGINT)

        # A shell starts what it puts into the background with SIGINT ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            thread = threading.Thread(target=interrupt)
            thread.start()
            with pytest.raises(KeyboardInterrupt):
                connected.execute_map(commands, on_result=lambda *_: begun.set())
            thread.join()
        finally:
            signal.signal(signal.SIGINT, before)
        found = f"while pgrep -f '^sleep 64.{MINE}' >/dev/null; do sleep 0.02; done; echo gone"
        assert connected.execute(found, timeout=20).values()[0].stdout == "gone\n"


class Now(Exception):
    """Raised by the signal handler."""


# It may fall into a finalizer, too, and is told to nobody else then.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_interrupts_anywhere(multi: Multi, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception out of a signal handler, at whatever moment, leaves nothing stuck."""

    def interrupt(number: int, frame: object) -> None:
        raise Now

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        interrupted = 0
        for microseconds in range(1, 24_000, 1_000):
            connection = multi(3, loops=2)
            try:
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                connection.execute("true")
                connection.execute("true")
            except Now:
                interrupted += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            assert [one.stdout for one in connection.execute("echo x").values()] == ["x\n"] * 3
            connection.close()
    finally:
        signal.signal(signal.SIGALRM, old)
    assert interrupted


BEGIN = """
import gc, os, sys, threading, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
import hussh
from hussh.multi_conn import MultiConnection
port, key, more = int(sys.argv[1]), sys.argv[2], eval(sys.argv[3])
hosts = [f"127.0.0.{n}" for n in range(1, 5)]
multi = MultiConnection.from_shared_auth(
    hosts, "alice", key_path=key, port=port, timeout=60, loops=2, **more
)
assert multi.connect().failed is None
"""

EXITS = {
    "idle": "",
    "in a block": "multi.__enter__(); multi.execute('true'); sys.exit()",
    "a stream": "stream = multi.stream('echo'); next(stream)",
    "busy": """
begun = threading.Event()
def work():
    multi.execute_map({hosts[0]: "echo", hosts[1]: "sleep 60"}, on_result=lambda *_: begun.set())
threading.Thread(target=work, daemon=True).start()
begun.wait()
""",
}

FORKS = """
def child():
    for use in (lambda: multi.execute("true"), multi.connect, lambda: list(multi.stream("true"))):
        try:
            use()
        except hussh.ForkedConnectionError:
            pass
        else:
            os._exit(3)
    again = MultiConnection.from_shared_auth(
        hosts, "alice", key_path=key, port=port, timeout=60, **more
    )
    with again:
        assert again.execute("echo own").failed is None
def closes():
    multi.close()
def drops():
    global multi
    del multi
    gc.collect()
for kind in (child, closes, drops, lambda: None):
    pid = os.fork()
    if pid == 0:
        kind()
        raise SystemExit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, (kind, status)
assert multi.execute("echo mine").failed is None
multi.close()
"""


def run(script: str, many: Sshd, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that begins with four hosts connected; returns once it has ended."""
    return subprocess.run(
        [
            sys.executable, "-X", "dev", "-c", BEGIN + script,
            str(many.port), os.fspath(many.alice.key.path), repr(more),
        ],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("kind", EXITS)
def test_exit_with_an_open_one(many: Sshd, kind: str) -> None:
    """A program that ends with one open ends with status 0 and says nothing, whatever it does."""
    done = run(EXITS[kind], many)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_exit_with_proxy_commands(many: Sshd) -> None:
    """The children that carry the connections end with the program."""
    done = run("", many, proxy_command=NC)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_fork(many: Sshd) -> None:
    """A child gets a clear error, can make one of its own, and disturbs nothing."""
    done = run(FORKS, many)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_connections_of_one_object(many: Sshd) -> None:
    """A connection that is given twice is opened once, and has two results."""
    one = AsyncConnection(HOSTS[0], "alice", key_path=many.alice.key.path, port=many.port)
    with MultiConnection([one, one]) as connected:
        result = connected.execute("echo $SSH_CONNECTION")
    assert len(result) == 2
    assert len({r.stdout for r in result.values()}) == 1


def test_descriptors_are_bounded_by_connections(multi: Multi) -> None:
    """A failing host costs no descriptor, and closing gives all of them back."""

    def count() -> int:
        return len(os.listdir("/proc/self/fd"))

    def open_and_close(hosts: list[Any], look: Callable[[], int]) -> int:
        with multi(hosts) as connected:
            connected.execute("true")
            return look()

    open_and_close([HOSTS[0]], count)
    before = count()
    dead = {"host": HOSTS[1], "port": 1}
    with_dead = open_and_close([HOSTS[0], *[dead] * 8], count)
    assert with_dead == open_and_close([HOSTS[0]], count)
    assert count() == before


def test_more_hosts_than_descriptors(multi: Multi) -> None:
    """Those that find none left say so, blame neither key nor host key, and may connect later."""
    with multi(1):
        pass  # what is imported and opened once
    connection = multi(HOSTS, batch_size=4)
    with spare_descriptors(16):
        result = connection.connect()
    assert result.succeeded is not None
    assert result.failed is not None
    for one in result.failed.values():
        assert isinstance(one.error, ConnectError)
        assert "Too many open files" in one.stderr
    assert connection.connect().failed is None
    connection.close()
