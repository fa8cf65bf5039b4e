"""Signals: the terminal's Ctrl-C, SIGPIPE in programs that want it, and interrupts of our own."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.proxy.commands import RELAY, connect, run_script, started
from tests.support.sshd import Sshd

ROOT = Path(__file__).parents[2]

CTRL_C = """
import fcntl, os, signal, sys, termios, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, if we run in the background
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from hussh import Connection
host, port, user, key, relay = sys.argv[1:6]
command = ["/bin/sh", "-c", 'cat | "$@" | cat', "sh", sys.executable, "-I", "-S", relay, "%h", "%p"]
connection = Connection(host, int(port), user, private_key=key, proxy_command=command)
try:
    connection.execute("sleep 100")
except KeyboardInterrupt:
    print("\\ninterrupted", flush=True)
finally:
    print("after:", connection.execute("echo alive").stdout.strip(), flush=True)
    connection.close()
    print("closed", flush=True)
"""

SIGPIPE = """
import os, signal, sys, threading
from hussh import Connection
host, port, user, key, relay, ack, how = sys.argv[1:8]
os.mkfifo(ack)
hits = []
if how == "default":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
elif how == "handler":
    signal.signal(signal.SIGPIPE, lambda *_: hits.append(1))
else:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    signal.raise_signal(signal.SIGPIPE)  # pends, and must go on pending
command = [sys.executable, "-I", "-S", relay, "%h", "%p", "--deaf", "--ack", ack]
connection = Connection(host, int(port), user, private_key=key, proxy_command=command)
print(connection.execute("echo hi").stdout.strip())
os.kill(connection._session.driver._stream._child.pid, signal.SIGUSR1)
with open(ack) as file:
    file.read()
try:
    connection.execute("true")
except ConnectionError as error:
    print(type(error).__name__, hits)
connection.close()
print(signal.SIGPIPE in signal.sigpending(),
      signal.SIGPIPE in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""


def _arguments(server: Sshd) -> list[str]:
    alice = server.alice
    return [server.host, str(server.port), alice.name, str(alice.key.path), RELAY[3]]


def _read_until(descriptor: int, word: bytes) -> bytes:
    """Read a terminal until a word or its end."""
    text = b""
    end = time.monotonic() + 30
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while word not in text:
        assert poll.poll(max(0.0, end - time.monotonic()) * 1000), text
        try:
            part = os.read(descriptor, 4096)
        except OSError:  # the other side is closed
            break
        text += part
    return text


def test_ctrl_c_at_the_terminal(target: Sshd) -> None:
    """It reaches the program but not its proxy: the clean-up still has a connection."""
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", CTRL_C, *_arguments(target)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        cwd=ROOT,
    ) as program:
        try:
            os.close(slave)
            target.wait_for_log("Starting session: command")
            os.write(master, b"\x03")
            text = _read_until(master, b"closed").decode()
        finally:
            program.wait(30)
            os.close(master)
    assert program.returncode == 0, text
    assert text.split()[-4:] == ["interrupted", "after:", "alive", "closed"]
    assert not started()


@pytest.mark.parametrize(
    ("how", "end"),
    [("default", "False False"), ("handler", "False False"), ("pending", "True True")],
)
def test_sigpipe(target: Sshd, tmp_path: Path, how: str, end: str) -> None:
    """A pipe that nobody reads is an error, not the end of a program that wants SIGPIPE."""
    done = run_script(SIGPIPE, *_arguments(target), tmp_path / "ack", how)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["hi", "ProxyCommandError []", end]


def test_interrupt_while_closing(target: Sshd) -> None:
    """Ctrl-C during the grace for SIGTERM is raised after it, and the command is gone by then."""
    connection = connect(target, [*RELAY, "--stubborn"])
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            connection.close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not started()


def test_interrupt_while_connecting(target: Sshd) -> None:
    """Ctrl-C while a command is silent ends it."""
    previous = signal.signal(signal.SIGALRM, _interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            connect(target, ["/bin/sh", "-c", "sleep 100 | sleep 100"])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not started()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
