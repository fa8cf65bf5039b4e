"""What this process has seen of each server, so that the next connection needs fewer round trips.

`connect_attempt.py` finds the `ServerMemory` of each server (its address and the way to it). The
operations of `_protocol` ask it and tell it. It holds no secret, is never written to a file, and
never decides which algorithms are offered or in which order.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Hashable

__all__ = ["ServerMemory", "get_memory"]

#: Servers that are remembered; beyond it the one that was asked for longest ago is forgotten.
MOST = 4096


class ServerMemory:
    """What was seen of one server.

    Attributes:
        bears_early: whether no connection has ended because a channel was opened behind a
            login request that had no answer yet.
        bears_queries: whether no connection has ended where several keys of the agent were asked
            about at once, one of which would do.
        logins: the user names and methods that were enough, each alone, to log in.
        gives_sessions: whether it has given a session to anybody.
        bears_spare: whether no spare session was refused, or closed before it was used.
    """

    __slots__ = ("bears_early", "bears_queries", "logins", "gives_sessions", "bears_spare")

    def __init__(self) -> None:
        self.bears_early = True
        self.bears_queries = True
        self.logins: set[tuple[str, str]] = set()
        self.gives_sessions = False
        self.bears_spare = True


_known: OrderedDict[Hashable, ServerMemory] = OrderedDict()


def get_memory(server: Hashable) -> ServerMemory:
    """Return the memory of a server: the same object in every thread."""
    # Each of these calls is one step for other threads.
    memory = _known.setdefault(server, ServerMemory())
    with contextlib.suppress(KeyError):  # another thread may have forgotten it just now
        _known.move_to_end(server)
        if len(_known) > MOST:
            _known.popitem(last=False)
    return memory
