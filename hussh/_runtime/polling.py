"""`select.poll`, or the same over `select.select` in programs that have patched it away.

`thread_driver`, `idle_thread`, `tcp` and all other code that polls in a thread import it. eventlet
takes `poll` out of the module `select` and makes `select` let other green threads run; gevent has
both. `poll` is looked up anew each time, because a program may patch after it has imported hussh.
Nothing here imports either of the two.
"""

from __future__ import annotations

import select
import sys
from typing import Any, Protocol

__all__ = ["Poll", "get_eventlet_poll", "make_poll"]


class Poll(Protocol):
    """The part of a polling object that we need; see `select.poll`."""

    def register(self, fd: int, eventmask: int = ..., /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]: ...


def make_poll() -> Poll:
    make: Any = getattr(select, "poll", _Select)
    poll: Poll = make()
    return poll


def get_eventlet_poll() -> Poll | None:
    """Return the `poll` that eventlet has taken away, None where it has not.

    It knows no green threads: all of them stand still while it waits.
    """
    patcher: Any = sys.modules.get("eventlet.patcher")
    if patcher is None or hasattr(select, "poll"):
        return None
    poll: Poll = patcher.original("select").poll()
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
        """Return those that are ready; `timeout` is in milliseconds."""
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
