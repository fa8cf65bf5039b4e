"""`InteractiveShell`: a login shell that you send lines to, as in hussh 0.3.3.

`Connection.shell` makes one. `remote_process.py` has what it shares with its async twin. Nothing
here knows the protocol.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from .._connect.connect import Session
from .._native.channel import Channel
from .._policy.connection_options import Milliseconds
from .._policy.expect_match import ExpectMatch
from .._protocol import process as ops
from .._protocol.core import Op
from .._protocol.expect import (
    MAX_BEFORE,
    AnyPattern,
    Compiled,
    check_max_before,
    check_patterns,
    expect,
)
from .._results.ssh_result import SSHResult
from ..errors import CommandTimeout, HusshError, Phase
from .arguments import check_number
from .closing import Closing
from .remote_process import Shell, encode_line

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
        line = encode_line(data, add_newline)
        self._session.call(ops.write(self._channel, line), self._timeout, Phase.SHELL)

    def send_line(self, data: str | bytes = "") -> None:
        """Send a line, which an empty one may be.

        Raises:
            ChannelError: the shell has ended.
        """
        self.send(data)

    def expect(
        self,
        pattern: AnyPattern | Sequence[AnyPattern],
        timeout: Milliseconds | None = None,
        *,
        max_before: int = MAX_BEFORE,
    ) -> ExpectMatch:
        """Wait until a pattern comes, and take the output up to its end.

        Both streams count, in the order of arrival. What stands behind the match is there for the
        next call.

        Args:
            pattern: a regular expression as str, for text in UTF-8, or as bytes (a dot matches
                line ends, too); a compiled one; or a list of these, of which the one counts that
                begins first. A match may have up to 64 KiB.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
            max_before: most bytes to keep of what comes before the match; the oldest go, and
                the match says so (`truncated`).

        Returns:
            The match, with what came `before` it.

        Raises:
            ExpectTimeout: it has not come; `.before` and `.result` have what came, which stays
                there for the next call. It is a CommandTimeout.
            ExpectEOF: the shell has ended; the same holds. It is an EOFError.
            ConnectionLost: its `.result` has what came.
        """
        return self._expect(check_patterns(pattern), timeout, max_before)

    def expect_exact(
        self,
        text: str | bytes | Sequence[str | bytes],
        timeout: Milliseconds | None = None,
        *,
        max_before: int = MAX_BEFORE,
    ) -> ExpectMatch:
        """Wait until a text comes, as it is, and take the output up to its end.

        Args:
            text: one text, or a list; otherwise as `expect`.
            timeout: **milliseconds**; None means the connection's limit, 0 no limit.
        """
        return self._expect(check_patterns(text, is_exact=True), timeout, max_before)

    def _expect(
        self, patterns: Sequence[Compiled], timeout: Milliseconds | None, max_before: int
    ) -> ExpectMatch:
        most = check_max_before(max_before)
        seconds = self._timeout or 0
        if timeout is not None:
            seconds = check_number(timeout, "milliseconds") / 1000
        limit = f" within {seconds * 1000:g} ms"
        op = expect(self._channel, self._seen, patterns, most, limit)
        match: ExpectMatch = self._session.call(op, seconds or None, Phase.SHELL)
        return match

    def read_available(self, timeout: Milliseconds | None = None) -> SSHResult:
        """Return what has arrived and nobody has taken, both streams.

        Args:
            timeout: **milliseconds** to wait for the first byte, if none is there; None means
                not to wait, 0 no limit. When the time is over the result is empty.

        Returns:
            A result whose status is -1 until the shell has ended.
        """
        if timeout is not None and not self._seen:
            seconds = check_number(timeout, "milliseconds") / 1000 or None
            with contextlib.suppress(CommandTimeout):
                op = ops.read_any(self._channel, self._seen)
                self._session.call(op, seconds, Phase.SHELL)
        return self._take_what_came()

    def read(self) -> SSHResult:
        """End the shell's input and return all its output, when it has ended.

        Nothing can be sent afterwards.

        Raises:
            CommandTimeout: the shell has not ended in time; `.result` has what came.
        """
        return self._run_to_end(self._drain())

    def _run_to_end(self, op: Op[ops.Exit]) -> SSHResult:
        try:
            return self._take_result(self._session.call(op, self._timeout, Phase.SHELL))
        except HusshError as error:
            error.result = self._take_result(None)
            raise

    def close(self) -> None:
        """Close the channel, so that the server ends the shell; a second call does nothing."""
        self._free()

    def _leave(self) -> None:
        if self._closed:
            self.result: SSHResult | None = self._take_result(None)
            return
        try:
            self.result = self._run_to_end(self._say_goodbye())
        except CommandTimeout as timeout_error:
            self.result = timeout_error.result
