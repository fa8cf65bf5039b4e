"""File operations over SFTP, of one request or a few each, as generators.

`SFTP` and `AsyncSFTP` run them by way of `sftp_calls.py`; transfers have their own modules. After a
status that says only "failure", a second look at the path explains the error. Nothing here keeps
anything between two operations.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from typing import Any, TypeVar

from ..._policy.remote_path import check_name, is_name
from ..._policy.sftp import (
    FX_EOF,
    FX_FAILURE,
    FX_LOCAL,
    FX_NO_SUCH_FILE,
    FX_OK,
    SFTPAttributes,
    decode_path,
    describe_unanswered,
    get_errno,
    make_file_error,
)
from ...errors import SFTPError, SFTPTimeout, printable
from ..core import Checkpoint, DeadlineExceeded, Op
from . import wire
from .home import expand_home, expands_home
from .request import FileHandle, Request
from .session import SftpSession, SftpState, wait, wait_until_done
from .warnings import warn
from .wire import Name, string

__all__ = [
    "Handle",
    "Listing",
    "change_owner",
    "explain",
    "explain_present",
    "list_names",
    "lstat",
    "make_directory",
    "open_directory",
    "open_handle",
    "read_link",
    "resolve_path",
    "remove",
    "remove_directory",
    "rename",
    "set_attributes",
    "stat",
    "statvfs",
    "limit_time",
]

T = TypeVar("T")

_PERMISSION_DENIED = 3
#: `listdir` returns no more names than this; `scandir` yields any number of them.
MOST_NAMES = 1_000_000
#: Nor are more bytes of them: names without end need not be many.
MOST_LISTED = 512 * MOST_NAMES
EMPTY_LISTS = 16
#: So many names are dealt with between two looks at the time limit.
NAMES_AT_ONCE = 1024
READDIRS = 8


def limit_time(op: Op[T], doing: str, limit: str) -> Op[T]:
    """Run an operation whose deadline is an SFTPTimeout; `limit` is the limit as it words it."""
    try:
        return (yield from op)
    except DeadlineExceeded as error:
        text = f"cannot {doing}: timed out{limit}{describe_unanswered(error.unanswered)}"
        raise SFTPTimeout(text, errno=errno.ETIMEDOUT) from None


class Handle:
    """An open file or directory of one session."""

    __slots__ = ("session", "id", "path", "closed")

    def __init__(self, session: SftpSession, id: FileHandle, path: bytes) -> None:
        self.session: SftpSession = session
        self.id: FileHandle = id
        self.path: bytes = path
        self.closed: bool = False

    @property
    def is_lost(self) -> bool:
        """Whether the server gave this handle to another file, too; see `sftp.open_files`."""
        return self.id.is_lost

    def ask(self, kind: int, more: bytes, doing: str) -> Op[Request]:
        """Make a request about this handle that must succeed."""
        request = self.session.machine.queue_about(kind, self.id, more)
        yield from wait(self.session, request)
        if request.status:
            raise (yield from explain(self.session, request, doing, self.path))
        return request

    def fetch_attributes(self) -> Op[SFTPAttributes]:
        found: SFTPAttributes = (yield from self.ask(wire.FSTAT, b"", "stat")).value
        return found

    def sync(self) -> Op[None]:
        """Have the server write it to its disk; raise OSError (EOPNOTSUPP) if it cannot."""
        session = self.session
        if b"fsync@openssh.com" not in session.machine.extensions:
            raise make_file_error(errno.EOPNOTSUPP, "sync", self.path)
        body = string(self.id)
        request = session.machine.queue_extended(b"fsync@openssh.com", body, handle=self.id)
        yield from wait(session, request)
        if request.status:
            raise (yield from explain(session, request, "sync", self.path))

    def close(self) -> Op[None]:
        """Close it and check that all went well; a second call does nothing."""
        if not self.closed:
            yield from self.end_close(self.begin_close())

    def begin_close(self) -> Request:
        """Queue CLOSE behind earlier requests; `end_close` waits for the answer."""
        self.closed = True
        request = self.session.machine.close(self.id)
        self.session.step()
        return request

    def end_close(self, request: Request) -> Op[None]:
        """Wait for the answer to a CLOSE.

        Raises:
            SFTPError: the server refused.
        """
        yield from wait(self.session, request)
        if request.status:
            raise (yield from explain(self.session, request, "close", self.path))

    def forget(self) -> None:
        """Close without waiting."""
        if not self.closed:
            self.closed = True
            if self.session.broken is None:
                self.session.machine.forget(self.id)
                self.session.step()


def explain(
    session: SftpSession, request: Request, doing: str, path: bytes, path2: bytes | None = None,
    *, look_at: bytes | None = None,
) -> Op[SFTPError]:  # fmt: skip
    """Return the error for a request that failed.

    `look_at` is the path on the server that the request was about, if that is neither the second
    nor the first path.
    """
    if request.errno is not None:
        status = None if request.status == FX_LOCAL else request.status
        return make_file_error(
            request.errno, doing, path, path2, server_text=request.text, status=status
        )
    code = get_errno(request.status)
    vague = request.status in (FX_FAILURE, FX_NO_SUCH_FILE)
    # Some servers deny what is there already.
    vague = vague or (request.kind == wire.MKDIR and request.status == _PERMISSION_DENIED)
    if vague and session.broken is None:
        about = look_at if look_at is not None else path if path2 is None else path2
        code = (yield from _find_errno(session, request, about)) or code
    return make_file_error(
        code, doing, path, path2, server_text=request.text, status=request.status
    )


def _find_errno(session: SftpSession, request: Request, about: bytes) -> Op[int | None]:
    """Return an errno that says more than the status, or None."""
    machine, kind = session.machine, request.kind
    if kind in (wire.READDIR, wire.CLOSE, wire.FSTAT, wire.READLINK, wire.REALPATH):
        return None
    found = yield from wait(session, machine.request(wire.LSTAT, string(about)))
    mode = found.value.st_mode if found.value is not None else None
    is_file = mode is not None and modes.S_ISREG(mode)
    if is_file and kind == wire.OPENDIR:
        return errno.ENOTDIR
    if request.status == FX_NO_SUCH_FILE:
        return errno.ENOTDIR if is_file and kind == wire.RMDIR else None
    if found.status == FX_NO_SUCH_FILE and kind in (wire.OPENDIR, wire.RMDIR, wire.REMOVE):
        return errno.ENOENT
    if mode is not None:
        if kind in (wire.OPEN, wire.REMOVE, wire.READ, wire.WRITE) and modes.S_ISDIR(mode):
            return errno.EISDIR
        if kind in (wire.MKDIR, wire.SYMLINK):
            return errno.EEXIST
        if kind in (wire.RENAME, wire.EXTENDED):
            return errno.EISDIR if modes.S_ISDIR(mode) else errno.EEXIST
        if kind == wire.RMDIR and modes.S_IFMT(mode):
            return errno.ENOTEMPTY if modes.S_ISDIR(mode) else errno.ENOTDIR
        if kind == wire.OPEN and request.tag == "exclusive":
            return errno.EEXIST
    if b"statvfs@openssh.com" in machine.extensions:
        place = about if mode is not None else os.path.dirname(about) or b"."
        asked = machine.queue_extended(b"statvfs@openssh.com", string(place), wire.parse_statvfs)
        reply = yield from wait(session, asked)
        if reply.value is not None:
            numbers: tuple[int, ...] = reply.value
            opens_to_write = request.tag in ("write", "exclusive")
            changes = kind != wire.READ and (kind != wire.OPEN or opens_to_write)
            if changes and numbers[9] & 1:
                return errno.EROFS
            if changes and (not numbers[4] or not numbers[7]):
                return errno.ENOSPC
    return None


def explain_present(sftp: SftpState, request: Request, doing: str, path: bytes) -> Op[SFTPError]:
    """Return what `explain` returns for a request of the present session."""
    return (yield from explain((yield from sftp.get_session()), request, doing, path))


def _ask(
    sftp: SftpState, kind: int, body: bytes, doing: str, path: bytes, path2: bytes | None = None
) -> Op[Request]:
    session = yield from sftp.get_session(early=True)
    request = yield from wait(session, session.machine.request(kind, body))
    if request.status:
        raise (yield from explain(session, request, doing, path, path2))
    return request


# -- paths


@expands_home
def stat(sftp: SftpState, path: bytes) -> Op[SFTPAttributes]:
    found: SFTPAttributes = (yield from _ask(sftp, wire.STAT, string(path), "stat", path)).value
    return found


@expands_home
def lstat(sftp: SftpState, path: bytes) -> Op[SFTPAttributes]:
    found: SFTPAttributes = (yield from _ask(sftp, wire.LSTAT, string(path), "lstat", path)).value
    return found


@expands_home
def set_attributes(sftp: SftpState, path: bytes, setting: bytes, doing: str) -> Op[None]:
    yield from _ask(sftp, wire.SETSTAT, string(path) + setting, doing, path)


@expands_home
def truncate(sftp: SftpState, path: bytes, size: int) -> Op[None]:
    """Cut or extend a file.

    Raises:
        SFTPError: the server refused, or said yes and did not do it (Erlang's).
    """
    yield from set_attributes(sftp, path, wire.encode_setting(size=size), "truncate")
    if not sftp.server.is_openssh:
        check_size((yield from stat(sftp, path)), size, path)


def check_size(found: SFTPAttributes, size: int, path: bytes) -> None:
    """Raise SFTPError if a file that was cut has another size, as far as the server tells."""
    if found.st_size not in (None, size):
        reason = "the server said that it was done, and did nothing"
        raise make_file_error(errno.EOPNOTSUPP, "truncate", path, reason=reason)


@expands_home
def change_owner(sftp: SftpState, path: bytes, uid: int, gid: int) -> Op[None]:
    """Change the owner as `os.chown` does: -1 keeps one of the two; the protocol only sets both."""
    if -1 in (uid, gid):
        found = yield from stat(sftp, path)
        if found.st_uid is None or found.st_gid is None:
            raise make_file_error(errno.EOPNOTSUPP, "chown", path)
        uid, gid = (found.st_uid if uid == -1 else uid), (found.st_gid if gid == -1 else gid)
    yield from set_attributes(sftp, path, wire.encode_setting(owner=(uid, gid)), "chown")


@expands_home
def make_directory(sftp: SftpState, path: bytes, mode: int) -> Op[None]:
    body = string(path) + wire.encode_setting(mode=mode & 0o7777)
    yield from _ask(sftp, wire.MKDIR, body, "make the directory", path)


@expands_home
def remove(sftp: SftpState, path: bytes) -> Op[None]:
    yield from _ask(sftp, wire.REMOVE, string(path), "remove", path)


@expands_home
def remove_directory(sftp: SftpState, path: bytes) -> Op[None]:
    yield from _ask(sftp, wire.RMDIR, string(path), "remove the directory", path)


def rename(sftp: SftpState, source: bytes, target: bytes) -> Op[None]:
    """Rename as `os.rename`, if the server can (posix-rename); else the target must not exist."""
    session = yield from sftp.get_session()
    source, target = (yield from expand_home(sftp, source)), (yield from expand_home(sftp, target))
    machine, body = session.machine, string(source) + string(target)
    if b"posix-rename@openssh.com" in machine.extensions:
        request = machine.queue_extended(b"posix-rename@openssh.com", body)
    else:
        request = machine.request(wire.RENAME, body)
    yield from wait(session, request)
    if request.status:
        raise (yield from explain(session, request, "rename", source, target))


@expands_home
def read_link(sftp: SftpState, path: bytes) -> Op[bytes]:
    reply = yield from _ask(sftp, wire.READLINK, string(path), "read the link", path)
    return _get_only(reply, path)


@expands_home
def resolve_path(sftp: SftpState, path: bytes) -> Op[bytes]:
    reply = yield from _ask(sftp, wire.REALPATH, string(path), "resolve", path)
    return _get_only(reply, path)


class RealPath:
    """A `resolve_path` that is under way beside other requests."""

    def __init__(self, session: SftpSession, path: bytes) -> None:
        self.session = session
        self.path = path
        self.request = session.machine.request(wire.REALPATH, string(path))

    def answer(self) -> Op[bytes]:
        """Wait for the answer.

        Raises:
            SFTPError: the server refused.
        """
        request = yield from wait(self.session, self.request)
        if request.status:
            raise (yield from explain(self.session, request, "resolve", self.path))
        return _get_only(request, self.path)


def _get_only(reply: Request, path: bytes) -> bytes:
    names: list[Name] = reply.value
    if len(names) != 1:
        raise make_file_error(
            errno.EIO, "resolve", path, server_text=f"{len(names)} answers", status=0
        )
    return names[0].name


@expands_home
def statvfs(sftp: SftpState, path: bytes) -> Op[tuple[int, ...]]:
    """Return the eleven numbers of statvfs(3): f_bsize to f_namemax."""
    session = yield from sftp.get_session()
    if b"statvfs@openssh.com" not in session.machine.extensions:
        raise make_file_error(errno.EOPNOTSUPP, "statvfs", path)
    request = session.machine.queue_extended(
        b"statvfs@openssh.com", string(path), wire.parse_statvfs
    )
    yield from wait(session, request)
    if request.status:
        raise (yield from explain(session, request, "statvfs", path))
    numbers: tuple[int, ...] = request.value
    return numbers


# -- directories


class Listing:
    """The names of an open directory, fetched some requests ahead.

    Attributes:
        size: bytes of the replies that brought the names so far.
    """

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.size = 0
        self._asked: list[Request] = []
        self._ahead = 1
        self._empty = 0
        self._over = False
        self._odd = False  # an impossible name has come, and was logged
        self._given = 0  # names since a look at the time limit

    def fetch_more(self) -> Op[list[Name]]:
        """Return some names; none at all at the end."""
        session = self.handle.session
        while True:
            while not self._over and len(self._asked) < self._ahead:
                self._asked.append(session.machine.queue_about(wire.READDIR, self.handle.id))
            if not self._asked:
                return []
            if self._given >= NAMES_AT_ONCE:
                self._given = 0
                yield Checkpoint()  # before anything is taken, so that nothing is lost
            request = yield from wait_until_done(session, self._asked[0])
            del self._asked[0]
            if request.status == FX_EOF:
                self._over = True
                continue
            if request.status:
                raise (yield from explain(session, request, "list", self.handle.path))
            self.size += request.size
            self._given += len(request.value)
            names = yield from self._check(request.value)
            if names:
                self._ahead = min(self._ahead * 2, READDIRS)
                return names
            self._empty += 1
            if self._empty == EMPTY_LISTS:
                raise SFTPError(f"the server does not end the list of {self._show()}")

    def _check(self, found: list[Name]) -> Op[list[Name]]:
        """Return the names without ".", ".." and impossible ones; log the first of the latter."""
        names = [name for name in found if check_name(name.name)]
        if len(names) < len(found) and not self._odd:
            odd = next((n.name for n in found if not is_name(n.name)), None)
            if odd is not None:
                self._odd = True
                shown = printable(decode_path(odd))
                yield from warn(f"left out of the list of {self._show()}: {shown!r} is no name")
        return names

    def _show(self) -> str:
        return repr(decode_path(self.handle.path))

    def close(self) -> None:
        """Close without waiting; requests ahead are abandoned."""
        for request in self._asked:
            self.handle.session.machine.abandon(request)
        self._asked.clear()
        self.handle.forget()


@expands_home
def open_directory(sftp: SftpState, path: bytes, *, lasting: bool = False) -> Op[Listing]:
    """Open a directory; with `lasting`, a user decides how long it stays open."""
    session = yield from sftp.get_session(early=True)
    request = session.machine.request(wire.OPENDIR, string(path), lasting=lasting)
    yield from wait(session, request)
    if request.status:
        raise (yield from explain(session, request, "list", path))
    return Listing(Handle(session, request.value, path))


def list_names(sftp: SftpState, path: bytes, pick: Callable[[Name], Any]) -> Op[list[Any]]:
    """Return what `pick` makes of every entry except "." and ".."."""
    while True:
        listing = yield from open_directory(sftp, path)
        try:
            return (yield from _list_all(listing, path, pick))
        except SFTPError:
            if not listing.handle.is_lost:
                raise
        finally:
            listing.close()


def _list_all(listing: Listing, path: bytes, pick: Callable[[Name], Any]) -> Op[list[Any]]:
    found: list[Any] = []
    while names := (yield from listing.fetch_more()):
        for at in range(0, len(names), NAMES_AT_ONCE):
            if at:
                yield Checkpoint()
            found += map(pick, names[at : at + NAMES_AT_ONCE])
        if len(found) > MOST_NAMES:
            raise SFTPError(
                f"{decode_path(path)!r} has more than {MOST_NAMES} entries; use scandir"
            )
        if listing.size > MOST_LISTED:
            raise SFTPError(f"the list of {decode_path(path)!r} has more than {MOST_LISTED} bytes")
    return found


# -- files


@expands_home
def open_handle(sftp: SftpState, path: bytes, flags: int, mode: int | None = None) -> Op[Handle]:
    """Open a file (FXF_* flags) for as long as a user likes; a new one gets `mode`."""
    session = yield from sftp.get_session(early=True)
    body = string(path) + wire.U32.pack(flags) + wire.encode_setting(mode=mode)
    tag = "exclusive" if flags & wire.FXF_EXCL else "write" if flags & wire.FXF_WRITE else None
    request = session.machine.request(wire.OPEN, body, tag=tag, lasting=True)
    yield from wait(session, request)
    if request.status != FX_OK:
        raise (yield from explain(session, request, "open", path))
    return Handle(session, request.value, path)
