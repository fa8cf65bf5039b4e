"""What a client process holds, and what its servers hold for it: the measures of ``scripts/soak``.

``scripts/chaos`` asks the same after each of its rounds. It counts only; it ends nothing.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from hussh._native._libssh2 import lib
from tests.support import idle_thread, leaks
from tests.support.processes import Process
from tests.support.streams import heap_in_use

#: Seconds that sessions and threads which are ending get.
GRACE = 10.0
_trim = getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)


class Held(NamedTuple):
    """What is held at one moment, when nothing runs.

    Attributes:
        memory, heap: bytes that are resident, and bytes that malloc has given out.
        blocks: Python's own memory blocks, about one for each object.
        links: links and channels that C holds.
        fds, threads, children, sessions: their numbers; sessions are processes of servers.
    """

    memory: int
    heap: int
    blocks: int
    links: int
    fds: int
    threads: int
    children: int
    sessions: int


#: Measures that must be as at the beginning whenever nothing runs.
EXACT = ("links", "fds", "threads", "children", "sessions")
#: Bytes, or blocks, that a whole run may add to the others.
ALLOWANCES = {"memory": 2 << 20, "heap": 256 << 10, "blocks": 2000}


class Census:
    """Counts what came since it was made; make it when the servers run."""

    def __init__(self, sessions: Callable[[], Iterable[Process]]) -> None:
        """Note what exists; ``sessions`` lists the processes that serve the client."""
        self._sessions = sessions
        self._before = leaks.take()

    def take(self) -> Held:
        """Return what is held, once what is ending has ended or its time is over."""
        self.settle()
        now = leaks.take()
        _trim(0)
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return Held(
            memory=pages * os.sysconf("SC_PAGE_SIZE"),
            heap=heap_in_use(collect=False),
            blocks=sys.getallocatedblocks(),
            links=int(lib.hussh_live()),
            fds=len(now.files),
            threads=len(now.threads),
            children=len(now.children),
            sessions=len(list(self._sessions())),
        )

    def settle(self) -> list[str]:
        """Wait until nothing is left of what was used; return a line for each thing that stays."""
        end = time.monotonic() + GRACE
        while True:
            gc.collect()
            idle_thread.settle()
            lines = leaks.take().minus(self._before).lines()
            lines += [f"session at a server: {process}" for process in self._sessions()]
            if lib.hussh_live():
                lines.append(f"{lib.hussh_live()} links or channels in C")
            if not lines or time.monotonic() > end:
                return lines
            time.sleep(0.01)
