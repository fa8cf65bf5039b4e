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
from .._runtime.async_driver import Tree
from .._runtime.async_single_flight import after_another
from .._runtime.async_workers import in_thread, to_the_end
from .._runtime.choose_driver import grow
from .._runtime.driver import Stream
from .._runtime.loop_tools import this_loop, until
from ..errors import HusshError, ProxyCommandError, ServerBusy
from .async_handshake_limits import in_turn
from .async_tcp import dial
from .handshake_limits import Pacer, Turn, mute
from .hop import Hop, Way
from .proxy_command import start_proxy

__all__ = ["AsyncSession", "connect"]

T = TypeVar("T")

#: Seconds that others at most wait for the server's first answer after a login.
CONFIRM = 2.0


class AsyncSession(Hop[Tree]):
    """One hop, from when its byte stream exists, for tasks of one event loop."""

    def tend(self, interval: float) -> None:
        self.tree.tend(self, interval)

    def untend(self) -> None:
        self.tree.ended()

    def collect(self) -> None:
        super().collect()
        if self.keepalive:
            self.untend()  # which waits for no lock, either

    async def run(self, op: Op[T], deadline: float | None, phase: str, *, ours: bool = False) -> T:
        """Run an operation; its errors say on which hop, and in which phase if they do not know.

        `ours`: as for `Tree.run`.
        """
        try:
            self.check_open()
            return await self.tree.run(op, deadline, ours=ours)
        except HusshError as error:
            told = await _ask(self.tree, error, partial(self.failed, error, phase))
            try:
                raise told from told.__cause__
            finally:
                del told  # whose traceback holds this frame, and so the output
        finally:
            op.close()

    async def call(self, op: Op[T], seconds: float | None, phase: str) -> T:
        """`run` within a time limit; raises CommandTimeout when that is over."""
        try:
            return await self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            raise self.late(f"{seconds or 0:g} s", phase) from None

    async def close(self) -> None:
        """End this session and the bastions made for it.

        Waits, even when cancelled, for a proxy command to end: a second at most.
        Raises RuntimeError in another loop than its own, unless that has ended.
        """
        if not self.closed:
            self.tree.check_closable()
        self.end()
        await self.tree.gone()


async def connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    pacer: Pacer | None = None,
    note: Callable[[ServerBusy], object] = lambda busy: None,
    begun: Callable[[Callable[[], Place]], object] = lambda where: None,
) -> AsyncSession:
    """Connect hop by hop; the last one's session is the result.

    Args:
        hops: what each hop needs, in the order of travel, the target last.
        bastion: a session that carries the first of them, or None to dial it.
        deadline: of `time.monotonic()`, for everything together; None: no limit.
        time_limit: how an error words that limit.
        pacer: says when each hop may begin; None: at once, and a refusal is an error.
        note: with a pacer, is told of each refusal.
        begun: is given what tells, from now on, which hop this is at.

    Raises:
        ServerBusy: see `in_turn`.
        ConnectTimeout, and whatever `dial`, `start_proxy` and `bring_up` raise.
    """
    with begun_now():
        return await _connect(hops, bastion, deadline, time_limit, pacer, note, begun)


async def _connect(
    hops: Sequence[Options],
    bastion: AsyncSession | None,
    deadline: float | None,
    time_limit: str,
    pacer: Pacer | None,
    note: Callable[[ServerBusy], object],
    begun: Callable[[Callable[[], Place]], object],
) -> AsyncSession:
    way: Way[AsyncSession, Tree] = Way(AsyncSession, hops, bastion)
    begun(lambda: way.current.place)
    try:
        if not way.is_loaded():
            with until(deadline, "hostkey"):
                loop, asked = this_loop(), monotonic()
                left = None if deadline is None else deadline - asked
                load = partial(in_thread, loop, partial(way.load, left))
                at_hand = partial(_loaded, way, asked)
                await after_another(loop, way.files(), at_hand, load)
        if pacer is None:
            tree = await _tree_of(way, deadline)
            await tree.run(way.bring_up(), deadline, ours=True)
            return way.arrived()
        for index, stage in enumerate(way.stages):
            await in_turn(
                pacer,
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
        told = error
        try:
            if isinstance(error, HusshError | DeadlineExceeded):
                told = await _ask(way.tree, error, partial(way.failed, error, time_limit))
        finally:
            way.undo()
            if way.tree is not None:
                await way.tree.gone()
        try:
            if isinstance(error, DeadlineExceeded):
                raise told from None
            if isinstance(error, HusshError):
                raise told from told.__cause__
            raise
        finally:
            del told  # whose traceback holds this frame, and so the tree


def _loaded(way: Way[AsyncSession, Tree], asked: float) -> bool | None:
    return way.is_loaded(asked) or None


async def _bring_up_one(
    way: Way[AsyncSession, Tree], index: int, deadline: float | None, turn: Turn
) -> None:
    tree = await _tree_of(way, deadline)
    try:
        await tree.run(way.bring_up_one(index), deadline, ours=True)
    except ServerBusy as error:
        if not index and way.stages[0].options.proxy_command and not error.server_text:
            told = await _ask(tree, error, partial(tree.explain, error))
            if not (turn.refused_before and _ended_well(told)):
                raise told from told.__cause__
        raise
    link, server = way.stages[index].link, way.servers[index]
    if link is not None and not turn.alone and server not in mute:
        end = monotonic() + CONFIRM
        # It is up, answer or not; what happens to it from now on its user will be told.
        try:
            await tree.run(confirm(link), end if deadline is None else min(end, deadline))
        except HusshError:
            pass
        except DeadlineExceeded:
            if monotonic() >= end:
                mute.add(server)
        turn.confirmed = True


def _ended_well(error: HusshError) -> bool:
    """Whether a proxy command ended as if it had done its work.

    Of a server that hangs up some, netcat among them, lose the last words, but not always.
    """
    return isinstance(error, ProxyCommandError) and error.exit_code == 0 and not error.stderr_tail


async def _take_back(way: Way[AsyncSession, Tree], index: int) -> None:
    tree = way.take_back(index)
    if tree is not None:
        await tree.gone()


async def _tree_of(way: Way[AsyncSession, Tree], deadline: float | None) -> Tree:
    """The tree that the way grows in: the bastion's, or one over a stream opened now."""
    if way.tree is None:
        await _take_root(way, await _open_stream(way.stages[0], deadline))
    assert way.tree is not None  # noqa: S101  (it has grown just now)
    way.tree.check_loop()
    return way.tree


async def _open_stream(stage: Stage, deadline: float | None) -> Stream:
    options = stage.options
    if options.proxy_command is None:
        return await dial(options.host, options.port, deadline)
    stage.place.phase = "proxy"
    start = partial(start_proxy, options.proxy_command)
    with until(deadline):
        stream: Stream = await in_thread(this_loop(), start, is_slow=True)
    return stream


async def _take_root(way: Way[AsyncSession, Tree], stream: Stream) -> None:
    try:
        way.grow(grow(stream))
    except BaseException:
        if way.stages[0].link is None:  # else `undo` closes it
            await to_the_end(this_loop(), stream.close)
        raise


async def _ask(
    tree: Tree | None,
    error: HusshError | DeadlineExceeded,
    tell: Callable[[], HusshError],
) -> HusshError:
    """Make an error tell more; in a thread where a proxy command may take its time for that."""
    if tree is None or not tree.slow or not isinstance(error, ConnectionError):
        return tell()
    told: HusshError = await in_thread(this_loop(), tell, is_slow=True)
    return told
