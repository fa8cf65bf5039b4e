"""Ctrl-C while a proxy command starts or ends: neither pipes nor processes are left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = os.environ.get("HUSSH_LONG") == "1"

# The moments are random, because a signal that comes in a long call of C is handled right after it.
SCRIPT = """
import gc, json, os, random, signal, sys, time
from hussh import Connection, HusshError
rounds, command = int(sys.argv[1]), sys.argv[2]
# A timer rather than a thread: threads' own start and join do not bear an interrupt.
signal.signal(signal.SIGALRM, signal.default_int_handler)
chance = random.Random(7)
hits = 0
def held():
    return len(os.listdir("/proc/self/fd"))
def children():
    tasks = os.listdir("/proc/self/task")
    return [pid for task in tasks for pid in open(f"/proc/self/task/{task}/children")]
before = held()
for number in range(rounds):
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.00001 + chance.random() * 0.01)
        try:
            limit = number % 2 * 30000
            Connection("h", 22, "u", password="p", proxy_command=command, timeout=limit)
        except HusshError:
            pass
        time.sleep(1)  # a signal that no finalizer took comes
    except KeyboardInterrupt:
        hits += 1
gc.collect()
deadline = time.monotonic() + 20
# A worker may still be starting the program that nobody waits for, or ending it.
while (children() or held() > before) and time.monotonic() < deadline:
    time.sleep(0.01)
print(json.dumps([hits, held() - before, children()]))
"""


#: How lines begin that CPython writes where an interrupt strikes within a finalizer.
IGNORED = ("Exception ignored in", "Traceback", "  ", "KeyboardInterrupt")


@pytest.mark.parametrize("command", ["exec sleep 1000", "exit 0"], ids=["starts", "ends"])
def test_nothing_is_left(command: str) -> None:
    """Hundreds of interrupts, at any moment of a proxy command's life, leave nothing behind."""
    rounds = 2000 if LONG else 80
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(rounds), command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    # An interrupt may come while a finalizer runs, and CPython tells of it then.
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith(IGNORED)]
    assert (done.returncode, lines) == (0, [])
    hits, held, children = json.loads(done.stdout)
    lost = sum(line.startswith("KeyboardInterrupt") for line in done.stderr.splitlines())
    assert (hits + lost, children) == (rounds, [])
    assert held <= lost  # a finalizer that was interrupted closes nothing
