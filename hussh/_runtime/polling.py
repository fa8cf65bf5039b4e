"""`select.poll`, or where a program has patched that away, the same over `select.select`.

Whoever waits in a thread imports it.  eventlet takes `poll` out of the module `select`
and makes `select` give other green threads their turn; gevent has both.  So it is
looked for anew each time: a program may patch after it has imported us.
"""

from __future__ import annotations

import select
from typing import Any, Protocol

__all__ = ["Poll", "new_poll"]


class Poll(Protocol):
    """What we need of a polling object; see `select.poll`."""

    def register(self, fd: int, eventmask: int = ..., /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...


def new_poll() -> Poll:
    make: Any = getattr(select, "poll", _Select)
    poll: Poll = make()
    return poll


class _Select:
    """Polls by `select.select`: an end or an error counts as input, or as room for output."""

    def __init__(self) -> None:
        self._wanted: dict[int, int] = {}

    def register(self, fd: int, eventmask: int = select.POLLIN | select.POLLOUT, /) -> None:
        self._wanted[fd] = eventmask

    def unregister(self, fd: int, /) -> None:
        del self._wanted[fd]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """Which of them are ready; `timeout` in milliseconds."""
        reading = [fd for fd, events in self._wanted.items() if events & select.POLLIN]
        writing = [fd for fd, events in self._wanted.items() if events & select.POLLOUT]
        seconds = None if timeout is None else max(0.0, timeout / 1000)
        ready = dict.fromkeys(self._wanted, 0)
        readable, writable, _ = select.select(reading, writing, [], seconds)
        for fd in readable:
            ready[fd] |= select.POLLIN
        for fd in writable:
            ready[fd] |= select.POLLOUT
        return [(fd, events) for fd, events in ready.items() if events]
