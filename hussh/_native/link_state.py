"""What C knows of a link at one moment, and the error that says why a link died.

`Link` makes it, the drivers and keepalive read it. It must not hold the link.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConnectionClosed, ConnectionLost, HusshError, Phase, ProtocolError, printable
from ._libssh2 import ffi
from .constants import PHASES, Death

__all__ = ["LinkState", "read_text"]


class LinkState:
    """A snapshot of what the C side knows of a link."""

    __slots__ = ("phase", "death", "code", "text", "messages", "replies", "rekeys", "queued",
                 "received", "sent", "packets", "unasked", "unasked_kind")  # fmt: skip

    def __init__(self, info: Any) -> None:
        self.phase: Phase = PHASES[info.phase]
        self.death: Death = Death(info.dead)
        self.code: int = int(info.code)
        self.text: str = read_text(info)
        self.messages: int = int(info.messages)
        self.unasked: int = int(info.unasked)
        self.unasked_kind: Any = ffi.string(info.unasked_kind).decode("ascii", "replace")
        self.replies: int = int(info.replies)
        self.rekeys: int = int(info.rekeys)
        self.queued: int = int(info.queued)
        self.received: int = int(info.received)
        self.sent: int = int(info.sent)
        self.packets: int = int(info.packets)

    def as_error(self) -> HusshError:
        """Return the error that says why the link is dead."""
        if self.death is Death.KILLED:
            return ConnectionClosed("the connection was closed")
        if self.death is Death.PEER:
            return ConnectionLost(f"the server ended the connection: {self.text or 'no reason'}")
        if self.death in (Death.EOF, Death.OS):
            return ConnectionLost(f"connection lost: {self.text}")
        if self.death is Death.MEMORY:
            return ConnectionLost("connection lost: out of memory")
        if self.death is Death.STUCK:
            return ConnectionLost(
                f"connection given up: {self.text}; this is a fault of hussh: please report it,"
                " and connect again"
            )
        return ProtocolError(f"the server broke the protocol: {self.text}")


def read_text(info: Any) -> str:
    """Return the peer's text from one of C's structs; mostly it is empty."""
    text = ffi.string(info.text)
    return printable(text.decode("utf-8", "replace"), len(info.text)) if text else ""
