"""`call_in_time`: what the drivers share of calls that may block.

`thread_driver.py` and `async_driver.py` make the call between entering and leaving. Nothing here
waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic
from typing import Any

from .._protocol.core import DeadlineExceeded, RunBlocking
from .single_flight import one_at_a_time

__all__ = ["call_in_time"]


@contextmanager
def call_in_time(need: RunBlocking, deadline: float | None) -> Iterator[Callable[[], Any]]:
    """Yield the call to make, which calls that must not run at once take turns for.

    Raises:
        DeadlineExceeded: the time is over before the call, within it or after it. A late answer,
            such as a one-time code, is not spent.
    """
    left = None if deadline is None else deadline - monotonic()
    if left is not None and left <= 0:
        raise DeadlineExceeded
    try:
        yield partial(one_at_a_time, need.dedupe_key, partial(need.call, left), left)
    except TimeoutError:
        if deadline is not None and monotonic() >= deadline:
            raise DeadlineExceeded from None
        raise
    if deadline is not None and monotonic() >= deadline:
        raise DeadlineExceeded
