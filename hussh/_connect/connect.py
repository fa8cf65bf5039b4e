"""Connecting, for the sync driver: the way from a route to an authenticated session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from .._policy.options import Options
from .._protocol.connect import Stage
from .._protocol.core import DeadlineExceeded, Op
from .._runtime.idle_thread import ended, join, tend
from .._runtime.thread_driver import Stream, ThreadDriver
from .._runtime.workers import call_within
from ..errors import ConnectError, HusshError
from .hop import Hop, Way
from .proxy_command import proxy_started, start_proxy
from .tcp import dial

__all__ = ["Session", "connect"]

T = TypeVar("T")


class Session(Hop[ThreadDriver]):
    """One hop, from when its byte stream exists, for threads."""

    def tend(self, interval: float) -> None:
        tend(self, interval)

    def untend(self) -> None:
        ended()

    def run(self, op: Op[T], deadline: float | None, phase: str) -> T:
        """Run an operation; its errors say on which hop, and in which phase if they do not know."""
        try:
            self.check_open()
            return self.driver.run(op, deadline)
        except HusshError as error:
            shown_error = self.failed(error, phase)
            try:
                raise shown_error from shown_error.__cause__
            finally:
                del shown_error  # whose traceback holds this frame, and so the output
        finally:
            op.close()

    def call(self, op: Op[T], seconds: float | None, phase: str) -> T:
        """`run` within a time limit; raises CommandTimeout when that is over."""
        try:
            return self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            raise self.command_timeout(f"{round((seconds or 0) * 1000)} ms", phase) from None

    def close(self) -> None:
        """End this session and the bastions made for it; never raises.

        Waits for nothing but a proxy command that is slow to end, a second at most, and
        after the last connection for the end of the idle thread, which takes no time.
        """
        self.end()
        join()


def connect(
    hops: Sequence[Options], bastion: Session | None, timeout: float | None, time_limit: str
) -> Session:
    """Connect hop by hop; the last one's session is the result.

    Args:
        hops: what each hop needs, in the order of travel, the target last.
        bastion: a session that carries the first of them, or None to dial it.
        timeout: seconds for everything together; None: no limit.
        time_limit: how an error words that limit.

    Raises:
        ConnectTimeout, and whatever `dial`, `start_proxy` and `bring_up` raise.
    """
    deadline = None if timeout is None else monotonic() + timeout
    way: Way[Session, ThreadDriver] = Way(Session, hops, bastion)
    try:
        _load(way, deadline)
        if bastion is None:
            _take_root(way, _open_stream(way.stages[0], deadline))
        assert way.driver is not None  # noqa: S101  (of the bastion, or started just now)
        way.driver.run(way.bring_up(), deadline)
        return way.arrived()
    except BaseException as error:
        shown_error = error
        try:
            if isinstance(error, HusshError | DeadlineExceeded):
                shown_error = way.failed(error, time_limit)
                if way.story is not None:
                    way.story.failed(shown_error)
                    way.story.flush()
        finally:
            way.undo()
            join()
        try:
            if isinstance(error, DeadlineExceeded):
                raise shown_error from None
            if isinstance(error, HusshError):
                raise shown_error from shown_error.__cause__
            raise
        finally:
            del shown_error  # whose traceback holds this frame


def _load(way: Way[Session, ThreadDriver], deadline: float | None) -> None:
    """What is recorded of host keys, in files that may lie where nothing answers."""
    if way.is_loaded():
        return
    if deadline is None:
        way.load()
        return
    try:
        call_within(partial(way.load, deadline - monotonic()), deadline)
    except TimeoutError:
        if monotonic() < deadline:
            raise
        raise DeadlineExceeded("hostkey") from None


def _open_stream(stage: Stage, deadline: float | None) -> Stream:
    options = stage.options
    story = stage.place.story
    if options.proxy_command is None:
        return dial(options.host, options.port, deadline, story)
    stage.place.enter("proxy")
    try:
        # Not here: an interrupt would strike between the process and whoever owns it.
        stream: Stream = call_within(partial(start_proxy, options.proxy_command), deadline)
    except TimeoutError:
        raise DeadlineExceeded from None
    if story is not None:
        story.carried(*proxy_started(options.proxy_command))
    return stream


def _take_root(way: Way[Session, ThreadDriver], stream: Stream) -> None:
    try:
        way.start_in(ThreadDriver(stream))
    except BaseException as error:
        if way.stages[0].link is None:  # else `undo` closes it
            stream.close()
        if isinstance(error, OSError):  # its `WakeupFd` needs a descriptor
            options = way.stages[0].options
            raise ConnectError(
                f"cannot use the connection to {options.host} port {options.port}: {error.strerror}"
            ) from error
        raise
