"""Connects for the async driver: from a route to an authenticated session.

`_api/async_connection.py` and `shared_session` call it; `connect.py` is its twin for threads. It
never blocks the loop, and contains no protocol: `_protocol/connect.py` is the operation that it
runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from .._policy.file_cache import begin_now
from .._policy.options import Options
from .._protocol.core import DeadlineExceeded, Op
from .._protocol.handshake import confirm
from .._runtime.async_driver import AsyncDriver
from .._runtime.async_single_flight import single_flight
from .._runtime.async_workers import run_in_thread, run_to_the_end
from .._runtime.choose_driver import start_driver
from .._runtime.keepalive import Keepalive, MakeBeats
from .._runtime.loop_tools import this_loop, until
from .._runtime.stream import Stream
from ..errors import HusshError, Phase, ProxyCommandError, ServerBusy
from .async_given_stream import close_async_given, wrap_async_given_stream
from .async_handshake_limits import with_permit
from .async_tcp import dial
from .connect_attempt import ConnectAttempt, raise_shown
from .handshake_limits import HandshakeLimiter, Permit, mute
from .hop import Hop
from .proxy_command import start_proxy
from .tcp import Origin

__all__ = ["AsyncSession", "Connecting", "connect"]

T = TypeVar("T")

#: Seconds that others at most wait for the server's first answer after a login.
CONFIRM = 2.0


class AsyncSession(Hop[AsyncDriver]):
    """One hop, from when its byte stream exists, for tasks of one event loop."""

    def tend(self, interval: float, make: MakeBeats = Keepalive) -> None:
        self.driver.tend(self, interval, make)

    def untend(self) -> None:
        self.driver.note_session_end()

    def collect(self) -> None:
        super().collect()
        if self.is_tended:
            self.untend()  # which waits for no lock, either

    async def run(
        self, op: Op[T], deadline: float | None, phase: Phase, *, step_in_loop: bool = False
    ) -> T:
        """Run an operation; its errors name the hop, and the phase if they do not know it.

        `step_in_loop` is as for `AsyncDriver.run`.
        """
        try:
            self.check_open()
            return await self.driver.run(op, deadline, step_in_loop=step_in_loop)
        except HusshError as error:
            shown_error = await _ask(self.driver, error, partial(self.make_error, error, phase))
            try:
                raise shown_error from shown_error.__cause__
            finally:
                del shown_error  # whose traceback holds this frame, and so the output
        finally:
            op.close()

    async def call(self, op: Op[T], seconds: float | None, phase: Phase) -> T:
        """Run an operation within a time limit; raise CommandTimeout when that is over."""
        try:
            return await self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            raise self.make_command_timeout(f"{seconds or 0:g} s", phase) from None

    async def close(self) -> None:
        """End this session and the bastions made for it.

        It waits, even when cancelled, for a proxy command to end: a second at most.

        Raises:
            RuntimeError: it is called in another loop than its own, unless that has ended.
        """
        if not self.closed:
            self.driver.check_closable()
        self.end()
        await self.driver.wait_gone()


#: A connection of this API in the making.
Connecting = ConnectAttempt[AsyncSession, AsyncDriver]


async def connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    limiter: HandshakeLimiter | None = None,
    note: Callable[[ServerBusy], object] = lambda busy: None,
    begun: Callable[[Connecting], object] = lambda attempt: None,
) -> AsyncSession:
    """Connect hop by hop; return the last one's session.

    Args:
        hops: the options of each hop, in the order of travel, the target last.
        bastion: a session that carries the first of them; None means that this one dials it.
        deadline: a `time.monotonic()` value for everything together; None means no limit.
        time_limit: the limit as errors word it.
        limiter: says when each hop may begin; with None each begins at once, and a refusal is
            an error.
        note: is called for each refusal, with a limiter.
        begun: is called with what tells, from now on, how far this is.

    Raises:
        ServerBusy: see `with_permit`.
        ConnectTimeout: the time was over.
        HusshError: what `dial`, `start_proxy` and `bring_up` raise.
    """
    with begin_now():
        session = None
        while session is None:  # a second time at most: see `ConnectAttempt.may_try_again`
            session = await _connect(hops, bastion, deadline, time_limit, limiter, note, begun)
        return session


async def _connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    limiter: HandshakeLimiter | None,
    note: Callable[[ServerBusy], object],
    begun: Callable[[Connecting], object],
) -> AsyncSession | None:
    """Connect; return None if it has to be tried again."""
    attempt: Connecting = ConnectAttempt(AsyncSession, hops, bastion)
    begun(attempt)
    try:
        if not attempt.is_loaded():
            with until(deadline, Phase.HOSTKEY):
                loop, asked = this_loop(), monotonic()
                left = None if deadline is None else deadline - asked
                load = partial(run_in_thread, loop, partial(attempt.load, left))
                cached = partial(_wait_loaded, attempt, asked)
                await single_flight(loop, attempt.files, cached, load)
        if limiter is None:
            driver = await _get_driver(attempt, deadline)
            await driver.run(attempt.bring_up(), deadline, step_in_loop=True)
            return attempt.take_target()
        for index, hop in enumerate(attempt.hops):
            await with_permit(
                limiter,
                attempt.servers[index],
                hop,
                deadline,
                time_limit,
                partial(_bring_up_one, attempt, index, deadline),
                partial(_take_back, attempt, index),
                note,
            )
        return attempt.take_target()
    except BaseException as error:
        shown_error = error
        again = isinstance(error, HusshError) and attempt.may_try_again()
        try:
            if again:
                pass
            elif isinstance(error, HusshError | DeadlineExceeded):
                shown_error = await _ask(
                    attempt.driver, error, partial(attempt.make_error, error, time_limit)
                )
                if attempt.story is not None:
                    attempt.story.note_failure(shown_error)
                    await run_in_thread(this_loop(), attempt.story.flush, is_slow=True)
            elif isinstance(error, Exception):
                attempt.note_place(error)
        finally:
            attempt.undo()
            if attempt.given is not None:
                await close_async_given(attempt.given)
            if attempt.driver is not None:
                await attempt.driver.wait_gone()
        try:
            if again:
                return None
            raise_shown(error, shown_error)
        finally:
            del shown_error  # whose traceback holds this frame, and so the tree


def _wait_loaded(attempt: Connecting, asked: float) -> bool | None:
    return attempt.is_loaded(asked) or None


async def _bring_up_one(
    attempt: Connecting, index: int, deadline: float | None, permit: Permit
) -> None:
    driver = await _get_driver(attempt, deadline)
    try:
        await driver.run(attempt.bring_up_one(index), deadline, step_in_loop=True)
    except ServerBusy as error:
        if not index and attempt.hops[0].options.proxy_command and not error.server_text:
            shown_error = await _ask(driver, error, partial(driver.explain, error))
            if not (permit.refused_before and _has_ended_well(shown_error)):
                raise shown_error from shown_error.__cause__
        raise
    link, server = attempt.hops[index].link, attempt.servers[index]
    if link is not None and not permit.alone and server not in mute:
        end = monotonic() + CONFIRM
        # It is up, answer or not: later errors are raised by the operations of its user.
        try:
            await driver.run(confirm(link), end if deadline is None else min(end, deadline))
        except HusshError:
            pass
        except DeadlineExceeded:
            if monotonic() >= end:
                mute.add(server)
        permit.confirmed = True


def _has_ended_well(error: HusshError) -> bool:
    """Tell whether a proxy command ended as if it had done its work.

    Some, netcat among them, lose the last bytes of a server that hangs up, but not always.
    """
    return isinstance(error, ProxyCommandError) and error.exit_code == 0 and not error.stderr_tail


async def _take_back(attempt: Connecting, index: int) -> None:
    driver = attempt.take_back(index)
    if driver is not None:
        await driver.wait_gone()


async def _get_driver(attempt: Connecting, deadline: float | None) -> AsyncDriver:
    """Return the tree that the hops are in: the bastion's, or one over a stream opened now."""
    if attempt.driver is None:
        await _take_root(attempt, await _open_stream(attempt, deadline))
    assert attempt.driver is not None  # noqa: S101  (it was started just now)
    attempt.driver.check_loop()
    return attempt.driver


async def _open_stream(attempt: Connecting, deadline: float | None) -> Stream:
    if attempt.given is not None:
        stream = wrap_async_given_stream(attempt.given)
        attempt.given = None
        return stream
    argv = attempt.begin_proxy()
    if argv is None:
        first = attempt.hops[0]
        options = first.options
        return await dial(options.host, options.port, deadline, first.story, Origin.of(options))
    with until(deadline):
        child: Stream = await run_in_thread(this_loop(), partial(start_proxy, argv), is_slow=True)
    attempt.note_proxy_began()
    return child


async def _take_root(attempt: Connecting, stream: Stream) -> None:
    try:
        attempt.start_in(start_driver(stream))
    except BaseException:
        if attempt.hops[0].link is None:  # else `undo` closes it
            await run_to_the_end(this_loop(), stream.close)
        raise


async def _ask(
    driver: AsyncDriver | None,
    error: HusshError | DeadlineExceeded,
    tell: Callable[[], HusshError],
) -> HusshError:
    """Let an error tell more; in a thread, if a proxy command may take its time for that."""
    if driver is None or not driver.slow or not isinstance(error, ConnectionError):
        return tell()
    shown_error: HusshError = await run_in_thread(this_loop(), tell, is_slow=True)
    return shown_error
