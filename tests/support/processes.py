"""Looking at and ending processes that the tests started, through /proc and pidfds.

For ``tests/support`` and tests. Never ends a process by name, never waits by sleeping.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

# What a helper daemon may inherit. Everything else (HOME, SSH_*, the leak detector's mark) would
# tie a server that many tests share to the test that happened to start it.
_INHERITED = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "ASAN_OPTIONS")


class Process(NamedTuple):
    """One line of the process table: ``state`` is the letter of /proc/PID/stat (Z: zombie)."""

    pid: int
    parent: int
    state: str
    argv: tuple[str, ...]

    def __str__(self) -> str:
        """Return the form used in failure messages."""
        return f"pid {self.pid} ({self.state}): {' '.join(self.argv) or '?'}"


def clean_environment(**more: str) -> dict[str, str]:
    """Return a small environment for a helper process, plus ``more``."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    kept["LC_ALL"] = "C.UTF-8"
    kept["PATH"] = f"{kept.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin".lstrip(":")
    return {**kept, **more}


def read_process(pid: int) -> Process | None:
    """Return the process table entry of ``pid``, or None if it is gone."""
    directory = Path("/proc") / str(pid)
    try:
        stat = (directory / "stat").read_text(errors="replace")
        arguments = (directory / "cmdline").read_bytes()
    except OSError:
        return None
    # The name stands in parentheses and may itself hold spaces and parentheses.
    name, _, rest = stat.partition("(")[2].rpartition(")")
    state, parent = rest.split()[:2]
    argv = tuple(part.decode(errors="replace") for part in arguments.split(b"\0") if part)
    return Process(pid, int(parent), state, argv or (f"[{name}]",))


def all_processes() -> list[Process]:
    """Return every process that this process can see, in no particular order."""
    found = (read_process(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [process for process in found if process is not None]


def children_of(pid: int) -> list[Process]:
    """Return the direct children of ``pid``, zombies included."""
    found = (read_process(child) for child in _child_pids(pid))
    return [process for process in found if process is not None]


def _child_pids(pid: int) -> list[int]:
    # The kernel's own list, where it keeps one: reading all of /proc costs ten times as much.
    if not os.path.exists("/proc/thread-self/children"):
        return [process.pid for process in all_processes() if process.parent == pid]
    pids: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is gone
        for task in os.listdir(f"/proc/{pid}/task"):
            pids += _children_of_task(Path(f"/proc/{pid}/task/{task}/children"))
    return pids


def _children_of_task(path: Path) -> list[int]:
    # One that ends meanwhile may hide its neighbour (proc(5)), but hardly twice in the same way.
    before, text = None, path.read_text()
    while text and text != before:
        before, text = text, path.read_text()
    return [int(child) for child in text.split()]


def descendants_of(pid: int) -> list[Process]:
    """Return everything that ``pid`` started and that was not orphaned since, nearest first."""
    found: list[Process] = []
    queue = [pid]
    while queue:
        offspring = children_of(queue.pop(0))
        found += offspring
        queue += [process.pid for process in offspring]
    return found


def wait_gone(pids: Iterable[int], timeout: float) -> list[int]:
    """Wait up to ``timeout`` seconds until each process has ended; return those still running.

    A zombie counts as ended: whose business it is to reap it is for the caller to judge.
    """
    deadline = time.monotonic() + timeout
    running = []
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poller = select.poll()
            poller.register(handle, select.POLLIN)
            left = max(0.0, deadline - time.monotonic())
            if not poller.poll(left * 1000):
                running.append(pid)
        finally:
            os.close(handle)
    return running


def kill_all(pids: Iterable[int]) -> None:
    """Send SIGKILL to each process that still exists."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
