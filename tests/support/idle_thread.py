"""Waiting until the idle thread of hussh rests, so that what it holds for a moment is let go.

For tests that count descriptors or threads. It looks into `hussh._runtime.idle_thread`.
"""

from __future__ import annotations

import os
import time

from hussh._runtime import idle_thread as idle

PATIENCE = 20.0  # seconds


def settle() -> None:
    """Return once the thread has done what it was at, and has ended if nobody needs it."""
    thread = idle._current
    runner = None if thread is None else thread.runner
    if thread is not None and runner is not None:
        end = time.monotonic() + PATIENCE
        for _ in range(2):  # the first may have woken it together with an fd, which it then serves
            seen = thread.wakeups
            thread.wakeup.wake()
            while thread.wakeups == seen and runner.is_alive():
                assert time.monotonic() < end, "the idle thread does not come back"
                os.sched_yield()
    idle.join()
