"""How long one system call of a waiting thread may take; whoever has time left calls again.

Whoever waits in a thread imports it.

A signal that comes in the last moment before a system call does not end that
call: the handler that Python runs for it, and with it a KeyboardInterrupt, waits
until the call returns.  Handlers run in the main thread only, so that one looks
up from time to time; else a Ctrl-C in that moment would go unnoticed until the
peer speaks.
"""

from __future__ import annotations

import threading
from time import monotonic

__all__ = ["poll_timeout"]

LOOK_UP = 0.2
#: The most that system calls take.
LONGEST = 86_400.0


def poll_timeout(deadline: float | None) -> float:
    """Seconds to wait at once, until a `time.monotonic()` value or without limit."""
    longest = LOOK_UP if threading.current_thread() is threading.main_thread() else LONGEST
    return longest if deadline is None else min(max(0.0, deadline - monotonic()), longest)
