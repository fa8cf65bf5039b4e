"""Defines operations: generators that step without waiting and yield what they wait for.

Theory of operation. An operation (`Op`) looks at its link or channel. If what it wants is not there
yet, it yields `WaitFor(thing)` and is resumed after something happened to that thing. It then looks
again: a resumption promises nothing, so every wait stands in a loop. An operation yields work that
may block (an agent's socket, a slow key, the user's prompt) as `RunBlocking(call)`, and the result
comes back from the yield. Long work of its own is cut by `Checkpoint`s, where the driver checks the
time limit. The driver holds the tree's lock while an operation runs and releases it while the
operation waits. So nothing can be missed between a look and the wait after it. A `RunBlocking` or
`Checkpoint` may stand between the two: if anything came meanwhile, the driver does not wait but
resumes the operation at once.

Deadlines, Ctrl-C and cancellation reach an operation as an exception at the yield. The operation
may catch it to clean up and to add what it knows. It must not wait again, except for a
`RunBlocking` of its own making: clean-up only queues messages.

Every module of `_protocol` imports this one, and the drivers of `_runtime` run what they yield.
Operations know no threads, clocks or event loops; a test steps them by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, TypeVar

from .._native.channel import Channel
from .._native.link import Link
from .._native.local_end import LocalEnd
from ..errors import Phase
from .session_slots import Ticket

__all__ = ["Checkpoint", "RunBlocking", "DeadlineExceeded", "Wait", "Op", "WaitFor"]

T = TypeVar("T")


class WaitFor(NamedTuple):
    """A request to be resumed after something happened to a link or channel, or a ticket is due."""

    of: Link | Channel | Ticket | LocalEnd


class RunBlocking(NamedTuple):
    """A request to make a call where blocking does no harm; the yield returns or raises its result.

    `seconds_left` tells the call its time limit; None means no limit. A driver that abandons a call
    in another thread calls `abort`, to end it soon.

    A call that runs on while its operation is cancelled may use what the clean-up closes. So the
    driver gives it a moment to end first, unless it waits for others (`detachable`).

    Calls with the same `dedupe_key` (by identity) are made one after another, if several threads
    would make them. With `in_caller` the sync API makes the call in its caller's own thread,
    because it is the user's function or observes `seconds_left` by itself. Other calls are
    abandoned when their time is over, and what they return then is closed if it has `close`.
    `cached` returns what the call would return if that is known without blocking, and None
    otherwise; it is asked after another call with that `dedupe_key`.
    """

    call: Callable[[float | None], Any]
    detachable: bool = False
    abort: Callable[[], None] | None = None
    dedupe_key: object | None = None
    in_caller: bool = False
    cached: Callable[[], Any] | None = None


class Checkpoint(NamedTuple):
    """A request to be resumed soon, within the time limit; other operations may have a turn."""


Wait = WaitFor | RunBlocking | Checkpoint
Op = Generator[Wait, Any, T]


class DeadlineExceeded(Exception):
    """Thrown into an operation by its driver when its time is over; it never leaves hussh.

    `phase` is what took too long, if only the raiser knows. `program_text` is what the stream's own
    program had written until then. `waiting` names what kept the operation waiting, if it was not
    the peer. `banner` is the server's login banner.
    """

    program_text = waiting = banner = ""
    #: Number of SFTP requests that the server had not answered.
    unanswered = 0

    def __init__(self, phase: Phase | None = None) -> None:
        super().__init__(phase)
        self.phase = phase
