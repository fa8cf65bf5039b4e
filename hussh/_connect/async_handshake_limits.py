"""Waits for a `Permit` in an event loop, tries, and tries again what was refused.

`async_connect` and `shared_session` import it. The caller decides what a try does; this module
knows no stream.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

import anyio

from .._protocol.connect import make_timeout_error
from .._protocol.core import DeadlineExceeded
from .._protocol.handshake import HopAttempt
from .._runtime.loop_tools import this_loop, until
from ..errors import Phase, ServerBusy
from .handshake_limits import TRIES, HandshakeLimiter, Permit, Server
from .log import logger

__all__ = ["UNHEARD", "with_permit"]

#: Until here a server has not shown that it would take the handshake.
UNHEARD = (Phase.QUEUE, Phase.DNS, Phase.CONNECT, Phase.PROXY, Phase.CHANNEL, Phase.BANNER)

_log = logger.getChild("pacing")


async def with_permit(
    limiter: HandshakeLimiter,
    server: Server,
    hop: HopAttempt,
    deadline: float | None,
    time_limit: str,
    attempt: Callable[[Permit], Awaitable[None]],
    take_back: Callable[[], Awaitable[None]],
    note: Callable[[ServerBusy], object],
) -> None:
    """Bring a hop up while it holds a permit, as often as it takes.

    Args:
        server: the server of the hop.
        deadline: a `time.monotonic()` value; None means no limit, but `TRIES` tries.
        time_limit: the limit as errors word it.
        attempt: brings the hop up; the permit is held meanwhile.
        take_back: undoes an attempt that was refused.
        note: is called for each refusal.

    Raises:
        ServerBusy: it, or others at that server, were still refused when the time was over (its
            cause is then the ConnectTimeout) or, without a limit, after so many tries.
        DeadlineExceeded: the time was over, and the server had refused nobody.
        HusshError: whatever else `attempt` raises, at once.
    """
    busy: ServerBusy | None = None
    tries = 0
    permit = limiter.make_permit(server)
    try:
        while True:
            hop.enter(Phase.QUEUE)
            await _wait_granted(permit, deadline)
            if deadline is None and permit.hopeless:
                raise hop.mark(_make_refusal(busy, permit, tries))
            hop.enter(Phase.CONNECT)
            tries += 1
            try:
                await attempt(permit)
            except ServerBusy as error:
                error.tries = tries
                busy = error
                permit.note_refusal(busy)
            else:
                permit.note_success()
                return
            note(busy)
            _log.debug("%s is too busy, try %d; next in %.2g s at the earliest",
                       hop.endpoint.hop, tries, permit.get_pause())  # fmt: skip
            if deadline is None and tries >= TRIES:
                raise busy
            await take_back()
            permit.ask()
    except DeadlineExceeded as timeout_error:
        if hop.phase not in UNHEARD:
            raise
        if busy is None and not permit.refusing:
            raise
        refusal = hop.mark(_make_refusal(busy, permit, tries))
        raise refusal from make_timeout_error(hop.endpoint, hop.phase, timeout_error, time_limit)
    finally:
        permit.give_back()


async def _wait_granted(permit: Permit, deadline: float | None) -> None:
    if permit.granted and not permit.get_pause():
        return
    with until(deadline):
        if not permit.granted:
            event, loop = anyio.Event(), this_loop()
            permit.wake = lambda: loop.call_soon(event.set)
            if not permit.granted:
                await event.wait()
        while left := permit.get_pause():
            if deadline is None and permit.hopeless:
                return
            await anyio.sleep(left)


def _make_refusal(busy: ServerBusy | None, permit: Permit, tries: int) -> ServerBusy:
    """Return our own refusal, or one with the text that others got when they were refused last."""
    if busy is not None:
        own = copy.copy(busy)
        own.tries = tries
        return own
    text = permit.server_text
    server_text = f", saying: {text}" if text else ""
    return ServerBusy(
        f"the server is too busy: it refused others{server_text}, and this one was not tried",
        server_text=text,
        tries=tries,
    )
