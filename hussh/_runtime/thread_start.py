"""Starts daemon threads, but none while the interpreter ends.

`workers`, `idle_thread`, `background_loops` and all others that start a thread import it. CPython
up to 3.11 frees the state of a thread that another thread started in its last moment, and the new
thread crashes the process when it begins. So the exit waits until threads that are being started
have begun, and from then on `start_thread` refuses. This module imports nothing of hussh, so that
its exit handler is registered before the others and runs after them.
"""

from __future__ import annotations

import atexit
import os
import threading
from time import monotonic, sleep

__all__ = ["NoThread", "start_thread"]

#: Seconds that the exit waits for threads that are being started.
LAST_MOMENT = 0.5
_NAP = 0.0005

#: What a user can do about it.
REMEDY = "raise the limit of processes and threads (ulimit -u, pids.max of a cgroup) or of memory"


class NoThread(RuntimeError):
    """The system has no thread to give; what is tried again later may get one."""


# No lock: a signal handler or finalizer may start a thread in the midst of starting one.
_starting: set[threading.Thread] = set()
_is_exiting = False


def start_thread(thread: threading.Thread) -> None:
    """Start a daemon thread.

    Raises:
        NoThread: the system has no more threads, or no memory for one.
        RuntimeError: the interpreter ends.
    """
    _starting.add(thread)  # before the look: the exit sets its mark first, and looks here then
    try:
        if _is_exiting:
            raise RuntimeError("no thread is started while the interpreter ends")
        try:
            thread.start()
        except RuntimeError as error:
            if thread.ident is not None:  # it was started before
                raise
            raise NoThread(f"{error}: {REMEDY}") from error
    finally:
        _starting.discard(thread)


def _end_at_exit() -> None:
    """Let no thread be between its creation and its first step when thread states are freed."""
    global _is_exiting
    _is_exiting = True
    end = monotonic() + LAST_MOMENT
    while _starting and monotonic() < end:
        sleep(_NAP)


atexit.register(_end_at_exit)
os.register_at_fork(after_in_child=_starting.clear)
