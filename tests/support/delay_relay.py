"""Carries packets between two tun devices and holds each for a while; see ``delay.py``.

Usage: delay_relay.py FD FD. A line on stdin is the new delay in seconds, and is repeated on stdout
when it holds. Ends with stdin.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque

PACKET = 65536


def main() -> None:
    """Carry packets until stdin ends."""
    near, far = (int(argument) for argument in sys.argv[1:3])
    held: dict[int, deque[tuple[float, bytes]]] = {near: deque(), far: deque()}
    other = {near: far, far: near}
    delay = 0.0
    poll = select.poll()
    for fd in (0, near, far):
        poll.register(fd, select.POLLIN)
    while True:
        now = time.monotonic()
        for fd, queue in held.items():
            while queue and queue[0][0] <= now:
                with contextlib.suppress(BlockingIOError):  # lost, as on any network
                    os.write(fd, queue.popleft()[1])
        due = [queue[0][0] for queue in held.values() if queue]
        # The kernel rounds up to its own ticks; poll knows only whole milliseconds.
        left = max(0.0, min(due) - time.monotonic()) * 1000 if due else None
        ready = poll.poll(left if left is None or left >= 1 else 0)
        for fd, _ in ready:
            if fd == 0:
                line = os.read(0, 100)
                if not line:
                    return
                delay = float(line)
                os.write(1, line)
                continue
            try:
                while True:
                    packet = os.read(fd, PACKET)
                    held[other[fd]].append((time.monotonic() + delay, packet))
            except BlockingIOError:
                pass


if __name__ == "__main__":
    main()
