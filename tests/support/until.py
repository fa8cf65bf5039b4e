"""Waiting for what another thread or process does, where nothing tells of it."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

PATIENCE = 60.0  # seconds
PAUSE = 0.01  # seconds


def until(true: Callable[[], object]) -> None:
    """Return as soon as it is true; it uses no connection, and fails the test in the end."""
    end = monotonic() + PATIENCE
    while not true():
        assert monotonic() < end, "it did not come true"
        sleep(PAUSE)
