"""`InteractiveShell`: a login shell that you send lines to, as in hussh 0.3.3.

`Connection.shell` makes one. `remote_process.py` has what it shares with its async twin.
"""

from __future__ import annotations

from .._connect.connect import Session
from .._native.link import Channel
from .._policy.result import SSHResult
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import CommandTimeout, HusshError, Phase
from .closing import Closing
from .remote_process import Shell, typed

__all__ = ["InteractiveShell"]


class InteractiveShell(Closing, Shell[Session]):
    """A shell on its own channel; made by `Connection.shell`, a context manager.

    Leaving the block sends ``exit`` to a shell with a terminal, ends the input of any other, and
    reads to the end, within the connection's time limit.

    Attributes:
        result: after the block, all output that was not read before; the status is -1 if the
            shell had not ended when the time was over, or was closed in the block.
    """

    def __init__(
        self, session: Session, channel: Channel, pty: ops.Pty | None, timeout: float | None
    ) -> None:
        super().__init__(session, channel, pty)
        self._timeout = timeout

    def send(self, data: str | bytes, add_newline: bool | None = True) -> None:
        """Send a line.

        Raises:
            ChannelError: the shell has ended.
        """
        line = typed(data, add_newline)
        self._session.call(ops.write(self._channel, line), self._timeout, Phase.SHELL)

    def read(self) -> SSHResult:
        """End the shell's input and return all its output, when it has ended.

        Nothing can be sent afterwards.

        Raises:
            CommandTimeout: the shell has not ended in time; `.result` has what came.
        """
        return self._ended(self._drain())

    def _ended(self, op: Op[ops.Exit]) -> SSHResult:
        try:
            return self._taken(self._session.call(op, self._timeout, Phase.SHELL))
        except HusshError as error:
            error.result = self._taken(None)  # type: ignore[attr-defined]
            raise

    def close(self) -> None:
        """Close the channel, so that the server ends the shell; a second call does nothing."""
        self._free()

    def _leave(self) -> None:
        if self._closed:
            self.result = self._taken(None)
            return
        try:
            self.result = self._ended(self._goodbye())
        except CommandTimeout as timeout_error:
            self.result = timeout_error.result
