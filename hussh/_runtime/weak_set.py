"""The members of a weak set to which other threads may add.

`fork.py`, `background_loops.py` and `child.py` look after all objects of a kind, at a fork or at
the interpreter's exit, and import it. It must not wait.
"""

from __future__ import annotations

import weakref
from typing import TypeVar

__all__ = ["list_members"]

Member = TypeVar("Member")


def list_members(things: weakref.WeakSet[Member]) -> list[Member]:
    """Return what is in the set now."""
    while True:
        try:
            return list(things)
        except RuntimeError:  # another thread adds one
            continue
