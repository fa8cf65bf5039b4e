"""Connects for the sync driver: from a route to an authenticated session.

`_api/connection.py` calls it; `async_connect.py` is its twin for tasks. It contains no protocol:
`_protocol/connect.py` is the operation that it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import TypeVar

from .._policy.options import Options
from .._protocol.core import DeadlineExceeded, Op
from .._runtime.idle_thread import join, note_session_end, tend
from .._runtime.keepalive import Keepalive, MakeBeats
from .._runtime.stream import Stream
from .._runtime.thread_driver import ThreadDriver
from .._runtime.workers import call_within
from ..errors import ConnectError, HusshError, Phase
from .connect_attempt import ConnectAttempt, raise_shown
from .given_stream import close_given, wrap_given_stream
from .hop import Hop
from .proxy_command import start_proxy
from .tcp import Origin, dial

__all__ = ["Session", "connect"]

T = TypeVar("T")


class Session(Hop[ThreadDriver]):
    """One hop, from when its byte stream exists, for threads."""

    def tend(self, interval: float, make: MakeBeats = Keepalive) -> None:
        tend(self, interval, make)

    def untend(self) -> None:
        note_session_end()

    def run(self, op: Op[T], deadline: float | None, phase: Phase) -> T:
        """Run an operation; its errors name the hop, and the phase if they do not know it."""
        try:
            self.check_open()
            return self.driver.run(op, deadline)
        except HusshError as error:
            shown_error = self.make_error(error, phase)
            try:
                raise shown_error from shown_error.__cause__
            finally:
                del shown_error  # whose traceback holds this frame, and so the output
        finally:
            op.close()

    def call(self, op: Op[T], seconds: float | None, phase: Phase) -> T:
        """Run an operation within a time limit; raise CommandTimeout when that is over."""
        try:
            return self.run(op, None if seconds is None else monotonic() + seconds, phase)
        except DeadlineExceeded:
            raise self.make_command_timeout(f"{round((seconds or 0) * 1000)} ms", phase) from None

    def close(self) -> None:
        """End this session and the bastions made for it; never raises.

        It waits only for a proxy command that is slow to end, a second at most, and after the last
        connection for the end of the idle thread, which takes no time.
        """
        self.end()
        join()


def connect(
    hops: Sequence[Options], bastion: Session | None, timeout: float | None, time_limit: str
) -> Session:
    """Connect hop by hop; return the last one's session.

    Args:
        hops: the options of each hop, in the order of travel, the target last.
        bastion: a session that carries the first of them; None means that this one dials it.
        timeout: seconds for everything together; None means no limit.
        time_limit: the limit as errors word it.

    Raises:
        ConnectTimeout: the time was over.
        HusshError: what `dial`, `start_proxy` and `bring_up` raise.
    """
    deadline = None if timeout is None else monotonic() + timeout
    session = None
    while session is None:  # a second time at most: see `ConnectAttempt.may_try_again`
        session = _connect(hops, bastion, deadline, time_limit)
    return session


def _connect(
    hops: Sequence[Options], bastion: Session | None, deadline: float | None, time_limit: str
) -> Session | None:
    """Connect; return None if it has to be tried again."""
    attempt: ConnectAttempt[Session, ThreadDriver] = ConnectAttempt(Session, hops, bastion)
    try:
        _load(attempt, deadline)
        if bastion is None:
            _take_root(attempt, _open_stream(attempt, deadline))
        assert attempt.driver is not None  # noqa: S101  (of the bastion, or started just now)
        attempt.driver.run(attempt.bring_up(), deadline)
        return attempt.take_target()
    except BaseException as error:
        shown_error = error
        again = isinstance(error, HusshError) and attempt.may_try_again()
        try:
            if again:
                pass
            elif isinstance(error, HusshError | DeadlineExceeded):
                shown_error = attempt.make_error(error, time_limit)
                if attempt.story is not None:
                    attempt.story.note_failure(shown_error)
                    attempt.story.flush()
        finally:
            attempt.undo()
            if attempt.given is not None:
                close_given(attempt.given)
            join()
        try:
            if again:
                return None
            raise_shown(error, shown_error)
        finally:
            del shown_error  # whose traceback holds this frame


def _load(attempt: ConnectAttempt[Session, ThreadDriver], deadline: float | None) -> None:
    """Load what is recorded of host keys, from files on mounts that may not answer."""
    if attempt.is_loaded():
        return
    if deadline is None:
        attempt.load()
        return
    try:
        call_within(partial(attempt.load, deadline - monotonic()), deadline)
    except TimeoutError:
        if monotonic() < deadline:
            raise
        raise DeadlineExceeded(Phase.HOSTKEY) from None


def _open_stream(attempt: ConnectAttempt[Session, ThreadDriver], deadline: float | None) -> Stream:
    if attempt.given is not None:
        stream = wrap_given_stream(attempt.given)
        attempt.given = None
        return stream
    argv = attempt.begin_proxy()
    if argv is None:
        first = attempt.hops[0]
        options = first.options
        return dial(options.host, options.port, deadline, first.story, Origin.of(options))
    try:
        # Not in this thread: an interrupt could come between the process and its owner.
        child: Stream = call_within(partial(start_proxy, argv), deadline)
    except TimeoutError:
        raise DeadlineExceeded from None
    attempt.note_proxy_began()
    return child


def _take_root(attempt: ConnectAttempt[Session, ThreadDriver], stream: Stream) -> None:
    try:
        attempt.start_in(ThreadDriver(stream))
    except BaseException as error:
        if attempt.hops[0].link is None:  # else `undo` closes it
            stream.close()
        if isinstance(error, OSError):  # its `WakeupFd` needs a descriptor
            options = attempt.hops[0].options
            raise ConnectError(
                f"cannot use the connection to {options.host} port {options.port}: {error.strerror}"
            ) from error
        raise
