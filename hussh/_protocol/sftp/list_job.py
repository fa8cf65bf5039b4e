"""Lists one directory within a job of a `JobPool`, so that many are listed at once.

`remove_tree`, `glob` and the mirrors use it. It bounds what a server can make it hold, and follows
no link.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Generator
from typing import Any

from ..._policy.sftp import FX_EOF, make_file_error
from . import wire
from .job_pool import JobPool
from .ops import EMPTY_LISTS, MOST_LISTED, MOST_NAMES
from .request import Request
from .wire import Name, string

__all__ = ["list_all"]

#: Questions for names of one directory that are under way at once.
LISTS_AHEAD = 2


def list_all(pool: JobPool, path: bytes) -> Generator[Any, Any, list[Name] | Request]:
    """Return all entries of a directory but "." and "..", or the request that was refused.

    Raises:
        SFTPError: EOVERFLOW for a listing without end.
    """
    while True:
        found = yield from _list_once(pool, path)
        if found is not None:
            return found


def _list_once(pool: JobPool, path: bytes) -> Generator[Any, Any, list[Name] | Request | None]:
    """List it; return None if the server gave its handle to another directory meanwhile."""
    machine = pool.session.machine
    opened = pool.ask(wire.OPENDIR, string(path))
    asked: deque[Request] = deque()
    found: list[Name] = []
    size = empty = 0
    try:
        yield from pool.wait(opened)
        if opened.status:
            return opened
        while True:
            while len(asked) < LISTS_AHEAD:
                asked.append(pool.ask_about(wire.READDIR, opened.value))
            reply = asked[0]
            yield from pool.wait(reply)
            asked.popleft()
            if opened.value.is_lost:
                return None
            if reply.status:
                return found if reply.status == FX_EOF else reply
            size += reply.size
            empty = 0 if reply.value else empty + 1
            found += [name for name in reply.value if name.name not in (b".", b"..")]
            pool.work += len(reply.value)
            if len(found) > MOST_NAMES or size > MOST_LISTED or empty > EMPTY_LISTS:
                reason = "its listing does not end"
                raise make_file_error(errno.EOVERFLOW, "list", path, reason=reason)
            if pool.is_due:
                yield None
    finally:
        for reply in asked:
            machine.abandon(reply)
        machine.abandon(opened)  # closes it
