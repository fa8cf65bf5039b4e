"""Finds the size of an open file by reading, at servers that do not tell it.

`tail`, `stream` and `resume` use it. It reads a byte ever further on until there is none, then in
between. That takes about twice as many requests as the size has bits, and only if FSTAT has no
size.
"""

from __future__ import annotations

from ..._policy.sftp import FX_EOF
from ..core import Op
from .ops import Handle, explain
from .session import wait

__all__ = ["find_size"]

FIRST_STEP = 64 * 1024


def find_size(handle: Handle, near: int = 0) -> Op[int]:
    """Return the number of bytes of a file that is open for reading.

    `near` is an offset that is probably not far from the size.

    Raises:
        SFTPError: the server refused.
    """
    stated = (yield from handle.fetch_attributes()).st_size
    if stated is not None:
        return stated
    low, step = 0, FIRST_STEP  # the size is `low` at least
    if near and (yield from _has_byte(handle, near - 1)):
        low = near
    high = low + step
    while (yield from _has_byte(handle, high - 1)):
        low, step = high, step * 2
        high = low + step
    # The byte at `high - 1` is not there, that at `low - 1` is.
    while high - low > 1:
        middle = (low + high) // 2
        if (yield from _has_byte(handle, middle - 1)):
            low = middle
        else:
            high = middle
    return low


def _has_byte(handle: Handle, offset: int) -> Op[bool]:
    session = handle.session
    request = yield from wait(session, session.machine.read(handle.id, offset, 1))
    # Some servers answer an error past the end; at the beginning it is a real error.
    if request.status not in (0, FX_EOF) and offset == 0:
        raise (yield from explain(session, request, "read", handle.path))
    return not request.status and bool(request.value)
