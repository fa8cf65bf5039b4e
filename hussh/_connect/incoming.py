"""Channels that a server opens towards us: each goes to what was asked for, or is refused.

`forwarding` and `agent_forwarding` use it: remote forwards and loans of the ssh-agent register
here, one `Incoming` for each link. Everything runs with the tree's lock held, and nothing blocks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Protocol

from .._native.link import Link
from .._native.local_end import get_next_offer, take_offers
from .._policy.forwarding import Address
from .._protocol.core import Op, WaitFor
from .._protocol.tunnel import (
    AUTH_AGENT,
    PROHIBITED,
    Offer,
    Unclaimed,
    give_back,
    read_offer,
    refuse_offer,
)
from .._runtime.background import Task

__all__ = ["EARLY_KEPT", "Incoming", "Tally"]

_log = logging.getLogger("hussh.tunnels")

#: Connections that are kept until a server has said for which of its ports they are.
EARLY_KEPT = 100


class Tally:
    """Tells of what a peer may repeat without end: the 1st, the 10th, the 100th time, and so on."""

    def __init__(self) -> None:
        self._count = 0
        self._next = 1

    def warn(self, text: str, *values: object) -> None:
        """Log a warning, or only count it."""
        self._count += 1
        if self._count < self._next:
            return
        self._next *= 10
        if self._count > 1:
            text += f" ({self._count} times so far)"
        _log.warning(text, *values)


class RemoteForward(Protocol):
    """A remote forward, as it is known here."""

    address: Address

    def carry(self, offer: Offer) -> None:
        """Take a connection that came to the server."""


class Incoming:
    """The channels that a server opens towards one link, and the forwards that they belong to.

    Attributes:
        forwards: those that the server has granted.
    """

    def __init__(self, link: Link, start: Callable[[Op[None]], Task]) -> None:
        self.forwards: list[RemoteForward] = []
        #: A port that was asked for, and whose asker has gone before the answer came.
        self.unclaimed = Unclaimed()
        self._link = link
        self._start = start
        self._task: Task | None = None
        self._asking = 0
        self._loans: list[Any] = []  # of the ssh-agent; see `agent_forwarding`
        self._early: list[Offer] = []  # for a forward whose port we do not know yet
        self._unasked, self._not_lent = Tally(), Tally()

    def ask(self) -> None:
        """Note that a forward is asked for: connections may come before the answer was seen."""
        self._asking += 1
        self._listen()

    def lend(self, loan: Any) -> None:
        """Accept channels to the agent, as long as the loan is open."""
        self._loans = [one for one in self._loans if one.is_open]
        self._loans.append(loan)
        self._listen()

    def _listen(self) -> None:
        take_offers(self._link, True)
        if self._task is None or self._task.is_over:
            self._task = self._start(self._serve())

    def note_answer(self) -> None:
        """Note that the answer was seen."""
        self._asking -= 1
        if not self._asking and not self._link.dead:
            early, self._early = self._early, []
            for offer in early:
                self._answer(offer)

    def _serve(self) -> Op[None]:
        try:
            while not self._link.dead:
                give_back(self._link, self.unclaimed)
                while (message := get_next_offer(self._link)) is not None:
                    self._answer(read_offer(message))
                yield WaitFor(self._link)
        except KeyboardInterrupt:
            self._task = self._start(self._serve())  # the program decides what ends
            raise

    def _answer(self, offer: Offer) -> None:
        if offer.kind == AUTH_AGENT:
            self._loans = [one for one in self._loans if one.is_open]
            if self._loans:
                self._loans[-1].carry(offer)
                return
            self._not_lent.warn(
                "the server asked for the ssh-agent, which no session lends it: refused"
            )
            refuse_offer(self._link, offer, PROHIBITED)
            return
        for forward in self.forwards:
            if offer.is_for(forward.address):
                forward.carry(offer)
                return
        if self._asking and offer.at is not None and len(self._early) < EARLY_KEPT:
            self._early.append(offer)
            return
        self._unasked.warn("the server opened a channel (%r) that nobody asked for", offer.kind)
        refuse_offer(self._link, offer, PROHIBITED)
