"""The SFTP session of a connection: opened when first needed, shared, and replaced when broken.

Theory of operation. `SftpSession.step` moves what can be moved without waiting: it starts the
subsystem, feeds what arrived into the machine and sends what the machine queued. Every operation
calls it before it looks for its reply and before it waits. So each operation that runs serves all,
and one that is cancelled leaves the others nothing to repair. Only one operation opens the channel,
because it may have to wait for room (`open_session`); the others wait for that one.

A session that broke (protocol violation, end of the stream, an interrupt in the middle of a step)
fails all operations that wait in it. The channel is closed, which also wakes them. The next
operation begins a new session. The connection goes on.

`ops.py` and all other operations over SFTP get the session here. Nothing here knows files or local
paths.
"""

from __future__ import annotations

import contextlib
from typing import Protocol

from ..._native.channel import Channel
from ..._native.constants import ChannelState
from ..._native.link import Link
from ..._policy.sftp_server import ServerLimits
from ..._policy.wire import string
from ...errors import (
    ChannelRefused,
    ConnectionClosed,
    HusshError,
    SFTPError,
    SFTPUnavailable,
    printable,
)
from ..channel import open_session, retry_until_heard, was_unheard
from ..core import Checkpoint, DeadlineExceeded, Op, Wait, WaitFor
from .machine import LONGEST, Machine
from .request import Request
from .wire import Malformed

__all__ = ["LinkOpener", "Opener", "Pipe", "SFTP_WINDOW", "SftpState", "SftpSession",
           "wait", "wait_for_input", "wait_until_done"]  # fmt: skip

#: What the server may send ahead of our reading: bandwidth x round-trip time of a long, fast way.
SFTP_WINDOW = 16 * 1024 * 1024
STDERR_KEPT = 4096
#: Bytes of messages, but for data, after which a step takes in no more: about 20 ms of work.
PARSED_AT_ONCE = 64 * 1024
_STEP_AGAIN = Checkpoint()
#: How many of OpenSSH's ten sessions may be stuck, besides the present one.
LEFT_MAX = 3


class Pipe(Protocol):
    """A byte stream to an SFTP server; nothing here waits."""

    def open_further(self) -> bool:
        """Go on with the opening; return whether it is done.

        Raises:
            SFTPUnavailable: the server refused.
        """

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes; return how many, which may be 0."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer with what has come; return the number of bytes, which may be 0."""

    def await_message(self, rest: int) -> None:
        """Note that all was read: `get_wait` is for a whole message, or for the `rest` of one."""

    def explain_end(self) -> str | None:
        """Return why nothing more will come, after all was read; None if more may come."""

    def check(self) -> None:
        """Raise the error of a connection that is dead."""

    def get_wait(self) -> Wait:
        """Return what to wait for."""

    def close(self) -> None:
        """End the stream; `get_wait` is met soon."""


class Opener(Protocol):
    """Opens pipes to one server."""

    def open(self) -> Op[Pipe]:
        """Open a new pipe.

        Raises:
            SFTPUnavailable: the server refused.
        """

    def get_wait(self) -> Wait:
        """Return what to wait for while another operation opens a pipe."""

    def notify(self) -> None:
        """Let the operations that wait for that look again."""


class LinkOpener:
    """Opens session channels on a link, and tells `server` whether that is OpenSSH."""

    def __init__(self, link: Link, server: ServerLimits | None = None) -> None:
        self.link = link
        self.server = server or ServerLimits()

    def open(self) -> Op[Pipe]:
        try:
            channel = yield from retry_until_heard(self._ask)
        except ChannelRefused as error:
            raise SFTPUnavailable(f"no session for SFTP: {error.text}") from error
        self.server.sshd_is_openssh = "-OpenSSH" in (self.link.banner or "")
        return ChannelPipe(channel)

    def _ask(self, may_repeat: bool) -> Op[Channel | None]:
        """Return a channel that the server has answered or closed; see `retry_until_heard`."""
        channel = yield from open_session(self.link, window=SFTP_WINDOW)
        try:
            if not channel.get_info().closed:
                channel.request(b"subsystem", string(b"sftp"), want_reply=True)
            # Some servers end the whole connection for data before this answer.
            while not ((info := channel.get_info()).replies or info.closed):
                self.link.check()
                yield WaitFor(channel)
            channel.widen(SFTP_WINDOW)  # it may be a spare session
        except BaseException:
            channel.free()
            raise
        if may_repeat and was_unheard(channel):
            channel.free()
            return None
        return channel

    def get_wait(self) -> Wait:
        return WaitFor(self.link)

    def notify(self) -> None:
        self.link.notify()


class ChannelPipe:
    """The SFTP subsystem on a session channel (RFC 4254 section 6.5)."""

    def __init__(self, channel: Channel) -> None:
        self.link = channel.link
        self.channel = channel
        self._need = WaitFor(channel)
        self._open = False
        self._stderr = b""

    def open_further(self) -> bool:
        if self._open:
            return True
        info = self.channel.get_info()
        if info.state == ChannelState.DEAD:
            raise SFTPUnavailable("the connection was lost")
        if info.replies:
            if info.failures & 1:
                raise SFTPUnavailable("the server offers no SFTP (it refused the subsystem)")
            self._open = True
        elif info.closed:
            raise SFTPUnavailable("the server offers no SFTP (it closed the channel)")
        return self._open

    def write(self, data: bytes | bytearray | memoryview) -> int:
        info = self.channel.get_info()
        return 0 if info.closed else self.channel.write(data)

    def read_into(self, buffer: memoryview) -> int:
        return self.channel.read_into(0, buffer)

    def await_message(self, rest: int) -> None:
        self.channel.await_message(rest, LONGEST)

    def explain_end(self) -> str | None:
        info = self.channel.get_info()
        if info.rx_err:
            self._stderr = (self._stderr + self.channel.read(1, int(info.rx_err)))[-STDERR_KEPT:]
        if info.state == ChannelState.DEAD:
            return "the connection was lost"
        if not (info.eof or info.closed) or info.rx:
            return None
        stderr_text = printable(self._stderr.decode("utf-8", "replace"), STDERR_KEPT)
        reason = "the server ended the SFTP session"
        if info.exit_known == 1 and info.exit_status:
            reason += f" with status {int(info.exit_status)}"
        return reason + (f": {stderr_text}" if stderr_text else "")

    def check(self) -> None:
        self.link.check()

    def get_wait(self) -> Wait:
        return self._need

    def close(self) -> None:
        with contextlib.suppress(ConnectionClosed):  # freed with its connection
            self.channel.close()


class SftpSession:
    """A machine, the pipe under it, and what went wrong with them.

    Attributes:
        broken: why it cannot be used any more; None if it can.
        has_more: whether bytes have come that no step may take in before a `Checkpoint`.
    """

    def __init__(self, pipe: Pipe, server: ServerLimits | None = None) -> None:
        self.pipe = pipe
        self.machine: Machine = Machine(server)
        self.broken: str | None = None
        self.has_more: bool = False
        self._stepping = False
        self._heard = 0  # bytes
        self._doubted_at = -1  # so many had come when somebody's time was over

    def step(self) -> None:
        """Move what can be moved.

        An error is kept for `check`, because replies may have come first.
        """
        if self.broken is not None:
            return
        if self._stepping:
            self.end("the SFTP session was interrupted")
            return
        try:
            self._stepping = True
            self._step()
            self._stepping = False
        except Malformed as error:
            what = "broke the SFTP protocol" if self.machine.ready else "offers no usable SFTP"
            self.end(f"the server {what}: it sent {error}")
        except HusshError as error:
            self.end(error.text)
        except MemoryError:
            self.end("this process had no memory for the SFTP session")
            raise
        except BaseException:
            self.end("the SFTP session was interrupted")  # in the middle of a step
            raise

    def get_wait(self) -> Wait:
        """Return what to wait for now, after a step and a look."""
        if not self.has_more:
            return self.pipe.get_wait()
        self.has_more = False
        return _STEP_AGAIN

    def check(self) -> None:
        """Raise the error of this session or its connection."""
        self.pipe.check()
        if self.broken is not None:
            raise (SFTPError if self.machine.ready else SFTPUnavailable)(self.broken)

    def doubt(self) -> None:
        """Note that the time of an operation was over without an answer, which may never come."""
        self._doubted_at = self._heard

    @property
    def stuck(self) -> bool:
        """Whether nothing has come since a `doubt`.

        OpenSSH's sftp-server does one thing at a time: opening a FIFO, or a file of a network drive
        that hangs, keeps it from everything else.
        """
        return self._heard == self._doubted_at and not self.has_more

    def end(self, reason: str) -> None:
        """Break the session: all operations in it fail, nothing of it is used again."""
        if self.broken is None:
            self.broken = reason
            self.has_more = False
            self.machine.out.clear()
            self.pipe.close()

    def _step(self) -> None:
        machine, pipe = self.machine, self.pipe
        if not pipe.open_further():
            return
        most = machine.parsed + PARSED_AT_ONCE
        while not self.has_more:
            view = machine.get_buffer()
            count = pipe.read_into(view)
            if count:
                self._heard += count
                machine.take_received(count)
            if count < len(view):
                break
            self.has_more = machine.parsed >= most
        if not self.has_more:
            pipe.await_message(machine.count_missing())
        out = machine.out
        while out:
            piece = out[0]
            taken = pipe.write(piece)
            if taken < len(piece):
                if taken:
                    out[0] = memoryview(piece)[taken:]
                break
            out.popleft()
        reason = None if self.has_more else pipe.explain_end()
        if reason is not None:
            machine.note_end()
            if not machine.ready:
                reason = f"the server offers no usable SFTP: {reason}"
            raise SFTPError(reason)


class SftpState:
    """What a connection knows of SFTP, and the present session, if there is one.

    Args:
        opener: makes the streams to the server.
        server: how many requests and files the server allows; all sessions share it.

    Attributes:
        home: what ``~`` stands for (see `sftp.home`); None if nobody has asked yet.
        takes_link_first: whether the server takes SYMLINK's paths in the order of the draft and
            not of OpenSSH; None if that is not known yet (see `sftp.links`).
    """

    def __init__(self, opener: Opener, server: ServerLimits | None = None) -> None:
        self._opener = opener
        self.server: ServerLimits = server or ServerLimits()
        self._opening = False  # somebody does; he may wait for others to leave room
        self._current: SftpSession | None = None
        self._left: list[SftpSession] = []  # those that were stuck when they were left, and are
        self.home: bytes | None = None
        self.takes_link_first: bool | None = None

    def get_session(self, *, early: bool = False) -> Op[SftpSession]:
        """Return the session, when it is ready; another one if the present one is stuck.

        With `early` at OpenSSH it returns as soon as its channel is there. A request of version 3
        may travel behind our INIT, which saves a round trip. What the server offers besides is not
        known then.

        A session that was left lives on as long as there are open files of it. The server ends none
        that is stuck, so each takes one of its MaxSessions. No more than `LEFT_MAX` are left; then
        operations wait for the present one.

        Raises:
            SFTPUnavailable: the server offers no SFTP that hussh can use.
            ConnectionLost: the connection is gone.
        """
        session = self._current
        if session is not None:
            session.step()
            for old in self._left:
                old.step()
            self._left = [old for old in self._left if old.stuck and old.broken is None]
            if session.stuck and session.broken is None and len(self._left) < LEFT_MAX:
                self._left.append(session)
                session = self._current = None
        while session is None or session.broken is not None:
            if self._opening:
                yield self._opener.get_wait()
            else:
                try:
                    self._opening = True
                    session = SftpSession((yield from self._opener.open()), self.server)
                    self._current = session
                finally:
                    self._opening = False
                    self._opener.notify()
            session = self._current
        while True:
            session.step()
            session.check()
            if session.machine.ready or (early and self.server.sshd_is_openssh):
                return session
            yield session.get_wait()


def wait_until_done(session: SftpSession, request: Request) -> Op[Request]:
    """Wait until a request is done; a wait that was cancelled can be repeated."""
    while True:
        session.step()
        if request.done:
            return request
        yield from wait_for_input(session)


def wait_for_input(session: SftpSession) -> Op[None]:
    """Wait until something may have come; a deadline that passes here makes the session doubtful.

    A cancellation does not, because it says nothing of how long an answer took. Nor does a deadline
    while the server has nothing to answer: then the operation waited for others on this side.
    """
    session.check()
    try:
        yield session.get_wait()
    except DeadlineExceeded as error:
        error.unanswered = session.machine.in_flight
        if error.unanswered:
            session.doubt()
        raise


def wait(session: SftpSession, request: Request) -> Op[Request]:
    """Wait until a request is done; a wait that is cancelled abandons the request."""
    try:
        return (yield from wait_until_done(session, request))
    except BaseException:
        session.machine.abandon(request)
        session.step()
        raise
