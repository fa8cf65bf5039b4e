"""Runs one command on its own channel (RFC 4254 sections 6.5 to 6.10).

`_api` and the batches run it for `execute`. It never shares its channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from .._native.link import Channel, Link
from .._policy.result import SSHResult
from .._policy.wire import string
from ..errors import (
    ChannelError,
    CommandTimeout,
    HusshError,
    OutputLimitExceeded,
)
from .channel import note_length, open_session, until_heard, was_unheard
from .core import DeadlineExceeded, Op, WaitFor
from .growing import GrowingBytes
from .spare_session import SpareSession

__all__ = ["execute"]

READ_SIZE = 1 << 20
#: Most questions that `_Drain` asks; for each the server moves 16 KiB or more.
DRAIN_ROUNDS = 200


class _Output:
    """Collects both streams of a channel, exactly, up to a limit of bytes in all.

    Attributes:
        size: number of bytes that came.
        cut: whether more came than there was room for.
    """

    def __init__(self, channel: Channel, limit: int | None, *, discard: bool) -> None:
        self.channel = channel
        # Not lists: joining 100 MB would take 60 ms, in one step of a loop.
        self.streams = GrowingBytes(), GrowingBytes()
        self.room = limit
        self.discard = discard
        self.size = 0
        self.cut = False

    def take(self) -> None:
        while self.discard or not self.cut:
            info = self.channel.get_info()
            sizes = (int(info.rx), int(info.rx_err))
            if not any(sizes):
                return
            for stream, size in enumerate(sizes):
                if self.room is not None and size > self.room:
                    self.cut = True
                    size = size if self.discard else self.room
                if size:
                    self._keep(stream, self.channel.read(stream, min(size, READ_SIZE)))

    def _keep(self, stream: int, part: bytearray) -> None:
        self.size += len(part)
        if self.room is not None:
            del part[self.room :]
            self.room -= len(part)
        self.streams[stream].append(part)

    def result(self, *, finished: bool) -> SSHResult:
        info = self.channel.get_info()
        status, signal = -1, None
        if finished and info.exit_known == 1:
            status = int(info.exit_status)
        elif finished and info.exit_known == 2:
            signal = self.channel.text
        stdout, stderr = (stream.take() for stream in self.streams)
        return SSHResult(stdout, stderr, status, signal, self.cut)


class _Drain:
    """Finds out whether all that an ended command wrote has come.

    A server may send the status first and afterwards what still lies in its pipes (OpenSSH does, if
    the two coincide). So the server is asked something that it must answer (RFC 4254 section 5.4),
    until two answers in a row bring no output with them. The first answer may overtake what the
    server reads in the same turn; the second cannot.
    """

    def __init__(self, channel: Channel, output: _Output) -> None:
        self.channel = channel
        self.output = output
        self.asked = self.quiet = self.rounds = 0
        self.size = -1

    def done(self) -> bool:
        """Ask or look; to be called again after the channel progressed."""
        answered = int(self.channel.get_info().replies)
        if answered < self.asked:
            return False
        self.quiet = self.quiet + 1 if self.size == self.output.size else 0
        if self.quiet == 2 or self.rounds == DRAIN_ROUNDS:
            return True
        self.size = self.output.size
        self.asked = answered + 1
        self.rounds += 1
        self.channel.request(b"keepalive@openssh.com", want_reply=True)
        return False


def execute(
    link: Link,
    command: bytes,
    *,
    stdin: bytes = b"",
    max_output: int | None = None,
    discard: bool = False,
    wait: Literal["eof", "exit"] = "eof",
    env: Sequence[bytes] = (),
    time_limit: str = "",
    lend: Callable[[Channel], None] | None = None,
) -> Op[SSHResult]:
    """Run a command; return its exit status and all of its output.

    A command that was ended by a signal, or whose channel closed without a status, has status -1,
    never a false 0. When the operation stops waiting (deadline, Ctrl-C, too much output), it sends
    SIGKILL to the command and closes its channel; the error has the output so far.

    Args:
        wait: with "exit" the result is there as soon as the command itself has ended and its
            own output has come, even if its children still hold the streams open.
        discard: output beyond max_output is dropped; the result says so, and the command goes
            on.
        env: requests for variables, see `env_requests`.
        time_limit: the limit as the error words it.
        lend: lends the ssh-agent to the channel, once it is open.
    """
    return (
        yield from until_heard(
            lambda may_repeat: _execute(
                link, command, stdin, max_output, discard, wait, env, time_limit, lend, may_repeat
            )
        )
    )


def _execute(
    link: Link,
    command: bytes,
    stdin: bytes,
    max_output: int | None,
    discard: bool,
    wait: Literal["eof", "exit"],
    env: Sequence[bytes],
    time_limit: str,
    lend: Callable[[Channel], None] | None,
    may_repeat: bool,
) -> Op[SSHResult | None]:
    """Run `execute` on one channel; return None as `until_heard` describes."""
    try:
        channel = yield from open_session(link, ends_by_itself=True)
    except DeadlineExceeded:
        raise CommandTimeout(
            f"Command timed out{time_limit}; the server had not accepted it yet",
            result=SSHResult(b"", b"", -1, None),
        ) from None
    output = _Output(channel, max_output, discard=discard)
    drain = _Drain(channel, output)
    started = False
    try:
        if lend is not None:
            lend(channel)
        for variable in env:
            channel.request(b"env", variable)
        channel.request(b"exec", string(command), want_reply=True)
        started = True
        unsent = memoryview(stdin)
        unsent = unsent[channel.write(unsent) :] if unsent else unsent
        if not unsent:
            channel.eof()
        SpareSession.of(link).open_beside(link)
        while True:
            output.take()
            if output.cut and not discard:
                raise OutputLimitExceeded(
                    f"the command wrote more than max_output={max_output} bytes",
                    result=output.result(finished=False),
                )
            info = channel.get_info()
            if info.replies and info.failures & 1:
                raise ChannelError("the server refused to run a command (exec request denied)")
            if info.closed:  # complete, even if the connection has ended with it
                unheard = not output.size and was_unheard(channel)
                if may_repeat and unheard and not link.dead:
                    return None
                return output.result(finished=True)
            link.check()
            if wait == "exit" and info.exit_known and drain.done():
                return output.result(finished=True)
            if unsent:
                unsent = unsent[channel.write(unsent) :]
                if not unsent:
                    channel.eof()
            yield WaitFor(channel)
    except DeadlineExceeded:
        output.take()
        raise CommandTimeout(
            f"Command timed out{time_limit}; it was told to stop",
            result=output.result(finished=False),
        ) from None
    except HusshError as error:
        note_length(error, channel, len(command))
        if link.dead and getattr(error, "result", None) is None:
            output.take()
            error.result = output.result(finished=False)  # type: ignore[attr-defined]
        raise
    finally:
        if started and not link.dead and not channel.get_info().exit_known:
            _stop(channel)
        channel.free()


def _stop(channel: Channel) -> None:
    """Tell the server to kill the command (RFC 4254 section 6.9); it need not obey."""
    info = channel.get_info()
    if not info.closed:
        channel.request(b"signal", string(b"KILL"))
