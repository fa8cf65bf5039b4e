"""Taking turns in an event loop: waits for a `Turn`, tries, and tries again what was refused.

`loop_connect` imports it.  What a try does is the caller's; this knows no stream.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

import anyio

from .._protocol.core import DeadlineExceeded
from .._protocol.session import Place
from .._protocol.way import timed_out
from ..errors import ServerBusy
from .log import logger
from .loop import Loop, until
from .pacing import TRIES, Pacer, Server, Turn

__all__ = ["UNHEARD", "in_turn"]

#: Until here a server has not shown that it would take the handshake.
UNHEARD = ("queue", "dns", "connect", "proxy", "channel", "banner")

_log = logger.getChild("pacing")


async def in_turn(
    pacer: Pacer,
    server: Server,
    place: Place,
    deadline: float | None,
    time_limit: str,
    attempt: Callable[[Turn], Awaitable[None]],
    take_back: Callable[[], Awaitable[None]],
    note: Callable[[ServerBusy], object],
) -> None:
    """Bring a hop up when it is its turn, as often as it takes.

    Args:
        server, place: of the hop.
        deadline: of `time.monotonic()`; None: no limit, but `TRIES` tries.
        time_limit: how an error words it.
        attempt: brings the hop up; the turn is held meanwhile.
        take_back: undoes an attempt that was refused.
        note: is told of each refusal.

    Raises:
        ServerBusy: it was still refused when time was over (its cause is then the
            ConnectTimeout), or at the last try.
        DeadlineExceeded: time was over, and the server had refused nobody.
        Whatever else `attempt` raises, at once.
    """
    busy: ServerBusy | None = None
    tries = 0
    turn = pacer.turn(server)
    try:
        while True:
            place.phase = "queue"
            await _granted(turn, deadline)
            place.phase = "connect"
            tries += 1
            try:
                await attempt(turn)
            except ServerBusy as error:
                error.tries = tries
                busy = error
                turn.refused(busy)
            else:
                turn.succeeded()
                return
            note(busy)
            _log.debug("%s is too busy, try %d; next in %.2g s at the earliest",
                       place.hop, tries, turn.pause())  # fmt: skip
            if deadline is None and tries >= TRIES:
                raise busy
            await take_back()
            turn.ask()
    except DeadlineExceeded as late:
        if place.phase not in UNHEARD:
            raise
        refusal = _refusal(busy, turn)
        if refusal is None:
            raise
        refusal.tries = tries
        place.mark(refusal)
        raise refusal from timed_out(place, late, time_limit)
    finally:
        turn.give_back()


async def _granted(turn: Turn, deadline: float | None) -> None:
    with until(deadline):
        if not turn.granted:
            event, loop = anyio.Event(), Loop()
            turn.wake = lambda: loop.soon(event.set)
            if not turn.granted:
                await event.wait()
        while left := turn.pause():
            await anyio.sleep(left)


def _refusal(busy: ServerBusy | None, turn: Turn) -> ServerBusy | None:
    """Our own, or what others were told when they were refused last; None: nobody was."""
    if busy is not None:
        return copy.copy(busy)
    text = turn.refusing
    if text is None:
        return None
    said = f", saying: {text}" if text else ""
    return ServerBusy(
        "the server was too busy to be asked before the time was over; it refused others" + said,
        server_text=text,
    )
