"""Finds the end of a file at servers that answer a READ past it with an error instead of EOF.

Some do so for a READ that begins at the end, others for every READ that reaches past it. With them
the size of FSTAT is the end. `transfer` and `stream` ask here after a READ failed, and only then.
"""

from __future__ import annotations

from ..._policy.sftp import FX_EOF, FX_LOCAL
from ..._policy.sftp_server import ServerLimits
from ..core import Op
from . import wire
from .request import FileHandle, Request
from .session import SftpSession, wait

__all__ = ["find_promised_end", "read_to_end"]


def find_promised_end(size: int | None, server: ServerLimits) -> int | None:
    """Return the offset from which on an error of READ is the end of the file.

    Args:
        size: the size of FSTAT, or None if it had none.

    Returns:
        None if every error is an error: the size is unknown, or the server is OpenSSH, which
            says EOF at the end and has files of size 0 that are not empty (/proc).
    """
    return None if server.is_openssh else size


def read_to_end(
    session: SftpSession, handle: FileHandle, offset: int, failed: Request
) -> Op[Request | None]:
    """Read what is between an offset and the end, after a READ from that offset failed.

    Returns:
        The reply to a READ that ends at the end of the file; a reply with the status EOF if the
            offset is the end; None if the failed READ did not reach past the end.
    """
    if failed.status in (FX_EOF, FX_LOCAL):
        return None
    machine = session.machine
    found = yield from wait(session, machine.queue_about(wire.FSTAT, handle))
    size = found.value.st_size if found.value is not None else None
    end = find_promised_end(size, machine.server)
    if end is None or offset + failed.size <= end:
        return None
    if offset >= end:
        failed.status = FX_EOF
        return failed
    return (yield from wait(session, machine.read(handle, offset, end - offset)))
