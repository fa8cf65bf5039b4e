"""Where a file ends at servers that answer a READ past the end with an error instead of EOF.

Some do so for a READ that begins at the end, others for every READ that reaches past it.
There the size that FSTAT tells is the end.  Transfers and streams ask here after a READ
failed; where nothing fails nothing is asked.
"""

from __future__ import annotations

from ..._policy.sftp import FX_EOF, FX_LOCAL
from ..._policy.sftp_server import ServerLimits
from ..core import Op
from . import wire
from .request import FileHandle, Request
from .session import SftpSession, wait

__all__ = ["promised_end", "read_to_end"]


def promised_end(size: int | None, server: ServerLimits) -> int | None:
    """The offset from which on an error of READ is the end of the file.

    Args:
        size: what FSTAT tells; None: nothing.

    Returns:
        None where every error is one: the size is unknown, or the server is OpenSSH, which
        says EOF at the end and has files of size 0 that are not empty (/proc).
    """
    return None if server.is_openssh else size


def read_to_end(
    session: SftpSession, handle: FileHandle, offset: int, failed: Request
) -> Op[Request | None]:
    """Read what lies between an offset and the end, after a READ from there on failed.

    Returns:
        The reply to a READ that ends where the file does; one with the status EOF where the
        offset is the end; None where the failed READ did not reach past the end.
    """
    if failed.status in (FX_EOF, FX_LOCAL):
        return None
    machine = session.machine
    found = yield from wait(session, machine.about(wire.FSTAT, handle))
    size = found.value.st_size if found.value is not None else None
    end = promised_end(size, machine.server)
    if end is None or offset + failed.size <= end:
        return None
    if offset >= end:
        failed.status = FX_EOF
        return failed
    return (yield from wait(session, machine.read(handle, offset, end - offset)))
