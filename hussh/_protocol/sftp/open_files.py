"""Keeps which files are open in one SFTP session, and which OPENs wait until one is closed.

The SFTP machine (`machine.py`) has one `OpenFiles` and asks it before it sends an OPEN or OPENDIR.
Nothing here sends or waits.

Theory of operation. A server may allow one open file, or four, or sixteen. A few tell the number
(limits@openssh.com). The others refuse the OPEN that is one too many, with a text or with a bare
FAILURE. An OPEN whose refusal may mean that waits here and is sent again when a file has been
closed, so its maker never sees the refusal. A bare FAILURE is in doubt: the number was the reason
only if the same OPEN succeeds with fewer files open. It is not in doubt if the server has had more
files open before.

An OPEN waits only for files that are sure to be closed: those of transfers and listings. The user
decides how long a file object stays open, and may be the one that waits. If only such files are
open, the server's refusal stands.

A file counts as open until the server has answered its CLOSE.

Some servers (Erlang's) give the handle of an open file to another one. What is asked of that handle
may then be done to either file. So the handle is given up (`FileHandle.is_lost`): its requests
fail, whatever the server answers, and both files are closed. The OPEN that got the handle waits and
is sent again, unless the file may have been changed by what was meant for the other one. From then
on one file at a time is open at this server.
"""

from __future__ import annotations

import errno
from collections import deque

from ..._policy.sftp import FX_LOCAL
from ..._policy.sftp_server import OpenRefusal, ServerLimits, classify_open_refusal
from . import wire
from .request import FileHandle, Request

__all__ = ["OpenFiles", "refuse_lost"]

LOST = "the server gave the handle of this file to another one, too"


class OpenFiles:
    """The open files of one session.

    Attributes:
        handles: files that are open, or whose CLOSE the server has not answered.
    """

    def __init__(self, server: ServerLimits) -> None:
        self.server = server
        self.handles: dict[bytes, FileHandle] = {}
        self._opening = 0  # OPENs that were sent, without an answer
        self._in_doubt = False  # one of them was refused before; its answer will tell the reason
        self._most_seen = 0  # files that were open at once
        self._waiting: deque[Request] = deque()
        self._refused: deque[Request] = deque()  # to be sent again, before those that wait

    @property
    def anybody_waits(self) -> bool:
        """Whether `take` may have something to return."""
        return bool(self._waiting or self._refused)

    def has_room(self, stated_limit: int | None) -> bool:
        """Tell whether an OPEN or OPENDIR may be sent at once, and note it if so; see `take`."""
        if self._waiting or self._refused or self._in_doubt:
            return False
        if len(self.handles) + self._opening >= self.server.get_most_open_files(stated_limit):
            return False
        self._opening += 1
        return True

    def add(self, request: Request) -> None:
        """Queue an OPEN or OPENDIR; `take` says when to send it."""
        self._waiting.append(request)

    def take(self, stated_limit: int | None) -> Request | None:
        """Return the next request to send, or one that is refused here (see its `status`), or None.

        Args:
            stated_limit: how many files may be open, as limits@openssh.com says; None if it
                does not.
        """
        while not self._in_doubt and (queue := self._refused or self._waiting):
            request = queue[0]
            if request.abandoned:
                queue.popleft()
                continue
            count = len(self.handles)
            most = self.server.get_most_open_files(stated_limit)
            if request.refused_at is not None:
                most = min(most, request.refused_at)
            if count + self._opening >= most:
                if self._will_change():
                    return None
                why = self.server.explain_no_more(count)
                if why is not None:
                    _refuse(request, errno.EMFILE, why)
                if why is not None or request.status:
                    queue.popleft()
                    return request
            queue.popleft()
            request.status, request.text, request.errno = 0, "", None
            self._in_doubt = request.refused_at is not None
            self._opening += 1
            return request
        return None

    def note_not_sent(self) -> None:
        """Note that a request of `take` was abandoned before it was sent."""
        self._note_answer()

    def note_opened(self, request: Request, value: bytes) -> tuple[FileHandle, bool]:
        """Note the answer to an OPEN; return its handle and whether another file has it.

        In that case the caller closes both files, and asks `again`.
        """
        self._note_answer()
        other = self.handles.get(value)
        if other is not None:
            other.is_lost = True
            self.server.gives_handles_twice = True
            return other, True
        handle = self.handles[value] = FileHandle(value)
        if request.lasting:
            handle.is_lasting = True
        if request.open_flags & wire.FXF_WRITE:
            handle.is_writable = True
        self._most_seen = max(self._most_seen, len(self.handles))
        if request.refused_at is not None:
            self.server.note_refusal(request.refused_at)
        return handle, False

    def note_refused(self, request: Request) -> bool:
        """Note the refusal of an OPEN; return whether it waits here to be sent again."""
        self._note_answer()
        if request.abandoned:
            return False
        meaning = classify_open_refusal(request.status, request.text)
        count = len(self.handles)
        if meaning is OpenRefusal.TOO_MANY:
            request.errno = errno.EMFILE
            if not self._will_change():
                return False
            self.server.note_refusal(count)
            request.refused_at = None
        elif meaning is OpenRefusal.MAYBE_TOO_MANY:
            in_doubt = 0 < count == self._most_seen and request.refused_at is None
            if not in_doubt or not self._will_change():
                return False
            request.refused_at = count
        else:
            return False
        self._refused.append(request)
        return True

    def again(self, request: Request) -> bool:
        """Tell whether an OPEN that got another file's handle waits here to be sent again.

        Otherwise it has failed: what was written to the other file may be in this one.
        """
        if request.abandoned:
            return False
        flags = request.open_flags
        if flags & wire.FXF_WRITE and not flags & wire.FXF_TRUNC:
            _refuse(request, errno.EIO, LOST)
            return False
        self._refused.append(request)
        return True

    def note_closed(self, handle: FileHandle) -> None:
        """Note the answer to a CLOSE."""
        handle.closes -= 1
        if not handle.closes and self.handles.get(handle) is handle:
            del self.handles[handle]

    def _note_answer(self) -> None:
        self._opening -= 1
        self._in_doubt = False  # no other OPEN is sent while one is in doubt

    def _will_change(self) -> bool:
        """Tell whether the number of open files is sure to become smaller, or known."""
        return self._opening > 0 or any(
            not handle.is_lasting or handle.closes for handle in self.handles.values()
        )


def refuse_lost(request: Request) -> None:
    """Fail a request about a lost handle; the CLOSE of a file that was only read succeeds."""
    handle = request.handle
    request.value = None
    if request.kind != wire.CLOSE or handle is None or handle.is_writable:
        _refuse(request, errno.EIO, LOST)


def _refuse(request: Request, code: int, text: str) -> None:
    request.status, request.errno, request.text = FX_LOCAL, code, text
