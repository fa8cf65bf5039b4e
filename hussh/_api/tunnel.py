"""`Tunnel`: a byte stream from the last hop to any address, with the methods of a socket.

`port_forwarding.py` makes one. Its methods run operations of `_protocol/process.py`; nothing here
knows the protocol.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

from .._connect.connect import Session
from .._connect.hop import Hop
from .._native.channel import Channel
from .._native.local_end import finish
from .._policy.forwarding import Address
from .._protocol import process as ops
from ..errors import ChannelError, CommandTimeout, ConnectionClosed, HusshError, Phase
from .closing import Closing

__all__ = ["Tunnel", "give_up"]

SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2  # of the module `socket`


class Tunnel(Closing):
    """A connection that the server has made for us; `Connection.open_connection` returns it.

    It has the methods of a connected `socket.socket`, for libraries that take one, but no `fileno`.
    For libraries that need a descriptor there is `Connection.forward_local`. Times are **seconds**
    here, as with a socket. Two threads may use it at once, one for each direction.

    Leaving its ``with`` block closes it.
    """

    def __init__(
        self,
        connection: object,
        session: Session,
        channel: Channel,
        to: Address,
        timeout: float | None,
    ) -> None:
        self._connection = connection  # lives as long as this
        self._session = session
        self._channel = channel
        self._to = to
        self._timeout = timeout
        self._files = 0  # made by makefile, and open
        self._closed = self._input_ended = self._deaf = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<Tunnel to {self._to} by {self._session.hop}, {state}>"

    # -- reading

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Return what is there, at least one byte and at most `bufsize`; empty at the end.

        Raises:
            TimeoutError: nothing came within `settimeout`; BlockingIOError if that is 0.
            ConnectionLost, ConnectionClosed: the SSH connection ended.
        """
        _check_flags(flags)
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if not bufsize or self._deaf:
            return b""
        return bytes(self._call(ops.read(self._open_channel(), 0, bufsize)))

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """Read into a buffer as `recv`; return the number of bytes."""
        view = memoryview(buffer).cast("B")
        data = self.recv(min(nbytes, len(view)) if nbytes else len(view), flags)
        view[: len(data)] = data
        return len(data)

    # -- writing

    def send(self, data: Any, flags: int = 0) -> int:
        """Send all of `data` as `sendall`; return its length."""
        self.sendall(data, flags)
        return memoryview(data).nbytes

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send all of `data`; a megabyte of it may still be on its way afterwards.

        Raises:
            TimeoutError: the other side did not take it within `settimeout`.
            BrokenPipeError: it takes no more.
            ConnectionLost, ConnectionClosed: the SSH connection ended.
        """
        _check_flags(flags)
        if self._input_ended:
            raise BrokenPipeError("this tunnel was shut down for writing")
        try:
            self._call(ops.write(self._open_channel(), data))
        except ChannelError as error:
            raise BrokenPipeError(f"the other side of the tunnel has closed it: {error}") from error

    def shutdown(self, how: int) -> None:
        """End one direction or both: 0 reading, 1 writing, 2 both, as for a socket."""
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise ValueError("how must be SHUT_RD, SHUT_WR or SHUT_RDWR")
        channel = self._open_channel()
        self._deaf = self._deaf or how != SHUT_WR
        if how != SHUT_RD and not self._input_ended:
            self._input_ended = True
            with contextlib.suppress(HusshError):  # it has ended anyway
                self._session.call_at_once(channel.send_eof)

    # -- settings

    def settimeout(self, value: float | None) -> None:
        """Limit each later call to so many **seconds**; None means no limit, 0 not to wait."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout = value

    def gettimeout(self) -> float | None:
        """Return the **seconds** that were given to `settimeout`."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Call `settimeout(None)` or `settimeout(0)`."""
        self._timeout = None if flag else 0.0

    def setsockopt(self, *options: Any) -> None:
        """Do nothing, because the socket belongs to the server."""

    def getpeername(self) -> Any:
        """Return ``(host, port)`` or the path, as given."""
        return (self._to.host, self._to.port) if self._to.path is None else self._to.path

    # -- files

    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """Return a file over it, as a socket does; the tunnel ends when all files and it do."""
        kinds = set(mode) - {"b"}
        if not kinds or kinds - {"r", "w"}:
            raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
        raw = _TunnelFile(self, kinds)
        self._files += 1
        size = io.DEFAULT_BUFFER_SIZE if buffering is None or buffering < 0 else buffering
        if not size:
            if "b" not in mode:
                raise ValueError("unbuffered streams must be binary")
            return raw
        buffered: Any
        if kinds == {"r", "w"}:
            buffered = io.BufferedRWPair(raw, raw, size)
        else:
            buffered = (
                io.BufferedReader(raw, size) if "r" in kinds else io.BufferedWriter(raw, size)
            )
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline)

    # -- ending

    def close(self) -> None:
        """End both directions, after what was written; waits for nothing, and may be repeated."""
        self._closed = True
        if not self._files:
            self._end()

    def _end(self) -> None:
        with contextlib.suppress(HusshError):  # the connection has gone
            self._session.call_at_once(lambda: give_up(self._session, self._channel))

    def _note_closed_file(self) -> None:
        self._files -= 1
        if self._closed and not self._files:
            self._end()

    # -- inside

    def _open_channel(self) -> Channel:
        if self._closed and not self._files:
            raise ConnectionClosed("this tunnel is closed")
        return self._channel

    def _call(self, op: Any) -> Any:
        try:
            return self._session.call(op, self._timeout, Phase.CHANNEL)
        except CommandTimeout as error:
            if self._timeout:
                raise
            raise BlockingIOError(11, "Resource temporarily unavailable") from error


class _TunnelFile(io.RawIOBase):
    """The raw file that `makefile` buffers."""

    def __init__(self, tunnel: Tunnel, kinds: set[str]) -> None:
        self._tunnel = tunnel
        self._kinds = kinds

    def readable(self) -> bool:
        return "r" in self._kinds

    def writable(self) -> bool:
        return "w" in self._kinds

    def readinto(self, buffer: Any) -> int | None:
        try:
            return self._tunnel.recv_into(buffer)
        except BlockingIOError:
            return None

    def write(self, data: Any) -> int:
        return self._tunnel.send(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._tunnel._note_closed_file()


def give_up(session: Hop[Any], channel: Channel) -> None:
    """Close a tunnel's channel after what was written, and wake all who still wait for it."""
    finish(channel)
    session.driver.wake(channel.token)


def _check_flags(flags: int) -> None:
    if flags:
        raise ValueError("a tunnel knows no flags, such as MSG_PEEK")
