"""Limits how long one system call of a waiting thread may take; the thread then calls again.

`thread_driver`, `workers`, `tcp` and all other code that waits in a thread import it.

A signal that comes in the last moment before a system call does not end that call. The handler that
Python runs for the signal, and with it a KeyboardInterrupt, waits until the call returns. Handlers
run in the main thread only, so the main thread returns from its system call from time to time.
Otherwise a Ctrl-C in that moment would have no effect until the peer sends something.
"""

from __future__ import annotations

import threading
from time import monotonic

__all__ = ["poll_timeout"]

LOOK_UP = 0.2
#: The most that system calls take.
LONGEST = 86_400.0


def poll_timeout(deadline: float | None) -> float:
    """Return the seconds to wait at once, until a `time.monotonic()` value or without limit."""
    longest = LOOK_UP if threading.current_thread() is threading.main_thread() else LONGEST
    return longest if deadline is None else min(max(0.0, deadline - monotonic()), longest)
