"""Programs patched by gevent or eventlet: every call works, and lets other green threads run."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from hussh._runtime import polling
from tests.support import hostile_wire as wire
from tests.support.hostile import Channel, Conn, HostileServer, Services
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd
from tests.support.until import until

ROOT = Path(__file__).parents[2]

PATCH = {
    "gevent": "import gevent.monkey; gevent.monkey.patch_all(); from gevent import sleep, spawn",
    "eventlet": "import eventlet; eventlet.monkey_patch(); from eventlet import sleep, spawn",
}

SCRIPT = """
import os, sys, warnings
from contextlib import closing
warnings.simplefilter("ignore")  # both have their own, of deprecations and forks
{patch}
import hussh
from hussh.multi_conn import MultiConnection
host, port, user, key, local = sys.argv[1:]
options = dict(port=int(port), username=user, private_key=key, host_key_policy="ignore")
turns = 0
def count():
    global turns
    while True:
        turns += 1
        sleep(0.01)
spawn(count)
def result(thread):
    return thread.get() if hasattr(thread, "get") else thread.wait()
with hussh.Connection(host, **options) as connection:
    before = turns
    several = [spawn(connection.execute, f"sleep 0.3; echo {{number}}") for number in range(3)]
    print([result(one).stdout.strip() for one in several])
    assert turns > before
    try:
        connection.execute("sleep 100", timeout=100)
    except TimeoutError:
        print("in time")
    connection.sftp_write(local, "green/file", timeout=60000)
    print(connection.sftp_read("green/file", timeout=60000))
    with connection.popen("cat") as process:
        process.stdin.write(b"a process")
        process.stdin.close()
        print(process.stdout.read().decode())
    for more in (dict(proxy_jump=connection), dict(proxy_command="nc 127.0.0.1 %p")):
        with hussh.Connection("localhost", **options, **more, keepalive_interval=0.05) as other:
            before = turns
            print(other.execute("sleep 0.2; echo through").stdout.strip())
            assert turns > before
    with MultiConnection.from_shared_auth([host, "localhost"], **options) as multi:
        print(len(multi.execute("true").succeeded))
"""


@pytest.mark.parametrize("library", PATCH)
def test_a_patched_program(library: str, target: Sshd, tmp_path: Path) -> None:
    """Commands, files, processes, jumps, proxies and many hosts work, none of them in the way."""
    if find_spec(library) is None:  # imported here, it would warn of every later fork
        pytest.skip(f"needs the package {library}")
    (tmp_path / "local").write_text("contents")
    account = target.alice
    with account.folder("green"):
        done = subprocess.run(
            [
                sys.executable, "-c", SCRIPT.format(patch=PATCH[library]), target.host,
                str(target.port), account.name, os.fspath(account.key.path), tmp_path / "local",
            ],
            cwd=ROOT,
            env=clean_environment(),
            capture_output=True,
            text=True,
            timeout=100,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "['0', '1', '2']", "in time", "contents", "a process", "through", "through", "2",
    ]  # fmt: skip


IDLE = """
import pathlib, sys, warnings
warnings.simplefilter("ignore")  # both have their own, of deprecations and forks
{patch}
import hussh
host, port, folder = sys.argv[1:]
with hussh.Connection(host, int(port), "me", "x", host_key_policy="ignore") as connection:
    for turn in range(2):
        connection.execute("true")
        pathlib.Path(folder, f"idle{{turn}}").touch()
        while not pathlib.Path(folder, f"answered{{turn}}").exists():
            sleep(0.02)
    print(connection.execute("echo at last").stdout.strip())
"""


@pytest.mark.parametrize("library", PATCH)
def test_an_idle_connection_answers(library: str, tmp_path: Path) -> None:
    """What a server asks while no green thread uses the connection is answered, again and again."""
    if find_spec(library) is None:  # imported here, it would warn of every later fork
        pytest.skip(f"needs the package {library}")

    ended: list[str] = []

    def run(channel: Channel, command: str) -> None:
        channel.finish(0)
        ended.append(command)

    def script(conn: Conn) -> None:
        conn.login()
        for turn in range(2):
            conn.serve(Services(execute=run), until=lambda n=turn: len(ended) > n)  # type: ignore[misc]
            until((tmp_path / f"idle{turn}").exists)
            answers = len(conn.answers) + 1
            conn.send_packet(wire.global_request("keepalive@openssh.com", want_reply=True))
            conn.serve(until=lambda n=answers: len(conn.answers) >= n)  # type: ignore[misc]
            (tmp_path / f"answered{turn}").touch()
        conn.serve()

    with HostileServer(script, timeout=60) as server:
        done = subprocess.run(
            [sys.executable, "-c", IDLE.format(patch=PATCH[library]), server.host,
             str(server.port), tmp_path],
            cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=100,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "at last\n"


def test_polling_without_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `select.poll` is gone, `select.select` tells the same."""
    reading, writing = os.pipe()
    try:
        for gone in (False, True):
            if gone:
                monkeypatch.delattr(select, "poll")
            poll = polling.make_poll()
            poll.register(reading, select.POLLIN)
            assert poll.poll(0) == []
            poll.register(writing, select.POLLOUT)
            assert poll.poll(0) == [(writing, select.POLLOUT)]
            os.write(writing, b"x")
            poll.unregister(writing)
            assert poll.poll(None) == [(reading, select.POLLIN)]
            os.read(reading, 1)
    finally:
        os.close(reading)
        os.close(writing)
