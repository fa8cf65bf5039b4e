"""What the client's own process suffers in ``scripts/chaos``: signals, forks, cancelling, limits.

Each is a context or a function for one round; afterwards the process is as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import resource
import signal
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anyio

from hussh import Connection
from hussh.errors import ConnectionClosed

from .chaos_calls import Calls

__all__ = ["cancelled_storm", "forks", "interrupts", "memory_limit", "signals"]

#: Rounds of works that are cut short.
STRIKES = 6
_CHILD_PATIENCE = 20  # seconds


@contextmanager
def signals(every: float) -> Iterator[None]:
    """Let a signal with a handler of Python's arrive every so many seconds."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def forks(calls: Calls, connection: Callable[[], Any], count: int) -> Iterator[None]:
    """Fork every now and then; the child may not use the connection, and must end."""
    over = threading.Event()

    def run() -> None:
        for _ in range(count):
            if over.wait(0.05):
                return
            told, tells = os.pipe()
            pid = os.fork()
            if not pid:
                _be_child(connection(), tells)
            os.close(tells)
            with open(told, "rb") as pipe:
                text = pipe.read().decode(errors="replace")
            _, status = os.waitpid(pid, 0)
            if status:
                calls.findings.append(f"a child of a fork ended with {status:#x}: {text}")
            else:
                calls.count("forked")

    thread = threading.Thread(target=run, name="forks")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _be_child(connection: Any, tells: int) -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(_CHILD_PATIENCE)
    status = 3
    try:
        if connection is None:
            status = 0
        elif isinstance(connection, Connection):
            connection.execute("true")
        else:
            asyncio.run(connection.execute("true"))
    except ConnectionClosed:  # ForkedConnectionError, or the parent had closed it
        status = 0
    except BaseException as error:
        os.write(tells, "".join(traceback.format_exception(error))[-3000:].encode())
        status = 4
    os._exit(status)


async def cancelled_storm(
    calls: Calls, dice: random.Random, works: Sequence[Callable[[], Coroutine[Any, Any, None]]]
) -> None:
    """Cancel all works at some moment, several times; each ends at once."""
    for _ in range(STRIKES):
        after = dice.uniform(0.0, 0.1)

        async def all_works(after: float = after) -> None:
            with anyio.move_on_after(after) as scope:
                async with anyio.create_task_group() as group:
                    for work in works:
                        group.start_soon(work)
            if scope.cancelled_caught:
                calls.count("cancelled")

        # A command that is left gets two seconds to end, but not if its task is cancelled.
        await calls("cancelled works", all_works, max(after, calls.limit))


def interrupts(calls: Calls, dice: random.Random, round_of_works: Callable[[], None]) -> None:
    """Interrupt all works at some moment, several times, as Ctrl-C does; then let them be whole."""

    def strike(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, strike)
    try:
        for _ in range(STRIKES):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, dice.uniform(0.001, 0.3))
                try:
                    round_of_works()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                continue
            calls.count("interrupted")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    round_of_works()


@contextmanager
def memory_limit(mebibytes: int) -> Iterator[None]:
    """Let this process have so much more memory than it has, and no more."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size + (mebibytes << 20), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
