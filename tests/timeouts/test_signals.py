"""Signals: Ctrl-C ends a wait at once and costs only what it interrupted; others cost nothing."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.support.hostile import Conn, HostileServer
from tests.support.hostile_catalogue import until
from tests.support.listeners import FullBacklog, MuteListener
from tests.support.sshd import Sshd

LONG = os.environ.get("HUSSH_LONG") == "1"
PATIENCE = 60.0  # seconds until a program that says nothing has hung
PROMPTLY = 5.0  # seconds; it takes milliseconds on an idle machine
ROOT = Path(__file__).parents[2]


class Program:
    """One run of ``interrupted.py``, in a process group of its own."""

    def __init__(self, task: str, options: dict[str, Any]) -> None:
        """Start it."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.timeouts.interrupted", task, json.dumps(options)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._text = b""
        self._error = ""

    def wait_for(self, word: str) -> str:
        """Return what the program says with this word; fails with its error output if it ends."""
        assert self.process.stdout is not None
        deadline = monotonic() + PATIENCE
        while True:
            line, newline, rest = self._text.partition(b"\n")
            if newline:
                self._text = rest
                first, _, value = line.decode().partition(" ")
                if first == word:
                    return value
                continue
            ready, _, _ = select.select([self.process.stdout], [], [], deadline - monotonic())
            data = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not data:
                pytest.fail(f"never said {word!r}; its stderr: {self.end()}")
            self._text += data

    def interrupt(self, *, group: bool = False) -> float:
        """Send SIGINT as the terminal or another process does; return when."""
        now = monotonic()
        (os.killpg if group else os.kill)(self.process.pid, signal.SIGINT)
        return now

    def end(self) -> str:
        """End the program and return what it wrote to stderr."""
        if self.process.stderr is not None and not self.process.stderr.closed:
            self.process.kill()
            with self.process:
                self._error = self.process.stderr.read().decode()
        return self._error

    def finish(self) -> None:
        """Wait until it has ended by itself, without an error or a warning."""
        self.wait_for("done")
        status = self.process.wait(PATIENCE)
        assert (status, self.end()) == (0, "")


@pytest.fixture
def program() -> Iterator[Callable[..., Program]]:
    """Start programs that end with the test."""
    with ExitStack() as stack:

        def start(task: str, **options: Any) -> Program:
            started = Program(task, options)
            stack.callback(started.end)
            return started

        yield start


def login(server: Sshd) -> dict[str, Any]:
    """Return what a program needs to log in to a real server."""
    account = server.alice
    return {
        "host": server.host,
        "port": server.port,
        "username": account.name,
        "private_key": str(account.key.path),
    }


def stranger(host: str, port: int) -> dict[str, Any]:
    """Return what a program needs for a server that takes anybody."""
    return {"host": host, "port": port, "username": "u", "password": "p"}


def dialling(port: int) -> int:
    """Return how many sockets of this machine wait for an answer from this port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "02" for row in rows)


def check_interrupt(running: Program, sent: float) -> None:
    """The program noticed the interrupt promptly and left no thread behind."""
    assert float(running.wait_for("interrupted")) - sent < PROMPTLY


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
def test_while_dialling(
    program: Callable[..., Program], full_backlog: FullBacklog, group: bool
) -> None:
    """Ctrl-C ends the wait for an address that drops packets."""
    waiting = dialling(full_backlog.port)
    running = program("connect", **stranger(full_backlog.host, full_backlog.port))
    running.wait_for("begin")
    deadline = monotonic() + PATIENCE
    while dialling(full_backlog.port) == waiting:
        assert monotonic() < deadline
    check_interrupt(running, running.interrupt(group=group))
    assert running.wait_for("threads") == "1"
    running.finish()


def test_while_waiting_for_the_banner(
    program: Callable[..., Program], mute_listener: MuteListener
) -> None:
    """Ctrl-C ends the wait for a mute server, and closes the connection to it."""
    running = program("connect", **stranger(mute_listener.host, mute_listener.port))
    running.wait_for("begin")
    with mute_listener.accept() as peer:
        check_interrupt(running, running.interrupt())
        assert running.wait_for("threads") == "1"
        running.finish()
        peer.settimeout(20)
        while peer.recv(65536):
            pass


@pytest.mark.parametrize("where", ["version", "reply", "service", "auth"])
def test_while_logging_in(program: Callable[..., Program], where: str) -> None:
    """Ctrl-C ends the handshake and the login wherever they stall."""
    pipe = os.pipe()
    try:

        def stall(conn: Conn) -> None:
            os.write(pipe[1], b"x")
            conn.wait_closed()

        with HostileServer(until(where, stall)) as server:
            running = program("connect", **stranger(*server.address))
            running.wait_for("begin")
            os.read(pipe[0], 1)
            check_interrupt(running, running.interrupt())
            running.finish()
            server.wait()  # the connection was closed
    finally:
        for end in pipe:
            os.close(end)


def test_while_a_bastion_dials(
    program: Callable[..., Program], bastion: Sshd, full_backlog: FullBacklog
) -> None:
    """Ctrl-C ends the wait for a bastion that waits itself; the bastion's connection works on."""
    options = stranger(full_backlog.host, full_backlog.port)
    running = program("connect", before=[login(bastion)], **options)
    running.wait_for("begin")
    bastion.wait_for_log("direct-tcpip")
    check_interrupt(running, running.interrupt())
    assert running.wait_for("alive") == "yes"
    # The second one, if it is there already, answers for the idle bastion.
    assert running.wait_for("threads") in ("1", "2")
    running.finish()


def test_mute_behind_a_bastion(
    program: Callable[..., Program], bastion: Sshd, mute_listener: MuteListener
) -> None:
    """Ctrl-C ends an inner handshake; the bastion's connection works on."""
    options = stranger(mute_listener.host, mute_listener.port)
    running = program("connect", before=[login(bastion)], **options)
    running.wait_for("begin")
    with mute_listener.accept():
        check_interrupt(running, running.interrupt())
        assert running.wait_for("alive") == "yes"
        running.finish()


@pytest.mark.parametrize("group", [False, True], ids=["process", "group"])
@pytest.mark.parametrize("hops", [0, 1], ids=["direct", "jump"])
def test_during_a_command(
    program: Callable[..., Program], bastion: Sshd, target: Sshd, group: bool, hops: int
) -> None:
    """Ctrl-C ends the wait for a command, kills it, and the next command in `finally` works."""
    running = program("execute", before=[login(bastion)][:hops], **login(target))
    running.wait_for("begin")
    target.wait_for_log("Starting session: command")
    check_interrupt(running, running.interrupt(group=group))
    assert running.wait_for("alive") == "yes"
    assert running.wait_for("threads") == "1"
    running.finish()


def test_a_storm_of_interrupts(program: Callable[..., Program], target: Sshd) -> None:
    """Hundreds of interrupts at random moments neither block nor disturb anybody's command."""
    rounds = 3000 if LONG else 200
    chance = random.Random(20)
    running = program("storm", rounds=rounds, **login(target))
    for number in range(rounds):
        assert int(running.wait_for("ready")) == number
        # Not to wait for something: to hit another moment each time.
        select.select([], [], [], chance.random() * 0.008)
        running.interrupt()
    assert running.wait_for("alive") == "yes"
    assert json.loads(running.wait_for("wrong")) == []
    assert int(running.wait_for("calls")) > rounds // 2
    running.finish()


def test_a_thousand_alarms(program: Callable[..., Program], target: Sshd) -> None:
    """A timer's signal that comes a thousand times during 64 MiB of transfers changes nothing."""
    running = program("alarms", **login(target))
    assert running.wait_for("same") == "True"
    assert int(running.wait_for("ticks")) >= 1000
    running.finish()


@pytest.mark.parametrize("threads", [0, 2])
def test_an_interrupt_at_every_place(target: Sshd, threads: int) -> None:
    """Wherever in our code an interrupt strikes, nobody hangs and the next command works."""
    arguments = [json.dumps(login(target)), str((1 if LONG else 5) * (1 + threads)), str(threads)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.timeouts.interrupted_everywhere", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    *wrong, last = done.stdout.splitlines()
    assert wrong == []
    hits = int(last.removeprefix("hits "))
    if threads:  # how many there are depends on how often a neighbour does the waiting for us
        assert hits > (20 if LONG else 5)
    else:
        assert hits > (100 if LONG else 20)
