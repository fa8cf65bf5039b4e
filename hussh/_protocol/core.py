"""What an operation is: a generator that steps without waiting and yields what it waits for.

Theory of operation.  An operation (`Op`) looks at its link or channel; if what
it wants is not there yet it yields `WaitFor(thing)` and is resumed after
something happened to that thing.  It then looks again: a resumption promises
nothing, so every wait stands in a loop.  Work that may block (an agent's
socket, a slow key, the user's prompt) is yielded as `RunBlocking(call)`, and its
result comes back from the yield.  The driver holds the tree's lock while an
operation runs and lets it go while the operation waits, so between a look and
the wait after it nothing can be missed.

Deadlines, Ctrl-C and cancellation reach an operation as an exception at the
yield.  It may catch it to clean up and to add what it knows, but must not wait
again except for `RunBlocking` of its own making: clean-up is only queueing.

Operations know no threads, clocks or event loops; a test steps them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from .._native.link import Channel, Link, Ticket

__all__ = ["RunBlocking", "DeadlineExceeded", "Wait", "Op", "WaitFor"]

T = TypeVar("T")


@dataclass(frozen=True)
class WaitFor:
    """Resume me after something happened to this link or channel, or my turn has come."""

    of: Link | Channel | Ticket


@dataclass(frozen=True)
class RunBlocking:
    """Call this where blocking harms nobody; its result or exception is the yield's.

    `seconds_left` tells the call its time limit, None for no limit.  A driver that
    gives up a call which runs in another thread calls `abort`, to end it soon.

    A call that runs on while its operation is cancelled may use what that one's
    clean-up closes, so a moment is spent to let it end first, but for those that
    wait for others, `detachable` ones.

    Calls with the same `dedupe_key` (by identity) are made one after another, where several
    threads would make them.  `in_caller`: the sync API makes the call in its caller's
    own thread, because it is the user's function, or keeps `seconds_left` by itself.
    Others are abandoned when their time is over: what they return is closed then, if
    it has `close`.  `cached` tells what the call would return if that is known
    without blocking, None if not; asked after another's call with that `dedupe_key`.
    """

    call: Callable[[float | None], Any]
    detachable: bool = False
    abort: Callable[[], None] | None = None
    dedupe_key: object | None = None
    in_caller: bool = False
    cached: Callable[[], Any] | None = None


Wait = WaitFor | RunBlocking
Op = Generator[Wait, Any, T]


class DeadlineExceeded(Exception):
    """Thrown into an operation by its driver when its time is over; never leaves hussh.

    `phase` is what took too long, where only the raiser knows; `program_text` is what the
    stream's own program had to say until then; `waiting` is who else kept us
    waiting, where it was not the peer; `banner` tells of the server's login banner.
    """

    program_text = waiting = banner = ""
    #: SFTP requests that the server had not answered.
    unanswered = 0

    def __init__(self, phase: str | None = None) -> None:
        super().__init__(phase)
        self.phase = phase
