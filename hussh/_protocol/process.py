"""A running command or shell, step by step (RFC 4254 section 6).

`_api` runs these operations for `popen` and `shell`; `execute` does it all at once. Each may be run
by another thread or task: reading one stream, writing, and waiting for the end do not disturb each
other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from .._native.channel import Channel
from .._native.link import Link
from .._policy.merged_output import MergedOutput
from .._policy.wire import string, uint32
from ..errors import ChannelError, HusshError
from .channel import note_length, open_session, retry_until_heard, send_signal, was_unheard
from .core import Op, WaitFor
from .growing import GrowingBytes

__all__ = ["Exit", "Pty", "Talk", "communicate", "discard", "get_exit", "read", "read_any",
           "send_signal", "start", "take_any", "wait", "write"]  # fmt: skip

READ_SIZE = 1 << 20


@dataclass(frozen=True)
class Pty:
    """A terminal to ask the server for (RFC 4254 section 6.2); sizes in characters."""

    term: str = "xterm"
    columns: int = 80
    rows: int = 24

    def __post_init__(self) -> None:
        """Raise TypeError or ValueError for values that no terminal has."""
        check_text("term", self.term)
        for name in ("columns", "rows"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} of a Pty must be an integer")
            if not 0 <= value < 1 << 32:
                raise ValueError(f"{name} of a Pty must be from 0 to 2**32 - 1")

    def request(self) -> bytes:
        sizes = uint32(self.columns) + uint32(self.rows) + uint32(0) + uint32(0)
        return string(self.term.encode()) + sizes + string(b"\0")  # no terminal modes

    def make_window_change(self) -> bytes:
        return uint32(self.columns) + uint32(self.rows) + uint32(0) + uint32(0)


def check_text(what: str, value: object) -> str:
    """Return `value`.

    Raises:
        TypeError: it is no str.
        ValueError: it contains a NUL, at which servers stop reading.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string")
    if "\0" in value:
        raise ValueError(f"{what} contains a NUL character")
    return value


class Exit(NamedTuple):
    """How a command ended: `status` is -1 for a signal and if the server did not tell it."""

    status: int
    signal: str | None


def start(
    link: Link,
    command: bytes | None,
    *,
    pty: Pty | None = None,
    env: Mapping[str, str] | None = None,
    lend: Callable[[Channel], None] | None = None,
) -> Op[Channel]:
    """Start a command, or the login shell for None, on its own channel.

    The server leaves out variables of `env` that it does not accept (AcceptEnv), without an answer.
    On any error the channel is closed. `lend` lends the ssh-agent to it, once it is open.

    Raises:
        ChannelRefused, ChannelError: the server refused the channel or the command.
    """
    variables = make_env_requests(env or {})
    return (
        yield from retry_until_heard(
            lambda may_repeat: _start(link, command, pty, variables, lend, may_repeat)
        )
    )


def make_env_requests(env: Mapping[str, str]) -> list[bytes]:
    """Return what asks for each variable (RFC 4254 section 6.4)."""
    return [
        string(check_text("name of a variable in env", name).encode())
        + string(check_text(f"env[{name!r}]", value).encode("utf-8", "surrogateescape"))
        for name, value in env.items()
    ]


def _start(
    link: Link,
    command: bytes | None,
    pty: Pty | None,
    variables: Iterable[bytes],
    lend: Callable[[Channel], None] | None,
    may_repeat: bool,
) -> Op[Channel | None]:
    """Run `start` on one channel; return None as `retry_until_heard` describes."""
    channel = yield from open_session(link)
    try:
        if command is None:
            channel.keep_order()
        if lend is not None:
            lend(channel)
        for variable in variables:
            channel.request(b"env", variable)
        wanted = []
        if pty is not None:
            wanted.append("a terminal")
            channel.request(b"pty-req", pty.request(), want_reply=True)
        if command is None:
            wanted.append("a shell")
            channel.request(b"shell", want_reply=True)
        else:
            wanted.append("a command")
            channel.request(b"exec", string(command), want_reply=True)
        while (info := channel.get_info()).replies < len(wanted) and not info.closed:
            link.check()
            yield WaitFor(channel)
        if may_repeat and was_unheard(channel):
            channel.free()
            return None
        for number, what in enumerate(wanted):
            if info.failures >> number & 1 or info.replies <= number:
                raise ChannelError(f"the server refused {what} (request denied)")
    except BaseException as error:
        if isinstance(error, HusshError):
            note_length(error, channel, max([len(command or b""), *map(len, variables)]))
        channel.free()
        raise
    return channel


def read(channel: Channel, stream: int, size: int, unread: Iterable[int] = ()) -> Op[bytearray]:
    """Read what has come of stdout (0) or stderr (1), at least one byte; empty at its end.

    `unread` are streams that nobody reads any more. Their data is dropped, so that it does not fill
    the window that both streams share.
    """
    while True:
        discard(channel, unread)
        info = channel.get_info()
        available = int(info.rx_err if stream else info.rx)
        if available:
            return channel.read(stream, min(size, available, READ_SIZE))
        if info.eof or info.closed:
            return bytearray()
        channel.link.check()
        yield WaitFor(channel)


def take_any(channel: Channel, seen: MergedOutput) -> int:
    """Append what has come of both streams; return the number of bytes, which may be 0."""
    info = channel.get_info()
    sizes = int(info.rx), int(info.rx_err)
    if any(sizes):
        order = channel.take_order()
        seen.add(channel.read(0, sizes[0]), channel.read(1, sizes[1]), order)
    return sum(sizes)


def read_any(channel: Channel, seen: MergedOutput) -> Op[int]:
    """Append what has come of both streams, at least one byte; return 0 at the end of both."""
    while True:
        size = take_any(channel, seen)
        if size:
            return size
        info = channel.get_info()
        if info.eof or info.closed:
            return 0
        channel.link.check()
        yield WaitFor(channel)


def write(channel: Channel, data: bytes | bytearray | memoryview) -> Op[int]:
    """Send all of `data`; return the number of bytes.

    Raises:
        ChannelError: the command has ended and reads no more.
    """
    unsent = view = memoryview(data).cast("B")  # the items of a buffer may be larger than bytes
    while True:
        unsent = unsent[channel.write(unsent) :]
        if not unsent:
            return len(view)
        yield WaitFor(channel)


def get_exit(channel: Channel) -> Exit | None:
    """Return how the command ended; None if it still runs, as far as we know."""
    info = channel.get_info()
    if info.exit_known == 1:
        return Exit(int(info.exit_status), None)
    if info.exit_known == 2:
        return Exit(-1, channel.text)
    if info.closed:
        return Exit(-1, None)
    return None


def discard(channel: Channel, streams: Iterable[int]) -> None:
    """Drop what has come of some streams."""
    for stream in streams:
        info = channel.get_info()
        while size := int(info.rx_err if stream else info.rx):
            channel.read(stream, min(size, READ_SIZE))
            info = channel.get_info()


def wait(channel: Channel, unread: Iterable[int] = ()) -> Op[Exit]:
    """Wait until the command has ended; its output may still be read afterwards.

    `unread` is as for `read`.
    """
    while True:
        discard(channel, unread)
        ended = get_exit(channel)
        if ended is not None:
            return ended
        channel.link.check()
        yield WaitFor(channel)


class Talk:
    """What `communicate` has sent and got so far; it may be interrupted and go on.

    Attributes:
        unsent: what the command still has to get.
        streams: what has come of stdout and stderr.
    """

    def __init__(self, stdin: bytes) -> None:
        self.unsent = memoryview(stdin)
        self.streams = GrowingBytes(), GrowingBytes()


def communicate(
    channel: Channel, talk: Talk, end_input: Callable[[], object], unread: Iterable[int]
) -> Op[Exit]:
    """Send all that is to be sent, then end the input, and take all output to its end.

    What the command does not read is dropped. `unread` is as for `read`.
    """
    while True:
        discard(channel, unread)
        info = channel.get_info()
        for stream, size in enumerate((int(info.rx), int(info.rx_err))):
            if size:
                talk.streams[stream].append(channel.read(stream, size))
        ended = get_exit(channel)
        if ended is not None and (info.eof or info.closed):
            return ended
        channel.link.check()
        if talk.unsent:
            try:
                talk.unsent = talk.unsent[channel.write(talk.unsent) :]
            except ChannelError:  # it reads no more
                talk.unsent = memoryview(b"")
        if not talk.unsent:
            end_input()
        yield WaitFor(channel)
