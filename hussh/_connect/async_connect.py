"""Connecting, for the async driver: the way from a route to an authenticated session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from .._policy.file_cache import begun_now
from .._policy.options import Options
from .._protocol.connect import Stage
from .._protocol.core import DeadlineExceeded, Op
from .._protocol.handshake import Place, confirm
from .._runtime.async_driver import AsyncDriver
from .._runtime.async_single_flight import single_flight
from .._runtime.async_workers import in_thread, to_the_end
from .._runtime.choose_driver import start_driver
from .._runtime.driver import Stream
from .._runtime.loop_tools import this_loop, until
from ..errors import HusshError, ProxyCommandError, ServerBusy
from .async_handshake_limits import with_permit
from .async_tcp import dial
from .handshake_limits import HandshakeLimiter, Permit, mute
from .hop import Hop, Way
from .proxy_command import proxy_started, start_proxy

__all__ = ["AsyncSession", "connect"]

T = TypeVar("T")

#: Seconds that others at most wait for the server's first answer after a login.
CONFIRM = 2.0


class AsyncSession(Hop[AsyncDriver]):
    """One hop, from when its byte stream exists, for tasks of one event loop."""

    def tend(self, interval: float) -> None:
        self.driver.tend(self, interval)

    def untend(self) -> None:
        self.driver.ended()

    def collect(self) -> None:
        super().collect()
        if self.keepalive:
            self.untend()  # which waits for no lock, either

    async def run(
        self, op: Op[T], deadline: float | None, phase: str, *, step_in_loop: bool = False
    ) -> T:
        """Run an operation; its errors say on which hop, and in which phase if they do not know.

        `step_in_loop`: as for `AsyncDriver.run`.
        """
        try:
            self.check_open()
            return await self.driver.run(op, deadline, step_in_loop=step_in_loop)
        except HusshError as error:
            shown_error = await _ask(self.driver, error, partial(self.failed, error, phase))
            try:
                raise shown_error from shown_error.__cause__
            finally:
                del shown_error  # whose traceback holds this frame, and so the output
        finally:
            op.close()

    async def call(self, op: Op[T], seconds: float | None, phase: str) -> T:
        """`run` within a time limit; raises CommandTimeout when that is over."""
        try:
            return await self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            raise self.command_timeout(f"{seconds or 0:g} s", phase) from None

    async def close(self) -> None:
        """End this session and the bastions made for it.

        Waits, even when cancelled, for a proxy command to end: a second at most.
        Raises RuntimeError in another loop than its own, unless that has ended.
        """
        if not self.closed:
            self.driver.check_closable()
        self.end()
        await self.driver.gone()


async def connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    limiter: HandshakeLimiter | None = None,
    note: Callable[[ServerBusy], object] = lambda busy: None,
    begun: Callable[[Callable[[], Place]], object] = lambda where: None,
) -> AsyncSession:
    """Connect hop by hop; the last one's session is the result.

    Args:
        hops: what each hop needs, in the order of travel, the target last.
        bastion: a session that carries the first of them, or None to dial it.
        deadline: of `time.monotonic()`, for everything together; None: no limit.
        time_limit: how an error words that limit.
        limiter: says when each hop may begin; None: at once, and a refusal is an error.
        note: with a limiter, is told of each refusal.
        begun: is given what tells, from now on, which hop this is at.

    Raises:
        ServerBusy: see `with_permit`.
        ConnectTimeout, and whatever `dial`, `start_proxy` and `bring_up` raise.
    """
    with begun_now():
        return await _connect(hops, bastion, deadline, time_limit, limiter, note, begun)


async def _connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    limiter: HandshakeLimiter | None,
    note: Callable[[ServerBusy], object],
    begun: Callable[[Callable[[], Place]], object],
) -> AsyncSession:
    way: Way[AsyncSession, AsyncDriver] = Way(AsyncSession, hops, bastion)
    begun(lambda: way.current.place)
    try:
        if not way.is_loaded():
            with until(deadline, "hostkey"):
                loop, asked = this_loop(), monotonic()
                left = None if deadline is None else deadline - asked
                load = partial(in_thread, loop, partial(way.load, left))
                cached = partial(_loaded, way, asked)
                await single_flight(loop, way.files(), cached, load)
        if limiter is None:
            driver = await _driver_of(way, deadline)
            await driver.run(way.bring_up(), deadline, step_in_loop=True)
            return way.arrived()
        for index, stage in enumerate(way.stages):
            await with_permit(
                limiter,
                way.servers[index],
                stage.place,
                deadline,
                time_limit,
                partial(_bring_up_one, way, index, deadline),
                partial(_take_back, way, index),
                note,
            )
        return way.arrived()
    except BaseException as error:
        shown_error = error
        try:
            if isinstance(error, HusshError | DeadlineExceeded):
                shown_error = await _ask(way.driver, error, partial(way.failed, error, time_limit))
                if way.story is not None:
                    way.story.failed(shown_error)
                    await in_thread(this_loop(), way.story.flush, is_slow=True)
        finally:
            way.undo()
            if way.driver is not None:
                await way.driver.gone()
        try:
            if isinstance(error, DeadlineExceeded):
                raise shown_error from None
            if isinstance(error, HusshError):
                raise shown_error from shown_error.__cause__
            raise
        finally:
            del shown_error  # whose traceback holds this frame, and so the tree


def _loaded(way: Way[AsyncSession, AsyncDriver], asked: float) -> bool | None:
    return way.is_loaded(asked) or None


async def _bring_up_one(
    way: Way[AsyncSession, AsyncDriver], index: int, deadline: float | None, permit: Permit
) -> None:
    driver = await _driver_of(way, deadline)
    try:
        await driver.run(way.bring_up_one(index), deadline, step_in_loop=True)
    except ServerBusy as error:
        if not index and way.stages[0].options.proxy_command and not error.server_text:
            shown_error = await _ask(driver, error, partial(driver.explain, error))
            if not (permit.refused_before and _ended_well(shown_error)):
                raise shown_error from shown_error.__cause__
        raise
    link, server = way.stages[index].link, way.servers[index]
    if link is not None and not permit.alone and server not in mute:
        end = monotonic() + CONFIRM
        # It is up, answer or not; what happens to it from now on its user will be told.
        try:
            await driver.run(confirm(link), end if deadline is None else min(end, deadline))
        except HusshError:
            pass
        except DeadlineExceeded:
            if monotonic() >= end:
                mute.add(server)
        permit.confirmed = True


def _ended_well(error: HusshError) -> bool:
    """Whether a proxy command ended as if it had done its work.

    Of a server that hangs up some, netcat among them, lose the last words, but not always.
    """
    return isinstance(error, ProxyCommandError) and error.exit_code == 0 and not error.stderr_tail


async def _take_back(way: Way[AsyncSession, AsyncDriver], index: int) -> None:
    driver = way.take_back(index)
    if driver is not None:
        await driver.gone()


async def _driver_of(way: Way[AsyncSession, AsyncDriver], deadline: float | None) -> AsyncDriver:
    """The tree that the way grows in: the bastion's, or one over a stream opened now."""
    if way.driver is None:
        await _take_root(way, await _open_stream(way.stages[0], deadline))
    assert way.driver is not None  # noqa: S101  (it was started just now)
    way.driver.check_loop()
    return way.driver


async def _open_stream(stage: Stage, deadline: float | None) -> Stream:
    options = stage.options
    story = stage.place.story
    if options.proxy_command is None:
        return await dial(options.host, options.port, deadline, story)
    stage.place.enter("proxy")
    start = partial(start_proxy, options.proxy_command)
    with until(deadline):
        stream: Stream = await in_thread(this_loop(), start, is_slow=True)
    if story is not None:
        story.carried(*proxy_started(options.proxy_command))
    return stream


async def _take_root(way: Way[AsyncSession, AsyncDriver], stream: Stream) -> None:
    try:
        way.start_in(start_driver(stream))
    except BaseException:
        if way.stages[0].link is None:  # else `undo` closes it
            await to_the_end(this_loop(), stream.close)
        raise


async def _ask(
    driver: AsyncDriver | None,
    error: HusshError | DeadlineExceeded,
    tell: Callable[[], HusshError],
) -> HusshError:
    """Make an error tell more; in a thread where a proxy command may take its time for that."""
    if driver is None or not driver.slow or not isinstance(error, ConnectionError):
        return tell()
    shown_error: HusshError = await in_thread(this_loop(), tell, is_slow=True)
    return shown_error
