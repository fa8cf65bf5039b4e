"""One SFTP request with its result, and the handle of the open file that it may be about.

`machine.py` makes requests, and code that waits for one looks at it. Pure data.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ..._policy.sftp import FX_OK
from . import wire

__all__ = ["OPENS", "REPLIES", "Buffer", "FileHandle", "Request"]

Buffer = bytes | bytearray | memoryview

#: What answers a request, where that is more than a status.
REPLIES = {
    wire.OPEN: wire.HANDLE, wire.OPENDIR: wire.HANDLE, wire.READ: wire.DATA,
    wire.READDIR: wire.NAME, wire.REALPATH: wire.NAME, wire.READLINK: wire.NAME,
    wire.STAT: wire.ATTRS, wire.LSTAT: wire.ATTRS, wire.FSTAT: wire.ATTRS,
    wire.EXTENDED: wire.EXTENDED_REPLY,
}  # fmt: skip
#: Requests that bring a handle.
OPENS = frozenset((wire.OPEN, wire.OPENDIR))


class FileHandle(bytes):
    """The handle of one open file or directory; its bytes are the server's.

    Attributes:
        is_lasting: whether its user decides how long it stays open.
        is_writable: whether it was opened for writing.
        is_lost: whether the server gave the same bytes to another file while this one was open.
        closes: CLOSE requests that the server has not answered.
    """

    is_lasting = False
    is_writable = False
    is_lost = False
    closes = 0


class Request:
    """One request and its result.

    Attributes:
        done: whether the reply has come.
        status: its SSH_FX_* code; 0 if the reply has a value.
        text: the server's text for the status.
        value: a handle, attributes, a list of `Name`, data (a memoryview), or what `parse` made
            of an extended reply; None for a mere status.
        size: number of bytes that were asked for or are written; for a list of names, that of
            the reply.
        tag: whatever its maker wants to remember.
        errno: the errno of its failure, if that is known better than by the status; otherwise
            None.
        lasting: for an OPEN, whether a user decides how long the file stays open.
        handle: the open file that it is about, if it is about one.
        body, data: what is sent: the message without its head, and a payload behind it.
        reply: the type of the message that has the value, or None.
        refused_at: for an OPEN, how many files were open when the server refused it; otherwise
            None.
    """

    __slots__ = ("kind", "id", "done", "status", "text", "value", "size", "pool", "box", "tag",
                 "abandoned", "expects", "parse", "errno", "lasting", "handle", "body", "data",
                 "refused_at", "reply")  # fmt: skip

    def __init__(
        self,
        kind: int,
        body: bytes,
        box: deque[Request] | None,
        tag: Any,
        *,
        data: Buffer | None = None,
        handle: bytes | None = None,
    ) -> None:
        self.kind: int = kind
        self.id: int = -1  # until it is sent
        self.body: bytes = body
        self.data: bytes | bytearray | memoryview | None = data
        self.handle: FileHandle | None = handle if isinstance(handle, FileHandle) else None
        self.errno: int | None = None
        self.lasting: bool = False
        self.refused_at: int | None = None
        self.done: bool = False
        self.status: int = FX_OK
        self.text: str = ""
        self.value: Any = None
        self.size: int = 0
        self.pool: list[bytearray] | None = None
        self.box: deque[Request] | None = box
        self.tag: Any = tag
        self.abandoned: bool = False
        self.expects: bool = kind in REPLIES
        self.parse: Callable[[bytes], Any] | None = None
        self.reply: int | None = REPLIES.get(kind)

    @property
    def open_flags(self) -> int:
        """The FXF_* flags of an OPEN; 0 for an OPENDIR."""
        if self.kind != wire.OPEN:
            return 0
        length = wire.U32.unpack_from(self.body)[0]
        return int(wire.U32.unpack_from(self.body, 4 + length)[0])
