"""What a running command or shell is, for threads and tasks alike; nothing here waits.

`process`, `shell` and their async twins build on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from enum import IntEnum
from typing import Any, Generic, TypeVar

from .._connect.hop import Hop
from .._native.channel import Channel
from .._policy.merged_output import MergedOutput
from .._protocol import process as ops
from .._protocol.core import Op
from .._results.ssh_result import SSHResult
from ..errors import ChannelError, HusshError
from .arguments import encode_input

__all__ = ["PATIENCE", "Command", "Flow", "RemoteProcess", "Shell", "encode_line"]

H = TypeVar("H", bound=Hop[Any])

#: Seconds for a command to end by itself, and after SIGTERM, when its block is left.
PATIENCE = 2.0
#: The same after SIGKILL: for the server to say so.
LAST_MOMENT = 0.5
BOTH = (0, 1)  # stdout and stderr


class Flow(Generic[H]):
    """A channel with something at its other end, and what has passed through it.

    Streams hold it, and not the object that has them: the end of a cycle would be found by the
    garbage collector only, and the session would stay open until then.

    Attributes:
        timeout: seconds that one call may take; 0 or None means no limit.
        input_ended: whether the other end has been told that nothing more will come.
        was_written, was_read: whether the user has used its input, or one of its outputs.
        unread: streams that nobody reads any more.
    """

    def __init__(self, session: H, channel: Channel, timeout: float | None = None) -> None:
        self.session = session
        self.channel = channel
        self.timeout = timeout
        self.input_ended: bool = False
        self.was_written = self.was_read = False
        self.unread: list[int] = []

    def end_input(self) -> None:
        """Send end of file to what runs; a second call does nothing."""
        if not self.input_ended:
            with contextlib.suppress(HusshError):  # there may be no connection any more
                self.session.call_at_once(self.end_input_here)

    def end_input_here(self) -> None:
        """Do what `end_input` does, within a step of an operation."""
        if self.input_ended:
            return
        self.input_ended = True
        if not self.channel.link.dead and not self.channel.get_info().closed:
            self.channel.send_eof()


F = TypeVar("F", bound=Flow[Any])


class RemoteProcess(Generic[F]):
    """A command or shell, as its user has it."""

    def __init__(self, flow: F) -> None:
        self._flow = flow
        self._session = flow.session
        self._channel = flow.channel
        self._closed = False  # by us, maybe within its block

    def _free(self) -> None:
        """Close the channel, and wake all who wait for it; a second call does nothing."""
        self._closed = True

        def free() -> None:
            self._channel.free()
            self._session.driver.wake(self._channel.token)

        self._session.call_at_once(free)


class Command(RemoteProcess[F]):
    """What `Process` and `AsyncProcess` share."""

    returncode: int | None = None
    signal: str | None = None
    _talking: ops.Talk | None = None

    def poll(self) -> int | None:
        """Return the exit status if the command has ended, as far as its messages were read."""
        if self.returncode is None:
            with self._session.driver.my_fresh():
                self._note(ops.get_exit(self._channel))
        return self.returncode

    def send_signal(self, name: str | IntEnum) -> None:
        """Ask the server to send a signal: its name, or one of `signal.Signals`.

        The message has the name without "SIG" (RFC 4254 section 6.9). This waits for no answer.
        OpenSSH is asked again where the command had not begun yet.
        """
        wanted = ops.check_text("signal", getattr(name, "name", name))

        def send() -> None:
            if ops.get_exit(self._channel) is None:
                ops.send_signal(self._channel, wanted.removeprefix("SIG"))

        self._session.call_at_once(send)

    def terminate(self) -> None:
        """Call `send_signal("TERM")`."""
        self.send_signal("TERM")

    def kill(self) -> None:
        """Call `send_signal("KILL")`."""
        self.send_signal("KILL")

    def _note(self, ended: ops.Exit | None) -> int | None:
        if ended is not None:
            self.returncode, self.signal = ended.status, ended.signal
        return self.returncode

    def close(self) -> None:
        """Kill the command if it still runs, and close its channel; a second call does nothing."""
        with contextlib.suppress(HusshError):  # there may be no connection any more
            if self.poll() is None:
                self.kill()
        self._let_go()
        self._free()

    def _let_go(self) -> None:
        """Close the streams."""

    def _talk(self, data: str | bytes | None, out: bytes, err: bytes) -> Op[ops.Exit]:
        """Return what exchanges all data; `out` and `err` came before, and nobody has them yet."""
        if self._talking is None:
            self._talking = ops.Talk(encode_input(data))
        for stream, part in zip(self._talking.streams, (out, err), strict=True):
            stream.append(part)
        flow = self._flow
        return ops.communicate(self._channel, self._talking, flow.end_input_here, flow.unread)

    def _end_talk(self) -> tuple[bytes, bytes]:
        """Return what `communicate` returns, after the end."""
        talk, self._talking = self._talking, None
        if talk is None:  # it was called again
            return b"", b""
        out, err = (stream.take() for stream in talk.streams)
        return out, err

    def _copy_output(self) -> SSHResult:
        """Return what has come, while the command still runs, for an error; nothing is lost."""
        if self._talking is None:
            return SSHResult()
        out, err = (stream.copy() for stream in self._talking.streams)
        return SSHResult(out, err)

    def _end_command(self) -> Iterator[float]:
        """End the command when its block is left; its input has ended.

        It yields seconds to wait for the end, and goes on if that has not come.
        """
        self._flow.unread[:] = BOTH  # nobody will read what would keep it from its end
        if self._may_end():
            yield PATIENCE
        self.terminate()
        yield PATIENCE
        self.kill()
        yield LAST_MOMENT

    def _may_end(self) -> bool:
        """Tell whether the command may be about to end by itself.

        It may if it reads its input to the end, if its output has ended, or if the user has read
        nothing of it.
        """
        flow = self._flow
        if flow.was_written or not flow.was_read:
            return True
        with self._session.driver.my_fresh():
            return bool(self._channel.get_info().eof)

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"returncode={self.returncode}"
        return f"<{type(self).__name__} on {self._session.hop}: {state}>"


class Shell(RemoteProcess[Flow[H]], Generic[H]):
    """What `InteractiveShell` and `AsyncInteractiveShell` share.

    Attributes:
        result: after the block, all output that was not read before; the status is -1 if the
            shell had not ended when the time was over, or was closed in the block.
    """

    def __init__(self, session: H, channel: Channel, pty: ops.Pty | None) -> None:
        super().__init__(Flow(session, channel))
        self._pty = pty
        self._seen = MergedOutput()
        self.result: SSHResult | None = None

    def resize(self, columns: int, rows: int) -> None:
        """Tell the terminal its new size, in characters (RFC 4254 section 6.7)."""
        size = ops.Pty("", columns, rows).make_window_change()
        self._session.call_at_once(lambda: self._channel.request(b"window-change", size))

    def _say_goodbye(self) -> Op[ops.Exit]:
        """Drain, after an ``exit`` for a shell with a terminal, whose end of input ends nothing."""
        if self._pty is not None and not self._flow.input_ended:
            with contextlib.suppress(ChannelError):  # it may have ended by itself
                yield from ops.write(self._channel, b"exit\n")
        return (yield from self._drain())

    def _drain(self) -> Op[ops.Exit]:
        """End its input and take all its output, until it has ended."""
        self._flow.end_input()
        while (yield from ops.read_any(self._channel, self._seen)):
            pass
        return (yield from ops.wait(self._channel))

    def _take_result(self, ended: ops.Exit | None) -> SSHResult:
        """Return what came and was not taken yet; None if the shell has not ended."""
        out, err, order = self._seen.split_apart()
        self._seen.clear()
        status, signal = (-1, None) if ended is None else (ended.status, ended.signal)
        return SSHResult(out, err, status, signal, False, order)

    def _take_what_came(self) -> SSHResult:
        """Return what has come, without waiting."""
        with self._session.driver.my_fresh():
            ops.take_any(self._channel, self._seen)
            return self._take_result(ops.get_exit(self._channel))


def encode_line(data: str | bytes, add_newline: bool | None) -> bytes:
    """Return a line as bytes; None for `add_newline` counts as True, as in hussh 0.3.3."""
    # Not bytes(data): that makes a number that many NULs.
    raw = data.encode() if isinstance(data, str) else bytes(memoryview(data))
    wanted = add_newline is None or add_newline
    return raw + b"\n" if wanted and not raw.endswith(b"\n") else raw
