"""What a running command or shell is, for threads and tasks alike; nothing here waits.

`process`, `shell` and their async twins build on it.
"""

from __future__ import annotations

import contextlib
from enum import IntEnum
from typing import Any, Generic, TypeVar

from .._drive.session import Hop
from .._native.link import Channel
from .._policy.result import SSHResult
from .._policy.wire import string
from .._protocol import process as ops
from .._protocol.core import Op
from ..errors import ChannelError, HusshError

__all__ = ["Command", "Running", "Shell", "typed"]

H = TypeVar("H", bound=Hop[Any])


class Running(Generic[H]):
    """A channel with something at its other end."""

    def __init__(self, session: H, channel: Channel) -> None:
        self._session = session
        self._channel = channel
        self._input_ended = False
        self._closed = False  # by us, maybe within its block

    def _end_input(self) -> None:
        """End of file for what runs; idempotent."""
        if self._input_ended:
            return
        self._input_ended = True

        def end() -> None:
            if not self._channel.link.dead and not self._channel.look().closed:
                self._channel.eof()

        with contextlib.suppress(HusshError):  # there may be no connection any more
            self._session.at_once(end)

    def _free(self) -> None:
        """Close the channel, and let go who waits for something of it; idempotent."""
        self._closed = True

        def free() -> None:
            self._channel.free()
            self._session.tree.wake(self._channel.token)

        self._session.at_once(free)


class Command(Running[H]):
    """What `Process` and `AsyncProcess` share."""

    returncode: int | None = None
    signal: str | None = None

    def poll(self) -> int | None:
        """The exit status if the command has ended, as far as its messages were read."""
        if self.returncode is None:
            with self._session.tree.my_fresh():
                self._note(ops.exit_of(self._channel))
        return self.returncode

    def send_signal(self, name: str | IntEnum) -> None:
        """Ask the server to send a signal: its name, or one of `signal.Signals`.

        It travels as its name without "SIG" (RFC 4254 section 6.9).  Nothing is answered.
        sshd signals a process group that a command makes for itself when it begins, so
        what comes in its first moments may reach nobody.
        """
        wanted = ops.check_text("signal", getattr(name, "name", name))

        def send() -> None:
            if ops.exit_of(self._channel) is None:
                self._channel.request(b"signal", string(wanted.removeprefix("SIG").encode()))

        self._session.at_once(send)

    def terminate(self) -> None:
        """`send_signal("TERM")`."""
        self.send_signal("TERM")

    def kill(self) -> None:
        """`send_signal("KILL")`."""
        self.send_signal("KILL")

    def _note(self, ended: ops.Exit | None) -> int | None:
        if ended is not None:
            self.returncode, self.signal = ended.status, ended.signal
        return self.returncode

    def close(self) -> None:
        """Kill the command if it still runs, and close its channel; idempotent."""
        with contextlib.suppress(HusshError):  # there may be no connection any more
            if self.poll() is None:
                self.kill()
        self._let_go()
        self._free()

    def _let_go(self) -> None:
        """Close the streams."""

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<{type(self).__name__} on {self._session.hop}: {state}>"


class Shell(Running[H]):
    """What `InteractiveShell` and `AsyncInteractiveShell` share.

    Attributes:
        result: after the block, everything that came and was not read before; status
            -1 if the shell had not ended when the time was over, or was closed in it.
    """

    def __init__(self, session: H, channel: Channel, pty: ops.Pty | None) -> None:
        super().__init__(session, channel)
        self._pty = pty
        self._out = bytearray()
        self._err = bytearray()
        self.result: SSHResult | None = None

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its new size, in characters (RFC 4254 section 6.7)."""
        size = ops.Pty("", columns, rows).window_change()
        self._session.at_once(lambda: self._channel.request(b"window-change", size))

    def _goodbye(self) -> Op[ops.Exit]:
        """`_drain`, after a word to a terminal's shell, for which that is no end."""
        if self._pty is not None and not self._input_ended:
            with contextlib.suppress(ChannelError):  # it may have ended by itself
                yield from ops.write(self._channel, b"exit\n")
        return (yield from self._drain())

    def _drain(self) -> Op[ops.Exit]:
        """End its input and take everything that it still says, until it has ended."""
        self._end_input()
        while (yield from ops.read_any(self._channel, self._out, self._err)):
            pass
        return (yield from ops.wait(self._channel))

    def _taken(self, ended: ops.Exit | None) -> SSHResult:
        """What came and was not taken yet; None: the shell has not ended."""
        out, err = bytes(self._out), bytes(self._err)
        self._out.clear()
        self._err.clear()
        status, signal = (-1, None) if ended is None else (ended.status, ended.signal)
        return SSHResult(out, err, status, signal)


def typed(data: str | bytes, add_newline: bool | None) -> bytes:
    """A line as it goes to a shell; None for `add_newline` counts as True, as in hussh 0.3.3."""
    # Not bytes(data): that makes a number that many NULs.
    raw = data.encode() if isinstance(data, str) else bytes(memoryview(data))
    wanted = add_newline is None or add_newline
    return raw + b"\n" if wanted and not raw.endswith(b"\n") else raw
