"""`InteractiveShell`: a login shell that you send lines to, as in hussh 0.3.3."""

from __future__ import annotations

from .._connect.connect import Session
from .._native.link import Channel
from .._policy.result import SSHResult
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import CommandTimeout, HusshError
from .closing import Closing
from .remote_process import Shell, typed

__all__ = ["InteractiveShell"]


class InteractiveShell(Closing, Shell[Session]):
    """A shell on a channel of its own; made by `Connection.shell`, a context manager.

    Leaving the block says ``exit`` to a terminal's shell, ends the input of any other,
    and reads to the end, within the connection's time limit.

    Attributes:
        result: after the block, everything that came and was not read before; status
            -1 if the shell had not ended when the time was over, or was closed in it.
    """

    def __init__(
        self, session: Session, channel: Channel, pty: ops.Pty | None, timeout: float | None
    ) -> None:
        super().__init__(session, channel, pty)
        self._timeout = timeout

    def send(self, data: str | bytes, add_newline: bool | None = True) -> None:
        """Type a line.

        Raises:
            ChannelError: the shell has ended.
        """
        line = typed(data, add_newline)
        self._session.call(ops.write(self._channel, line), self._timeout, "shell")

    def read(self) -> SSHResult:
        """End the shell's input and wait for everything that it still says.

        Nothing can be sent afterwards.

        Raises:
            CommandTimeout: the shell has not ended in time; `.result` has what came.
        """
        return self._ended(self._drain())

    def _ended(self, op: Op[ops.Exit]) -> SSHResult:
        try:
            return self._taken(self._session.call(op, self._timeout, "shell"))
        except HusshError as error:
            error.result = self._taken(None)  # type: ignore[attr-defined]
            raise

    def close(self) -> None:
        """Close the channel; the server ends the shell; idempotent."""
        self._free()

    def _leave(self) -> None:
        if self._closed:
            self.result = self._taken(None)
            return
        try:
            self.result = self._ended(self._goodbye())
        except CommandTimeout as timeout_error:
            self.result = timeout_error.result
