"""`InteractiveShell`: a login shell that you send lines to, as in hussh 0.3.3."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import TYPE_CHECKING

from .._native.link import Channel
from .._policy.result import SSHResult
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import CommandTimeout, HusshError

if TYPE_CHECKING:
    from .._drive.connect import Session

__all__ = ["InteractiveShell"]


class InteractiveShell:
    """A shell on a channel of its own; made by `Connection.shell`, a context manager.

    Attributes:
        result: after the block, everything that came and was not read before; status
            -1 if the shell had not ended when the time was over.
    """

    def __init__(
        self, session: Session, channel: Channel, pty: ops.Pty | None, timeout: float | None
    ) -> None:
        self._session = session
        self._channel = channel
        self._pty = pty
        self._timeout = timeout
        self._out = bytearray()
        self._err = bytearray()
        self._ended = False
        self.result: SSHResult | None = None

    def send(self, data: str | bytes, add_newline: bool = True) -> None:
        """Type a line.

        Raises:
            ChannelError: the shell has ended.
        """
        raw = data.encode() if isinstance(data, str) else bytes(data)
        line = raw + b"\n" if add_newline and not raw.endswith(b"\n") else raw
        self._session.call(ops.write(self._channel, line), self._timeout, "shell")

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its new size, in characters (RFC 4254 section 6.7)."""
        with self._session.tree.locked() as root:
            self._channel.request(b"window-change", ops.Pty("", columns, rows).window_change())
            root.flush()

    def read(self) -> SSHResult:
        """End the shell's input and wait for everything that it still says.

        Nothing can be sent afterwards.

        Raises:
            CommandTimeout: the shell has not ended in time; `.result` has what came.
        """
        try:
            ended = self._session.call(self._drain(), self._timeout, "shell")
        except HusshError as error:
            error.result = self._take(-1, None)  # type: ignore[attr-defined]
            raise
        return self._take(ended.status, ended.signal)

    def _drain(self) -> Op[ops.Exit]:
        if not self._ended and not self._channel.look().closed:
            self._ended = True
            self._channel.eof()
        while (yield from ops.read_any(self._channel, self._out, self._err)):
            pass
        return (yield from ops.wait(self._channel))

    def _take(self, status: int, signal: str | None) -> SSHResult:
        out, err = bytes(self._out), bytes(self._err)
        self._out.clear()
        self._err.clear()
        return SSHResult(out, err, status, signal)

    def close(self) -> None:
        """Close the channel; the server ends the shell; idempotent."""
        with self._session.tree.locked() as root:
            self._channel.free()
            if not root.freed:
                root.flush()

    def __enter__(self) -> InteractiveShell:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Say ``exit`` to a terminal's shell, read to the end into `result`, close."""
        try:
            if kind is None:
                if self._pty is not None and not self._ended:
                    with contextlib.suppress(HusshError):  # it may have ended by itself
                        self.send("exit")
                try:
                    self.result = self.read()
                except CommandTimeout as late:
                    self.result = late.result
        finally:
            self.close()
