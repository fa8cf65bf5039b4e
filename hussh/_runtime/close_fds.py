"""Closes descriptors so that no interrupt comes between the close and forgetting the number.

`tcp.py` and `wakeup_fd.py`, which own descriptors in the main thread, use it. A number that is
closed and not forgotten may be another file's by the time of the next close; one that is forgotten
and not closed stays open.
"""

from __future__ import annotations

import os
from collections import deque

__all__ = ["close_fds"]


def close_fds(owned: list[int]) -> None:
    """Close the descriptors and take each out of the list, from the last one on.

    Taking out and closing is one step of C. After an interrupt the list has what is still open, and
    a second call goes on.
    """
    deque(map(os.close, map(list.pop, [owned] * len(owned))), maxlen=0)
