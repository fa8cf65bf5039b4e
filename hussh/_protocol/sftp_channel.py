"""The SFTP session of a connection: opened when first needed, shared by all, replaced when broken.

Theory of operation.  `SftpSession.step` moves what can be moved without waiting:
it opens the channel, starts the subsystem, feeds what arrived into the machine
and sends what the machine queued.  Every operation calls it before it looks for
its reply and before it waits, so whoever runs serves all, nobody owns the
opening, and an operation that is given up leaves the others nothing to repair.

A session that broke (protocol violation, end of the stream, an interrupt in the
middle of a step) fails everybody who waits in it; the channel is closed, which
also wakes them.  The next operation begins a new one.  The connection goes on.
"""

from __future__ import annotations

from typing import Protocol

from .._native.link import Channel, ChannelState, Link
from .._policy.wire import string
from ..errors import HusshError, SFTPError, SFTPUnavailable
from .channel import REASONS
from .core import Need, Progress
from .sftp_machine import Machine, Request

__all__ = ["ChannelPipe", "Pipe", "SFTP_WINDOW", "Sftp", "SftpSession"]

#: What the server may send ahead of our reading: bandwidth x round-trip time of a long, fast way.
SFTP_WINDOW = 16 * 1024 * 1024
STDERR_KEPT = 4096


class Pipe(Protocol):
    """A byte stream to an SFTP server; nothing here waits."""

    def opened(self) -> bool:
        """Go on with the opening; whether it is done.  Raises SFTPUnavailable."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take bytes; returns how many, maybe 0."""

    def read_into(self, buffer: memoryview) -> int:
        """Fill a buffer with what has come; returns how many bytes, maybe 0."""

    def ended(self) -> str | None:
        """Why nothing more will come, after all was read; None: more may come."""

    def check(self) -> None:
        """Raise what the connection died of, if it did."""

    def need(self) -> Need:
        """What to wait for."""

    def close(self) -> None:
        """End the stream; `need` is met soon."""


class ChannelPipe:
    """The SFTP subsystem on a session channel (RFC 4254 section 6.5)."""

    def __init__(self, link: Link) -> None:
        link.check()
        self.link = link
        self.channel: Channel = link.open(b"session", b"", SFTP_WINDOW)
        self._need = Progress(self.channel)
        self._asked = self._open = False
        self._stderr = b""

    def opened(self) -> bool:
        if self._open:
            return True
        info = self.channel.look()
        if info.state == ChannelState.REFUSED:
            reason, text = int(info.reason), self.channel.text
            raise SFTPUnavailable(
                f"the server refused a session for SFTP: {REASONS.get(reason, 'unknown reason')}"
                + (f" ({text})" if text else "")
            )
        if info.state != ChannelState.OPEN:
            return False
        if not self._asked:
            self.channel.request(b"subsystem", string(b"sftp"), want_reply=True)
            self._asked = True
        # Some servers end the whole connection for data before this answer.
        elif info.replies:
            if info.failures & 1:
                raise SFTPUnavailable("the server offers no SFTP (it refused the subsystem)")
            self._open = True
        elif info.closed:
            raise SFTPUnavailable("the server offers no SFTP (it closed the channel)")
        return self._open

    def write(self, data: bytes | bytearray | memoryview) -> int:
        info = self.channel.look()
        return 0 if info.closed else self.channel.write(data)

    def read_into(self, buffer: memoryview) -> int:
        return self.channel.read_into(0, buffer)

    def ended(self) -> str | None:
        info = self.channel.look()
        if info.err:
            self._stderr = (self._stderr + self.channel.read(1, int(info.err)))[-STDERR_KEPT:]
        if not (info.eof or info.closed) or info.out:
            return None
        text = self._stderr.decode("utf-8", "replace")
        said = "".join(char if char.isprintable() else " " for char in text).strip()
        reason = "the server ended the SFTP session"
        if info.exit_known == 1 and info.exit_status:
            reason += f" with status {int(info.exit_status)}"
        return reason + (f": {said}" if said else "")

    def check(self) -> None:
        self.link.check()

    def need(self) -> Need:
        return self._need

    def close(self) -> None:
        self.channel.close()


class SftpSession:
    """A machine, the pipe under it, and what went wrong with them."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self.machine = Machine()
        self.broken: str | None = None
        self.unavailable = False
        self._stepping = False
        self._limits: Request | None = None

    def step(self) -> None:
        """Move what can be moved; raises what this session died of."""
        if self.broken is None and self._stepping:
            self.end("the SFTP session was interrupted")
        if self.broken is not None:
            self.pipe.check()
            raise self.failure()
        try:
            self._stepping = True
            self._step()
            self._stepping = False
        except SFTPUnavailable as error:
            self.end(error.text)
            raise
        except Exception as error:
            self._stepping = False
            self.pipe.check()
            if isinstance(error, HusshError):
                self.end(error.text)
                raise
            self.end(f"the server broke the SFTP protocol: it sent {error}")
            raise self.failure() from None
        except BaseException:
            self.end("the SFTP session was interrupted")  # who knows how far the step had come
            raise

    def push(self) -> None:
        """`step` after queueing."""
        self.step()

    def failure(self) -> SFTPError:
        kind = SFTPError if self.machine.ready else SFTPUnavailable
        return kind(self.broken or "the SFTP session has ended")

    def end(self, reason: str) -> None:
        """Break the session: everybody in it fails, nothing of it is used again."""
        if self.broken is None:
            self.broken = reason
            self.machine.out.clear()
            self.pipe.close()

    def _step(self) -> None:
        if not self.pipe.opened():
            self.pipe.check()
            return
        machine, pipe = self.machine, self.pipe
        while True:
            view = machine.buffer()
            count = pipe.read_into(view)
            if count:
                machine.received(count)
            if count < len(view):
                break
        reason = pipe.ended()
        if reason is not None:
            pipe.check()
            if not machine.ready:
                raise SFTPUnavailable(f"the server offers no usable SFTP: {reason}")
            machine.ended()
            raise SFTPError(reason)
        if (machine.ready and self._limits is None) or self._limits is not None:
            self._learn()
        self._write()

    def _learn(self) -> None:
        raise NotImplementedError

    def _write(self) -> None:
        out, write = self.machine.out, self.pipe.write
        while out:
            piece = out[0]
            taken = write(piece)
            if taken < len(piece):
                if taken:
                    out[0] = memoryview(piece)[taken:]
                return
            out.popleft()
