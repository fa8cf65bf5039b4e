"""`Channel`, the owner of one channel of a link in C.

Operations of `_protocol` open channels and move their data by it, with the lock of the link's tree
held. Nothing here waits: a driver waits for what is not there yet.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ChannelError, ConnectionClosed
from ._libssh2 import ffi, lib
from .link import Link
from .link_state import read_text
from .owned import free_owned, make_owned

__all__ = ["Channel"]

_get_info = lib.hussh_channel_get_info
#: Faster than its name, which would be looked up for each channel.
_INFO = ffi.typeof("hussh_channel_info *")
#: Bytes in the name of a signal.
MOST_SIGNAL = 63


class Channel:
    """One channel; read its `state` and the other fields after `get_info()`."""

    __slots__ = ("_ptr", "_owned", "_info", "link", "token", "on_freed", "at_end",
                 "__weakref__")  # fmt: skip

    def __init__(self, link: Link, make: Callable[..., Any], *arguments: Any) -> None:
        """Own what a function of C makes of these arguments.

        Raises:
            HusshError: it makes nothing; the link's own error if that is dead.
        """
        self.link: Link = link
        #: Called with the link after the channel was freed; must neither wait nor hold the link.
        self.on_freed: Callable[[Link], None] | None = None
        #: Called by `free` only, with the tree's lock held.
        self.at_end: Callable[[], None] | None = None
        self._ptr: Any = None
        self._info = ffi.new(_INFO)
        # After what __del__ needs: an interrupt may come between any two.
        self._owned: list[Any] = []
        ptr = make_owned(self._owned, make, *arguments)
        if not ptr:
            link.check()
            raise ChannelError("no channel can be opened on this connection")
        self._ptr = ptr
        self.token: int = int(lib.hussh_channel_token(ptr))

    @classmethod
    def open(cls, link: Link, kind: bytes, extra: bytes, window: int) -> Channel:
        """Ask for a channel of a link (RFC 4254 section 5.1).

        Args:
            kind: the channel type, such as b"session".
            extra: the data of that type, encoded.
            window: how many bytes the server may send ahead of what is read.

        Raises:
            HusshError: see the constructor.
        """
        return cls(link, lib.hussh_channel_open, link.pointer, kind, len(kind), extra, len(extra),
                   window)  # fmt: skip

    @classmethod
    def of_spare(cls, link: Link, spare: object) -> Channel:
        """Own a session of `Link.open_spare`, after `Link.is_open`; once for each."""
        return cls(link, _return_unchanged, spare)

    def __del__(self) -> None:
        if getattr(self, "_owned", None):
            # The owner goes along: whether its link still exists is known only then.
            owner = self.link, self._owned, self.on_freed
            self.link.deferred_frees.add(_free_collected, owner)

    def free(self) -> None:
        """Close the channel and forget it; a second call does nothing."""
        self._ptr = None
        if self._owned:
            _free_collected((self.link, self._owned, self.on_freed))
        at_end, self.at_end = self.at_end, None
        if at_end is not None:
            at_end()

    @property
    def is_open(self) -> bool:
        """Whether neither side has closed it."""
        return self._ptr is not None and not self.link.freed and not self.get_info().closed

    def forget(self, free: Any) -> None:
        """Free the channel as `free` does, by another function of C."""
        self._ptr = None
        link = self.link
        if not link.freed and not link.deferred_frees.abandoned:
            free_owned(self._owned, free)
        self._owned.clear()

    @property
    def pointer(self) -> Any:
        if self._ptr is None or self.link.freed:
            raise ConnectionClosed("this channel is closed")
        return self._ptr

    def get_info(self) -> Any:
        """Return C's `hussh_channel_info`, filled in anew; it is valid until the next call."""
        # `pointer` without its call: this is asked a dozen times for each command.
        if self._ptr is None or self.link.freed:
            raise ConnectionClosed("this channel is closed")
        _get_info(self._ptr, self._info)
        return self._info

    @property
    def text(self) -> str:
        """Return the reason of a refusal, or the name of the signal, after `get_info()`."""
        return read_text(self._info)

    def request(self, name: bytes, extra: bytes = b"", *, want_reply: bool = False) -> None:
        """Queue a channel request (RFC 4254 section 5.4).

        Raises:
            ChannelError: the request is too long.
        """
        _check_length(name, extra)
        self._check(
            lib.hussh_channel_request(self.pointer, name, len(name), want_reply, extra, len(extra))
        )

    def signal(self, name: bytes, *, repeat: bool) -> None:
        """Queue the request to send a signal to the command (RFC 4254 section 6.9).

        Args:
            name: without "SIG", at most 63 bytes.
            repeat: ask again while the server answers that it reached nobody, also after `free`,
                which then closes the channel later. Only for servers that answer: OpenSSH's.

        Raises:
            ChannelError: the channel is closed.
            ValueError: the name is too long.
        """
        if len(name) > MOST_SIGNAL:
            raise ValueError(f"the name of a signal has {MOST_SIGNAL} bytes at most")
        self._check(lib.hussh_channel_signal(self.pointer, name, len(name), repeat))

    def read(self, stream: int, size: int) -> bytearray:
        """Take what has come of stdout (0) or stderr (1), at most `size` bytes."""
        buffer = bytearray(size)
        count = lib.hussh_channel_read(self.pointer, stream, ffi.from_buffer(buffer), size)
        if count < size:
            del buffer[count:]
        return buffer

    def read_into(self, stream: int, buffer: memoryview) -> int:
        """Fill a buffer with what has come of a stream; return the number of bytes, maybe 0."""
        return int(
            lib.hussh_channel_read(self.pointer, stream, ffi.from_buffer(buffer), len(buffer))
        )

    def run(self, command: bytes, most: int) -> None:
        """Queue all that a command needs that reads nothing, then wake as `await_close` does.

        Args:
            command: as an SSH string.
            most: see `await_close`.

        Raises:
            ChannelError: the command is too long.
        """
        code = lib.hussh_channel_run(self._ptr or self.pointer, command, len(command), most)
        if code < 0:
            _check_length(b"exec", command)
            self._check(code)

    def await_close(self, most: int) -> None:
        """Wake nobody from now on for less than its end, a refusal or so many bytes of output."""
        lib.hussh_channel_await_close(self.pointer, most)

    def keep_order(self) -> None:
        """Keep from now on the order in which stdout and stderr arrive, for `take_order`."""
        lib.hussh_channel_keep_order(self.pointer)

    def take_order(self) -> bytes:
        """Return what arrived since the last call, as `_results.arrival` describes it."""
        size = int(lib.hussh_channel_order(self.pointer, ffi.NULL, 0))
        if not size:
            return b""
        buffer = bytearray(size)
        lib.hussh_channel_order(self.pointer, ffi.from_buffer(buffer), size)
        return bytes(buffer)

    def await_message(self, rest: int, longest: int) -> None:
        """Make events for stdout only when a message is complete, until the next read.

        Messages have a 32-bit length in front. A length beyond `longest` makes an event at once.
        `rest` is the number of bytes that are missing of a message that was read in part; 0 means
        that the next byte begins a message.
        """
        lib.hussh_channel_await_message(self.pointer, rest, longest)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Queue bytes for the peer; return how many were taken, which may be 0."""
        return self._check(
            int(lib.hussh_channel_write(self.pointer, ffi.from_buffer(data), len(data)))
        )

    def widen(self, window: int) -> None:
        """Let the peer send so many bytes ahead of what is read, if those are more than now."""
        lib.hussh_channel_widen(self.pointer, window)

    def send_eof(self) -> None:
        """Queue EOF after what is queued already."""
        self._check(lib.hussh_channel_eof(self.pointer))

    def close(self) -> None:
        """Send CLOSE at once, unless that was done before."""
        lib.hussh_channel_close(self.pointer)

    def _check(self, code: int) -> int:
        if code < 0:
            self.link.check()
            raise ChannelError("the channel is closed")
        return code


def _check_length(name: bytes, extra: bytes) -> None:
    if len(extra) > lib.HUSSH_REQUEST_MAX:
        raise ChannelError(
            f"a request ({name.decode('ascii')}) of {len(extra):,} bytes is too long:"
            f" a packet of 256 KiB holds {lib.HUSSH_REQUEST_MAX:,};"
            " long input belongs into stdin (input=)"
        )


def _free_collected(owner: tuple[Link, list[Any], Callable[[Link], None] | None]) -> None:
    """Free a channel in C; after an interrupt it may be repeated."""
    link, owned, on_freed = owner
    if not link.freed and not link.deferred_frees.abandoned:
        free_owned(owned, lib.hussh_channel_free)
        if on_freed is not None:
            on_freed(link)
    owned.clear()


def _return_unchanged(ptr: Any) -> Any:
    """Return what C has made already, for an owner."""
    return ptr
