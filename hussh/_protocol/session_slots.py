"""`SessionSlots`: how many sessions a server gives on one link, and who waits for one.

Servers limit the sessions of a connection (MaxSessions of sshd). `channel.py` opens sessions and
learns the limit from refusals. Links know nothing of it. They keep a `SessionSlots` for as long as
they live, and wake those who hold a `Ticket`. Nothing here waits.
"""

from __future__ import annotations

import itertools
from functools import partial

from .._native.channel import Channel
from .._native.link import Link

__all__ = ["SessionSlots", "Ticket"]


class Ticket:
    """A place in the queue of those who wait for a session of a link."""

    __slots__ = ("token",)
    _tokens = itertools.count(-1, -1)  # those of C are positive

    def __init__(self) -> None:
        self.token: int = next(self._tokens)


class SessionSlots:
    """The sessions of one link. It holds no link, because the link holds it.

    Attributes:
        used: sessions under way that end by themselves.
        ended: sessions that have ended by themselves so far.
        limit: how many sessions the server was seen to allow, or None if that is not known.
        may_linger: whether the server may not have cleared the places of sessions that we closed.
    """

    def __init__(self) -> None:
        self.used = self.ended = 0
        self.limit: int | None = None
        self.may_linger = False
        self._queue: dict[Ticket, None] = {}

    @classmethod
    def of(cls, link: Link) -> SessionSlots:
        """Return the slots of a link."""
        slots: SessionSlots | None = link.attached.get(cls)
        if slots is None:
            slots = link.attached[cls] = cls()
        return slots

    def release(self, link: Link, *, refused: bool = False) -> None:
        """Give one of `used` back, and wake those who wait for it."""
        self.used -= 1
        self.ended += not refused
        if self._queue:
            link.notify()

    def watch(self, channel: Channel, *, is_counted: bool) -> None:
        """Learn when the channel of a session is freed; `is_counted`: it is one of `used`."""
        channel.on_freed = self._note_counted_freed if is_counted else self._note_freed

    def _note_freed(self, link: Link) -> None:
        self.may_linger = True

    def _note_counted_freed(self, link: Link) -> None:
        self.may_linger = True
        self.release(link)

    @property
    def is_full(self) -> bool:
        """Whether the server is known to take no more sessions now."""
        return self.limit is not None and self.used >= self.limit

    def queue_up(self, link: Link) -> Ticket:
        """Return a ticket to wait for until the slots are not full; it needs a `leave_queue`.

        Waiters for the link itself would all be woken at the end of every session.
        """
        ticket = Ticket()
        self._queue[ticket] = None
        link.root.callers[link.token] = partial(self._call_tickets, link)
        return ticket

    def leave_queue(self, link: Link, ticket: Ticket) -> None:
        """Give a ticket back, used or not."""
        del self._queue[ticket]
        if self._queue:
            link.notify()  # the turn of this ticket may have come, and was not taken
        else:
            del link.root.callers[link.token]

    def _call_tickets(self, link: Link) -> list[int]:
        """Return the tokens of the tickets whose turn has come: no more than there are slots."""
        if link.dead or self.limit is None:
            return [ticket.token for ticket in self._queue]
        free = max(0, self.limit - self.used)
        return [ticket.token for ticket in itertools.islice(self._queue, free)]
