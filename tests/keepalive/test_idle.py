"""Connections that nobody uses just now: servers that ask are answered, at no cost between."""

from __future__ import annotations

import gc
import os
import select
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import sleep
from typing import Any

import anyio
import pytest

from hussh import Connection, ForkedConnectionError
from hussh._connect.tcp import SocketStream
from hussh._runtime import idle_thread
from hussh._runtime.thread_driver import ThreadDriver
from hussh.aio import AsyncConnection
from tests.conformance.apis import run_in
from tests.keepalive.test_keepalive import idle_threads, wait_for_no_thread
from tests.proxy.commands import NC
from tests.support.accounts import Account
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd
from tests.support.until import until

TOP = Path(__file__).resolve().parents[2]
#: A server that hangs up on who does not answer for three seconds.
ASKS = {"ClientAliveInterval": 1, "ClientAliveCountMax": 2}
#: So many questions are answered, which takes more than these three seconds.
QUESTIONS = 5
#: sshd begins a key exchange with what it has to send, here the next question.
REKEYS = {**ASKS, "RekeyLimit": "default 1"}


@pytest.fixture
def asking(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Return a server that asks every second whether its client lives."""
    return sshd_factory(options=ASKS)


@pytest.fixture
def rekeying(sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Return a server that wants new keys every second."""
    return sshd_factory(options=REKEYS)


def connect(server: Sshd, who: str = "alice", **more: Any) -> Connection:
    account = getattr(server, who)
    return Connection(server.host, server.port, account.name, host_key_policy="ignore",
                      private_key=account.key.path, **more)  # fmt: skip


def progress(session: Any, what: str) -> int:
    """How many packets the link has received, or how often it has got new keys."""
    with session.driver.locked():
        count: int = getattr(session.link.get_info(), what)
    return count


def users(server: Sshd, resources: ExitStack) -> Iterator[Connection]:
    """Sync connections that are idle in each way in which one can be."""
    plain = resources.enter_context(connect(server, "bob"))
    yield plain
    yield resources.enter_context(connect(server, proxy_jump=plain))
    yield resources.enter_context(connect(server, proxy_command=NC))
    opened = resources.enter_context(connect(server))
    resources.enter_context(opened.sftp.open("kept", "w"))
    yield opened
    shell = resources.enter_context(connect(server))
    resources.enter_context(shell.shell())
    yield shell
    tail = resources.enter_context(connect(server))
    resources.enter_context(tail.tail("kept"))
    yield tail
    quiet = resources.enter_context(connect(server))
    resources.callback(quiet.popen("exec sleep 1000").close)
    yield quiet


@pytest.mark.parametrize("poller", ["epoll", "poll"])
def test_a_server_that_asks(poller: str, asking: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bastion, files, shells, tails and quiet commands are not cut off while they are idle."""
    if poller == "poll":
        monkeypatch.delattr(select, "epoll")
    wait_for_no_thread()
    with ExitStack() as resources:
        connections = list(users(asking, resources))
        before = [progress(c._get_session(), "packets") for c in connections]
        for connection, packets in zip(connections, before, strict=True):
            session = connection._get_session()
            until(lambda s=session, p=packets: progress(s, "packets") >= p + QUESTIONS)  # type: ignore[misc]
        assert len(idle_threads()) == 1
        for connection in connections:
            assert connection.execute("echo here").stdout == "here\n"
    wait_for_no_thread()


def test_a_server_with_new_keys(rekeying: Sshd) -> None:
    """Key exchanges that the server begins after some time are answered, on each hop."""
    with connect(rekeying, "bob") as plain, connect(rekeying, proxy_jump=plain) as inner:
        for session in (plain._get_session(), inner._get_session()):
            until(lambda s=session: progress(s, "rekeys") >= 3)  # type: ignore[misc]
        assert inner.execute("echo here").stdout == "here\n"
    wait_for_no_thread()


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("what", ["asking", "rekeying"])
def test_in_event_loops(loop: str, what: str, request: pytest.FixtureRequest) -> None:
    """The same while no task uses the connection, which needs no nursery of the user's."""
    server: Sshd = request.getfixturevalue(what)

    async def main() -> None:
        def make(who: Account, **more: Any) -> AsyncConnection:
            return AsyncConnection(server.host, who.name, private_key=who.key.path,
                                   port=server.port, host_key_policy="ignore", **more)  # fmt: skip

        async with (
            make(server.bob) as plain,
            make(server.alice, proxy_jump=plain) as inner,
            await inner.shell(),
        ):
            counted, more = ("packets", QUESTIONS) if what == "asking" else ("rekeys", 2)
            sessions = [connection._shared.session for connection in (plain, inner)]
            goals = [progress(session, counted) + more for session in sessions]
            with anyio.fail_after(60):
                for session, expected in zip(sessions, goals, strict=True):
                    while progress(session, counted) < expected:
                        await anyio.sleep(0.02)
            assert (await inner.execute("echo here")).stdout == "here\n"

    run_in(loop, main)
    wait_for_no_thread()


def test_while_a_call_blocks(asking: Sshd, tmp_path: Path) -> None:
    """While an operation waits for a local pipe, its connection is answered for, too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with connect(asking) as connection:
        session = connection._get_session()
        expected = progress(session, "packets") + QUESTIONS

        def feed() -> None:
            with fifo.open("wb") as writer:
                until(lambda: progress(session, "packets") >= expected)
                writer.write(b"at last")

        feeder = threading.Thread(target=feed)
        feeder.start()
        connection.sftp_write(str(fifo), "from-fifo")
        feeder.join()
        assert connection.sftp_read("from-fifo") == "at last"


def test_talkative_proxy_command(target: Sshd, tmp_path: Path) -> None:
    """A proxy command that fills its stderr while the connection is idle is not held up."""
    done = tmp_path / "done"
    script = f"(sleep 0.3; head -c 300000 /dev/zero >&2; touch {done}) & exec nc %h %p"
    with connect(target, proxy_command=["sh", "-c", script]) as connection:
        until(done.exists)
        assert connection.execute("echo here").stdout == "here\n"


class Pair:
    """A tree of threads over one end of a socket pair whose other end says nothing."""

    def __init__(self) -> None:
        self.far, near = socket.socketpair()
        near.setblocking(False)
        self.driver = ThreadDriver(SocketStream(near))

    def close(self) -> None:
        self.driver.end(self.driver.root)
        self.far.close()


def test_no_cost_while_nothing_comes() -> None:
    """Two hundred idle connections never wake the thread, and one packet wakes it once."""
    wait_for_no_thread()
    pairs = [Pair() for _ in range(200)]
    for pair in pairs:
        with pair.driver.locked():
            pass
        with pair.driver.fresh():  # our banner goes out
            pass
    thread = idle_thread._current
    assert thread is not None
    seen = -1
    while seen != thread.wakeups:  # it has still to do with their beginning
        seen = thread.wakeups
        sleep(0.1)
    sleep(0.5)
    assert thread.wakeups == seen
    pairs[7].far.send(b"SSH-2.0-x\r\n")
    until(lambda: pairs[7].driver.root.get_info().received > 0)
    until(lambda: pairs[7].driver._idle is not None and pairs[7].driver._idle.armed)
    assert thread.wakeups - seen == 1
    for pair in pairs:
        pair.close()
    wait_for_no_thread()
    assert thread.drivers == {}


def test_peers_that_hang_up() -> None:
    """What has ended is left alone: no fd stays ready for ever, and the thread ends."""
    wait_for_no_thread()
    pairs = [Pair() for _ in range(3)]
    for pair in pairs:
        with pair.driver.fresh():
            pass
    thread = idle_thread._current
    assert thread is not None
    for pair in pairs:
        pair.far.close()
    wait_for_no_thread()
    assert thread.wakeups < 20
    for pair in pairs:
        assert pair.driver.root.dead
        pair.close()


def test_an_answer_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the thread cannot take in what came, the others' answers do not suffer."""
    wait_for_no_thread()
    failing, other = Pair(), Pair()

    def fail() -> None:
        raise MemoryError

    monkeypatch.setattr(failing.driver, "answer", fail)
    for pair in (failing, other):
        with pair.driver.fresh():
            pass
        pair.far.send(b"SSH-2.0-x\r\n")
    until(lambda: other.driver.root.get_info().received > 0)
    assert failing.driver.root.get_info().received == 0
    for pair in (failing, other):
        pair.close()
    wait_for_no_thread()


@pytest.mark.parametrize("lacking", ["descriptors", "threads"])
def test_lack(lacking: str, target: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors or threads for it a connection works; the next call tries again."""
    wait_for_no_thread()

    def refuse(*_: object, **__: object) -> None:
        raise OSError if lacking == "descriptors" else RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        if lacking == "descriptors":
            patch.setattr(select, "epoll", refuse)
        else:
            patch.setattr(threading.Thread, "start", refuse)
        connection = connect(target)
        assert connection.execute("echo here").stdout == "here\n"
        assert idle_threads() == []
        assert idle_thread._current is None
    assert connection.execute("echo here").stdout == "here\n"
    assert len(idle_threads()) == 1
    connection.close()
    wait_for_no_thread()


def test_dropped(target: Sshd) -> None:
    """The thread holds no connection: one that is dropped is closed, and the thread ends."""
    connection = connect(target)
    assert len(idle_threads()) == 1
    gc.disable()
    try:
        del connection
        wait_for_no_thread()
    finally:
        gc.enable()


def test_fork(asking: Sshd) -> None:
    """A child has neither the thread nor its fds; the parent's connection is still answered for."""
    with connect(asking) as connection:
        thread = idle_thread._current
        assert thread is not None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads and fork
            child = os.fork()
        if not child:
            ok = False
            try:
                ok = idle_thread._current is None and not idle_threads() and thread.wakeup.fd == -1
                try:
                    connection.execute("true")
                except ForkedConnectionError:
                    pass
                else:
                    ok = False
                with connect(asking) as own:
                    ok = ok and own.execute("echo own").stdout == "own\n" and bool(idle_threads())
            finally:
                os._exit(0 if ok else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        session = connection._get_session()
        expected = progress(session, "packets") + 2
        until(lambda: progress(session, "packets") >= expected)
        assert connection.execute("echo here").stdout == "here\n"
    wait_for_no_thread()


PROGRAM = """
import sys, threading, atexit
sys.path.insert(0, {top!r})
from hussh import Connection
def last():
    print(connection.execute("echo last").stdout, end="")
atexit.register(last)
connection = Connection({host!r}, {port}, {user!r}, private_key={key!r},
                        host_key_policy="ignore", keepalive_interval=0.01)
print(connection.execute("echo first").stdout, end="")
{more}
"""


@pytest.mark.parametrize("more", ["", "sys.exit(7)", "raise SystemError"])
def test_interpreter_exit(more: str, asking: Sshd) -> None:
    """A program with an open connection ends at once, with its own status."""
    program = PROGRAM.format(top=str(TOP), host=asking.host, port=asking.port, more=more,
                             user=asking.alice.name, key=str(asking.alice.key.path))  # fmt: skip
    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(), timeout=60,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.stdout == "first\nlast\n"
    assert done.returncode == {"": 0, "sys.exit(7)": 7}.get(more, 1)
    assert ("SystemError" in done.stderr) is ("SystemError" in more)
    assert "hussh" not in done.stderr


def test_stale_number() -> None:
    """A number of a file that was closed may be another tree's; its place is not taken away."""
    pair = Pair()
    with pair.driver.fresh():
        pass
    other = idle_thread.IdleWatch(Pair.__new__(Pair))  # type: ignore[arg-type]
    other._thread, other._fds = idle_thread._current, pair.driver._stream.fds()
    other.end()
    pair.far.send(b"SSH-2.0-x\r\n")
    until(lambda: pair.driver.root.get_info().received > 0)
    pair.close()
    wait_for_no_thread()
