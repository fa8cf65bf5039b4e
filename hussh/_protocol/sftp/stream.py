"""An open remote file as a stream: it reads ahead and writes behind.

`file`, `tail` and `server_copy` use it. It runs one operation at a time. An operation that is
cancelled leaves it usable, at the same position. It knows no local files.
"""

from __future__ import annotations

from collections import deque

from ..._policy.sftp import FX_EOF
from ..core import Op
from . import wire
from .end_of_file import read_to_end
from .ops import Handle, explain
from .request import Request
from .session import wait_for_input, wait_until_done
from .size import find_size

__all__ = ["Stream"]

#: Bytes asked for ahead of a sequential reader, and written without an answer.
AHEAD = 2 * 1024 * 1024
BEHIND = 4 * 1024 * 1024


class Stream:
    """A file of one session, read and written at offsets that the caller gives."""

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self._ahead: deque[Request] = deque()  # READs, their `tag` the offset, without gaps
        self._ahead_end = 0
        self._depth = 0  # bytes to ask for ahead; 0: nobody has read sequentially yet
        self._rest = memoryview(b"")  # arrived and not taken
        self._rest_at = 0
        self._piece = 1 << 30  # shrinks to what the server really answers
        self._written: deque[Request] = deque()
        self._failed: Request | None = None

    # -- reading

    def read_into(self, offset: int, view: memoryview) -> Op[int]:
        """Read bytes from an offset on; return their number, 0 at the end of the file."""
        yield from self.settle()
        if not len(view):
            return 0
        if not self._rest or self._rest_at != offset:
            data = yield from self._take_next(offset, len(view))
            self._rest, self._rest_at = data, offset
        count = min(len(self._rest), len(view))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        self._rest_at += count
        return count

    def _take_next(self, offset: int, size: int) -> Op[memoryview]:
        session = self.handle.session
        machine = session.machine
        most = min(machine.limits.read, self._piece)
        if not self._ahead or self._ahead[0].tag != offset:
            self.drop()
        # What the caller asks for may be little (`read1`, text): the depth alone says how much
        # is on its way.
        sequential = offset == self._rest_at and offset > 0
        self._depth = min(max(self._depth * 2, most), AHEAD) if sequential else 0
        if not self._ahead:
            self._ahead_end = offset
        need = max(size, self._depth)
        while self._ahead_end - offset < need:
            piece = min(most, max(offset + need - self._ahead_end, 1))
            piece = most if self._depth else piece
            tag = self._ahead_end
            self._ahead.append(machine.read(self.handle.id, tag, piece, tag=tag))
            self._ahead_end += piece
        request = yield from wait_until_done(session, self._ahead[0])
        self._ahead.popleft()
        if request.status and request.status != FX_EOF:
            self.drop()
            handle = self.handle.id
            last = yield from read_to_end(session, handle, offset, request)
            if last is not None and not last.status:
                exact: memoryview = last.value
                return exact
            request = last or request
        if request.status == FX_EOF or (not request.status and not request.value):
            self.drop()
            return memoryview(b"")
        if request.status:
            self.drop()
            raise (yield from explain(session, request, "read", self.handle.path))
        data: memoryview = request.value
        if len(data) < request.size:  # what was asked for ahead leaves a gap
            self.drop()
            self._piece = max(len(data), 4096)
            self._depth = 0  # at a server that always answers so, all of it would be for nothing
        return data

    def drop(self) -> None:
        """Forget what was read ahead."""
        for request in self._ahead:
            self.handle.session.machine.abandon(request)
        self._ahead.clear()
        self._rest = memoryview(b"")

    # -- writing

    def write(self, offset: int, data: bytes | memoryview) -> Op[None]:
        """Queue bytes, which must not change; wait only while much is on its way."""
        session = self.handle.session
        machine = session.machine
        self.drop()
        most = machine.limits.write
        view = memoryview(data)
        for at in range(0, len(view), most):
            while True:
                session.step()
                flying = self._confirm()
                if not machine.backlog and flying < BEHIND:
                    break
                yield from wait_for_input(session)
            piece = view[at : at + most]
            self._written.append(machine.write(self.handle.id, offset + at, piece))
        session.step()

    def _confirm(self) -> int:
        """Look at answers; return the number of bytes still without one."""
        while self._written and self._written[0].done:
            request = self._written.popleft()
            if request.status and self._failed is None:
                self._failed = request
        return sum(request.size for request in self._written)

    @property
    def settled(self) -> bool:
        """Whether `settle` has nothing to wait for and nothing to raise."""
        return not self._written and self._failed is None

    def settle(self) -> Op[None]:
        """Wait until all is written; raise what failed, once."""
        if self.settled:
            return
        session = self.handle.session
        while True:
            session.step()
            if not self._confirm():
                break
            yield from wait_for_input(session)
        failed, self._failed = self._failed, None
        if failed is not None:
            raise (yield from explain(session, failed, "write", self.handle.path))

    # -- the rest

    def find_size(self) -> Op[int]:
        yield from self.settle()
        return (yield from find_size(self.handle))

    def set(self, setting: bytes, doing: str) -> Op[None]:
        yield from self.settle()
        self.drop()
        yield from self.handle.ask(wire.FSETSTAT, setting, doing)

    def sync(self) -> Op[None]:
        yield from self.settle()
        yield from self.handle.sync()

    def close(self) -> Op[None]:
        """Close it, even if it raises what writing failed with and nothing raised before."""
        try:
            if self.handle.session.broken is None or self._written:
                yield from self.settle()
            self.drop()
            yield from self.handle.close()
        finally:
            self.drop()
            self.handle.forget()
