"""Finds out whether a path is a file, a directory or a link, at servers that do not tell types.

`glob`, `remove_tree`, the transfers of directories and `os`-like methods use it. Version 3 has no
field for the type. It is in the permissions, which a server may leave out or send without these
bits. Then the long name of a listing tells, or LSTAT, or an attempt: what READLINK reads is a link,
and what OPENDIR opens is a directory.

An inquiry is a generator that yields a request as ``(kind, body)`` and is sent the answered
`Request`. `run_inquiry` runs one for an operation, `Tree.run_inquiry` for one of many jobs. So both
ask the same. Nothing here changes anything on the server.
"""

from __future__ import annotations

import stat as modes
from collections.abc import Generator
from typing import TypeVar

from ..._policy.sftp import SFTPAttributes
from ..core import Op
from . import wire
from .request import Request
from .session import SftpState, wait
from .wire import string

__all__ = ["Inquiry", "Kind", "run_inquiry", "is_directory", "find_kind", "get_listed_type"]

T = TypeVar("T")
Inquiry = Generator[tuple[int, bytes], Request, T]

#: Attributes as the server tells them (their `st_mode` may lack the type), and the type as
#: one of `stat.S_IFDIR`, `S_IFREG` …
Kind = tuple[SFTPAttributes, int]

_UNSUPPORTED = 8  # SSH_FX_OP_UNSUPPORTED
_LETTERS = {
    "-": modes.S_IFREG, "d": modes.S_IFDIR, "l": modes.S_IFLNK, "b": modes.S_IFBLK,
    "c": modes.S_IFCHR, "p": modes.S_IFIFO, "s": modes.S_IFSOCK,
}  # fmt: skip


def get_listed_type(attributes: SFTPAttributes, longname: bytes = b"") -> int:
    """Return the type that a listing tells, or 0.

    A long name counts if it begins as a line of ``ls -l`` does.
    """
    kind = modes.S_IFMT(attributes.st_mode)
    if kind:
        return kind
    start = longname[:10].decode("ascii", "replace")
    looks = len(start) == 10 and not set(start[1:]) - set("rwxsStTlL-")
    return _LETTERS.get(start[0], 0) if looks else 0


def find_kind(
    path: bytes,
    known: SFTPAttributes | None = None,
    longname: bytes = b"",
    *,
    follow: bool,
) -> Inquiry[Kind | Request]:
    """Find out what a path is: return attributes and type, or the request that was refused.

    Args:
        path: the path on the server.
        known, longname: what a listing said of it, for a link of the link itself.
        follow: whether the target of a link is meant.
    """
    if known is not None:
        kind = get_listed_type(known, longname)
        if kind and not (follow and kind == modes.S_IFLNK):
            return known, kind
    asked = yield (wire.STAT if follow else wire.LSTAT), string(path)
    if asked.status == _UNSUPPORTED and not follow:
        asked = yield wire.STAT, string(path)
    if asked.value is None:
        return asked
    attributes: SFTPAttributes = asked.value
    kind = get_listed_type(attributes, longname)
    if follow and kind == modes.S_IFLNK:  # by the long name, which is of the link itself
        kind = 0
    if not kind and not follow and (yield wire.READLINK, string(path)).value:
        kind = modes.S_IFLNK
    if not kind:
        is_open = (yield wire.OPENDIR, string(path)).value is not None
        kind = modes.S_IFDIR if is_open else modes.S_IFREG
    return attributes, kind


def run_inquiry(sftp: SftpState, inquiry: Inquiry[T]) -> Op[T]:
    """Run one inquiry."""
    session = yield from sftp.get_session(early=True)
    answer: Request | None = None
    while True:
        try:
            kind, body = inquiry.send(answer)  # type: ignore[arg-type]
        except StopIteration as done:
            value: T = done.value
            return value
        answer = yield from wait(session, session.machine.request(kind, body))
        if kind == wire.OPENDIR and answer.value is not None:
            session.machine.forget(answer.value)


def is_directory(sftp: SftpState, path: bytes) -> Op[bool]:
    """Tell whether a path leads to a directory; False if it cannot be looked at."""
    found = yield from run_inquiry(sftp, find_kind(path, follow=True))
    return isinstance(found, tuple) and found[1] == modes.S_IFDIR
