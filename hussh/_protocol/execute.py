"""Runs one command on its own channel (RFC 4254 sections 6.5 to 6.10).

`_api` and the batches run it for `execute`. It never shares its channel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol

from .._native.channel import Channel
from .._native.link import Link
from .._policy.wire import string
from .._results.arrival import make_pair, runs_of
from .._results.ssh_result import SSHResult
from ..errors import (
    ChannelError,
    CommandFailed,
    CommandTimeout,
    HusshError,
    OutputLimitExceeded,
    printable,
)
from .channel import (
    note_length,
    note_result,
    open_session,
    retry_until_heard,
    send_signal,
    take_ready_session,
    was_unheard,
)
from .core import DeadlineExceeded, Op, RunBlocking, WaitFor
from .growing import GrowingBytes
from .process import Pty
from .session_slots import SessionSlots
from .spare_session import SpareSession

__all__ = ["PLAIN", "Dialogue", "Execution", "OnOutput", "execute"]

#: Most questions that `_Drain` asks; for each the server moves 16 KiB or more.
DRAIN_ROUNDS = 200
#: End of file, typed on a terminal.
END_OF_FILE = b"\x04"
STREAMS = "stdout", "stderr"
EXEC_REQUEST = "to run a command (exec request denied)"
#: Bytes of output that may wait in C for the command's end, where nobody wants to see them before.
UNSEEN_OUTPUT = 64 * 1024

#: Called with "stdout" or "stderr", and bytes that have come.
OnOutput = Callable[[str, bytes], Any]


class Dialogue(Protocol):
    """Talks with a program that runs before the command, such as sudo.

    Attributes:
        has_begun: whether the command itself may get its input.
        has_question: whether what came so far may be a question that is not complete.
    """

    has_begun: bool
    has_question: bool

    def take(self, stream: int, part: bytes) -> bytes:
        """Take what has come; return the part of it that belongs to the command."""

    def take_answer(self) -> bytes:
        """Return what is to be sent now, once; mostly nothing."""

    def answer_question(self) -> None:
        """Note that nothing follows what has come so far."""

    def get_hint(self) -> str:
        """Return what to say of a time-out now; mostly nothing."""

    def end(self, result: SSHResult) -> SSHResult:
        """Return the result of the command; raise if the program ended without running it."""


class Execution(NamedTuple):
    """How `execute` runs a command.

    Attributes:
        stdin: what the command reads.
        pty: the terminal that it gets, or None.
        max_output: most bytes of both streams together that are kept, or None.
        wait: with "exit" the result is there as soon as the command itself has ended and its
            own output has come, even if its children still hold the streams open.
        discard: output beyond max_output is dropped; the result says so, and the command goes
            on.
        check: a status other than 0 is an error.
        on_output: gets all output as it comes.
        turn: executions with the same one call `on_output` one after another.
        env: requests for variables, see `make_env_requests`.
        lend: lends the ssh-agent to the channel, once it is open.
        converse: makes the dialogue with what runs before the command, for each attempt anew.
    """

    stdin: bytes = b""
    pty: Pty | None = None
    max_output: int | None = None
    wait: Literal["eof", "exit"] = "eof"
    discard: bool = False
    check: bool = False
    on_output: OnOutput | None = None
    turn: object | None = None
    env: Sequence[bytes] = ()
    lend: Callable[[Channel], None] | None = None
    converse: Callable[[], Dialogue] | None = None

    @property
    def needs_end_only(self) -> bool:
        """Whether nothing is to be done between the command's begin and its end but to read."""
        watches = self.on_output is not None or self.converse is not None
        return self.wait == "eof" and self.max_output is None and not watches

    @property
    def needs_command_only(self) -> bool:
        """Whether, besides, nothing is to be sent but the command."""
        return not (self.stdin or self.env) and self.pty is None and self.needs_end_only


#: As `execute` runs a command if nothing else is asked for.
PLAIN = Execution()


class _Output:
    """Collects both streams of a channel, exactly, up to a limit of bytes in all.

    Attributes:
        size: number of bytes that came.
        asked: number of answers that the server owes, or has given, on this channel.
        cut: whether more came than there was room for.
        parts: what came and nobody has taken yet, if somebody wants the parts.
    """

    # Not lists: joining 100 MB would take 60 ms, in one step of a loop. They begin with the output.
    streams: tuple[GrowingBytes, GrowingBytes]
    order: bytearray
    size = asked = 0
    cut = False

    def __init__(self, channel: Channel, how: Execution, dialogue: Dialogue | None = None) -> None:
        self.channel = channel
        self.room = how.max_output
        self.discard = how.discard
        self.dialogue = dialogue
        self.wants_parts = how.on_output is not None
        self.parts: list[tuple[int, bytes]] = []

    def take(self) -> Any:
        """Take what has come; return the channel's state."""
        info = self.channel.get_info()
        while self.discard or not self.cut:
            sizes = (int(info.rx), int(info.rx_err))
            total = sizes[0] + sizes[1]
            if not total:
                break
            if not self.size:
                self.streams = GrowingBytes(), GrowingBytes()
                self.order = bytearray()
            self.size += total
            order = self.channel.take_order()
            both = self.channel.read(0, sizes[0]), self.channel.read(1, sizes[1])
            has_room = self.room is None or total <= self.room
            if has_room and not self.wants_parts and self.dialogue is None:
                for stream, part in enumerate(both):
                    self.streams[stream].append(part)
                self.order += order
                self.room = None if self.room is None else self.room - total
            else:
                for stream, run in runs_of(*both, order):
                    self._keep(stream, bytes(run))
            info = self.channel.get_info()
        return info

    def _keep(self, stream: int, part: bytes) -> None:
        if self.dialogue is not None:
            part = self.dialogue.take(stream, part)
        kept = part
        if self.room is not None:
            self.cut = self.cut or len(part) > self.room
            kept = part[: self.room]
            self.room -= len(kept)
        if kept:
            self.streams[stream].append(kept)
            self.order += make_pair(stream, len(kept))
        part = part if self.discard else kept
        if self.wants_parts and part:
            if self.parts and self.parts[-1][0] == stream:
                part = self.parts.pop()[1] + part
            self.parts.append((stream, part))

    def take_parts(self) -> list[tuple[int, bytes]]:
        parts, self.parts = self.parts, []
        return parts

    def so_far(self) -> SSHResult:
        """Return what has come of a command that has not ended."""
        return self.result(self.take(), finished=False)

    def result(self, info: Any, *, finished: bool) -> SSHResult:
        """Return what has been taken; `info` is the channel's state."""
        status, signal = -1, None
        if finished and info.exit_known == 1:
            status = int(info.exit_status)
        elif finished and info.exit_known == 2:
            signal = self.channel.text
        if not self.size:
            return SSHResult(b"", b"", status, signal)
        stdout, stderr = self.streams
        return SSHResult(stdout.take(), stderr.take(), status, signal, self.cut, bytes(self.order))


class _Input:
    """Sends the command's stdin, and its end, as the server takes it."""

    def __init__(self, channel: Channel, how: Execution) -> None:
        self.channel = channel
        self.end_of_file = b"" if how.pty is None else END_OF_FILE
        if self.end_of_file and how.stdin and not how.stdin.endswith(b"\n"):
            self.end_of_file += END_OF_FILE  # the first one ends the line only
        self.unsent: list[memoryview] = []
        self.stdin = how.stdin
        self.is_whole = self.has_ended = False

    def begin(self) -> None:
        """Give the command its own input, once; what is to be sent before was added by then."""
        if not self.is_whole:
            self.is_whole = True
            self.add(self.stdin)
            self.add(self.end_of_file)

    def add(self, data: bytes) -> None:
        if data:
            self.unsent.append(memoryview(data))

    def send(self) -> None:
        while self.unsent:
            rest = self.unsent[0]
            rest = rest[self.channel.write(rest) :]
            if rest:
                self.unsent[0] = rest
                return
            del self.unsent[0]
        if self.is_whole and not self.has_ended:
            self.has_ended = True
            self.channel.send_eof()


class _Drain:
    """Finds out whether all that an ended command wrote has come.

    A server may send the status first and afterwards what still lies in its pipes (OpenSSH does, if
    the two coincide). So the server is asked something that it must answer (RFC 4254 section 5.4),
    until two answers in a row bring no output with them. The first answer may overtake what the
    server reads in the same turn; the second cannot. Answers to earlier questions do not count.
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
        self.output.asked += 1
        self.asked = self.output.asked
        self.rounds += 1
        self.channel.request(b"keepalive@openssh.com", want_reply=True)
        return False


def execute(
    link: Link, command: bytes, how: Execution = PLAIN, time_limit: str = ""
) -> Op[SSHResult]:
    """Run a command; return its exit status and all of its output.

    A command that was ended by a signal, or whose channel closed without a status, has status -1,
    never a false 0. When the operation stops waiting (deadline, Ctrl-C, too much output), it sends
    SIGKILL to the command and closes its channel; the error has the output so far.

    Args:
        time_limit: the limit as the error words it.
    """
    result = yield from retry_until_heard(partial(_execute, link, command, how, time_limit))
    if how.check and result.status != 0:
        raise CommandFailed(_explain(result), result=result)
    return result


def _explain(result: SSHResult) -> str:
    if result.signal is not None:
        ended = f"was killed by SIG{result.signal}"
    else:
        ended = f"failed with status {result.status}"
    last = printable(result.stderr.rstrip()[-1000:].rpartition("\n")[2])
    return f"the command {ended}" + (f": {last}" if last else "")


def _execute(
    link: Link, command: bytes, how: Execution, time_limit: str, may_repeat: bool
) -> Op[SSHResult | None]:
    """Run `execute` on one channel; return None as `retry_until_heard` describes."""
    slots, spare = SessionSlots.of(link), SpareSession.of(link)
    try:
        channel = take_ready_session(link, slots, spare, ends_by_itself=True)
        if channel is None:
            channel = yield from open_session(link, ends_by_itself=True)
    except DeadlineExceeded:
        raise CommandTimeout(
            f"Command timed out{time_limit}; the server had not accepted it yet",
            result=SSHResult(b"", b"", -1, None),
        ) from None
    dialogue = None if how.converse is None else how.converse()
    output = _Output(channel, how, dialogue)
    stdin: _Input | None = None
    may_run = False
    try:
        if how.lend is not None:
            how.lend(channel)
        if how is PLAIN or how.needs_command_only:
            channel.run(string(command), UNSEEN_OUTPUT)
            wanted: tuple[str, ...] = (EXEC_REQUEST,)
        else:
            channel.keep_order()
            if how.needs_end_only:
                channel.await_close(UNSEEN_OUTPUT)
            stdin = _Input(channel, how)
            drain, question = _Drain(channel, output), _Drain(channel, output)
            wanted = _ask(channel, command, how)
            output.asked = len(wanted)
            if dialogue is None:
                stdin.begin()
                stdin.send()
        may_run = True
        spare.open_beside(link, slots)
        if stdin is None:
            yield WaitFor(channel)  # nothing can have come yet
        while True:
            size = output.size
            info = output.take()
            if how.on_output is not None and output.parts:
                yield from _hand_out(output, how.on_output, how.turn)
                continue  # more may have come meanwhile
            if output.cut and not how.discard:
                raise OutputLimitExceeded(
                    f"the command wrote more than max_output={how.max_output} bytes",
                    result=output.result(info, finished=False),
                )
            if info.failures:
                _check_answers(info, wanted)
            if info.closed:  # complete, even if the connection has ended with it
                may_run = False
                unheard = not (output.size or info.replies) and was_unheard(channel)
                if may_repeat and unheard and not link.dead:
                    return None
                return _end(output, info, dialogue)
            link.check()
            if how.wait == "exit" and info.exit_known and drain.done():
                return _end(output, info, dialogue)
            if dialogue is not None and stdin is not None:
                if output.size != size:
                    question = _Drain(channel, output)
                if dialogue.has_question and question.done():
                    dialogue.answer_question()
                stdin.add(dialogue.take_answer())
                if dialogue.has_begun:
                    stdin.begin()
            if stdin is not None:
                stdin.send()
            yield WaitFor(channel)
    except DeadlineExceeded:
        result = output.so_far()  # which the hint looks at, too
        hint = "" if dialogue is None else dialogue.get_hint()
        raise CommandTimeout(
            f"Command timed out{time_limit}; it was told to stop{hint}",
            result=result,
        ) from None
    except HusshError as error:
        note_length(error, channel, len(command))
        note_result(error, link, output.so_far)
        raise
    finally:
        if may_run and not link.dead and not channel.get_info().exit_known:
            _stop(channel)
        channel.free()


def _ask(channel: Channel, command: bytes, how: Execution) -> tuple[str, ...]:
    """Ask for all that the command needs; return what each answer will be about."""
    wanted: tuple[str, ...] = ()
    for variable in how.env:
        channel.request(b"env", variable)
    if how.pty is not None:
        wanted = ("a terminal (pty-req request denied)",)
        channel.request(b"pty-req", how.pty.request(), want_reply=True)
    channel.request(b"exec", string(command), want_reply=True)
    return (*wanted, EXEC_REQUEST)


def _check_answers(info: Any, wanted: Sequence[str]) -> None:
    """Raise the error of the first refusal, if one of these was refused."""
    for number, what in enumerate(wanted):
        if info.replies > number and info.failures >> number & 1:
            raise ChannelError(f"the server refused {what}")


def _hand_out(output: _Output, on_output: OnOutput, key: object | None) -> Op[None]:
    for stream, part in output.take_parts():
        call = partial(_call, on_output, STREAMS[stream], part)
        yield RunBlocking(call, in_caller=True, dedupe_key=key)


def _call(on_output: OnOutput, stream: str, part: bytes, _: float | None) -> Any:
    return on_output(stream, part)


def _end(output: _Output, info: Any, dialogue: Dialogue | None) -> SSHResult:
    result = output.result(info, finished=True)
    return result if dialogue is None else dialogue.end(result)


def _stop(channel: Channel) -> None:
    """Tell the server to kill the command (RFC 4254 section 6.9); it need not obey."""
    info = channel.get_info()
    if not info.closed:
        send_signal(channel, "KILL")
