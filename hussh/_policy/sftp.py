"""Maps SFTP replies to Python: errors by status and errno, attributes, path rules; pure.

`_protocol/sftp` and the file classes of `_api` use it. It never speaks to a server and opens no
file.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TypeAlias

from ..errors import (
    SFTPError,
    SFTPExistsError,
    SFTPIsDirectoryError,
    SFTPNotDirectoryError,
    SFTPNotFoundError,
    SFTPPermissionError,
    printable,
)

__all__ = [
    "FILE_MOST",
    "FX_EOF",
    "FX_FAILURE",
    "FX_LOCAL",
    "FX_NO_SUCH_FILE",
    "FX_OK",
    "AnyPath",
    "SFTPAttributes",
    "SFTPLimits",
    "decode_path",
    "encode_path",
    "get_errno",
    "make_file_error",
    "describe_kept",
    "describe_unanswered",
]

AnyPath: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

FX_OK, FX_EOF, FX_NO_SUCH_FILE, FX_FAILURE = 0, 1, 2, 4
#: In place of a status of the server's: the request was refused on this machine.
FX_LOCAL = -1

#: No file system has offsets and sizes of so many bytes (off_t).
FILE_MOST = 1 << 63

#: Characters of a path in an error.
NAME_SHOWN = 1000

#: SSH_FX_* to errno: 0-8 are version 3 (draft-ietf-secsh-filexfer-02 section 7); servers also
#: send the later ones, which say more.
_ERRNO = {
    1: errno.EIO, 2: errno.ENOENT, 3: errno.EACCES, 4: errno.EIO, 5: errno.EINVAL,
    6: errno.ENOTCONN, 7: errno.ECONNRESET, 8: errno.EOPNOTSUPP, 9: errno.EBADF,
    10: errno.ENOENT, 11: errno.EEXIST, 12: errno.EROFS, 13: errno.ENODEV, 14: errno.ENOSPC,
    15: errno.EDQUOT, 17: errno.EAGAIN, 18: errno.ENOTEMPTY, 19: errno.ENOTDIR,
    20: errno.EINVAL, 21: errno.ELOOP, 22: errno.EACCES, 23: errno.EINVAL, 24: errno.EISDIR,
    25: errno.EAGAIN, 27: errno.EPERM, 28: errno.EPERM,
}  # fmt: skip
_CLASSES: dict[int, type[SFTPError]] = {
    errno.ENOENT: SFTPNotFoundError,
    errno.EACCES: SFTPPermissionError,
    errno.EPERM: SFTPPermissionError,
    errno.EEXIST: SFTPExistsError,
    errno.EISDIR: SFTPIsDirectoryError,
    errno.ENOTDIR: SFTPNotDirectoryError,
}


def get_errno(status: int) -> int:
    """Return the errno for an SSH_FX_* status; EIO if the status says little."""
    return _ERRNO.get(status, errno.EIO)


def make_file_error(
    code: int,
    doing: str,
    path: AnyPath | None = None,
    path2: AnyPath | None = None,
    *,
    server_text: str = "",
    reason: str = "",
    kind: type[SFTPError] | None = None,
    status: int | None = None,
) -> SFTPError:
    """Return an error of the class that fits the errno, such as a FileNotFoundError.

    Args:
        code: the errno.
        doing: what failed, as a verb without its object: "open", "download".
        path, path2: the paths, source first; also `filename` and `filename2` of the error.
        said: the server's text; it is left out if it says no more than the errno.
        reason, kind: text and class, if those of the errno do not fit.
        status: the SSH_FX_* number, if the server sent one.
    """
    given = [os.fspath(p) for p in (path, path2) if p is not None]
    names = [decode_path(name) if isinstance(name, bytes) else name for name in given]
    text = f"Failed to {doing} {' to '.join(map(_shorten, names))}".rstrip()
    # EIO stands for the status that says nothing; strerror's "Input/output error" would mislead.
    vague = code == errno.EIO and status is not None
    reason = reason or ("the server gives no reason" if vague else os.strerror(code))
    text += f": {reason}"
    server_text = printable(server_text)
    if server_text and server_text.lower() not in (reason.lower(), "failure"):
        text += f" ({server_text})"
    return (kind or _CLASSES.get(code, SFTPError))(
        text,
        errno=code,
        filename=names[0] if names else None,
        filename2=names[1] if len(names) > 1 else None,
        status=status,
    )


def _shorten(name: str) -> str:
    """Return a name fit for an error, because a server may give names as long as its messages."""
    return repr(name) if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN]!r}..."


def describe_kept(transferred: int, *, kept: bool = True) -> str:
    """Return how an error says what is left of a failed transfer; "" if nothing had come."""
    if not transferred:
        return ""
    return f"; {transferred} bytes had been transferred{' and are kept' if kept else ''}"


def describe_unanswered(requests: int) -> str:
    """Return how a time-out says how many requests the server left without an answer."""
    if not requests:
        return ""
    if requests == 1:
        return "; 1 request is unanswered"
    return (
        f"; {requests} requests are unanswered "
        "(a server that loses some of them needs a lower sftp_requests=)"
    )


def encode_path(path: AnyPath) -> bytes:
    """Return a path as bytes for the server: bytes as they are, text as UTF-8.

    Surrogates stand for bytes that are not UTF-8, as in `os.fsdecode`.

    Raises:
        TypeError: it is no path.
        ValueError: it contains a NUL.
    """
    name = os.fspath(path)
    data = name.encode("utf-8", "surrogateescape") if isinstance(name, str) else bytes(name)
    if b"\0" in data:
        raise ValueError("embedded null byte in a path")
    return data


def decode_path(path: bytes) -> str:
    """Return a path as text, such that `encode_path` gives exactly these bytes back."""
    return path.decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class SFTPAttributes:
    """What a server tells of a file, under the names of `os.stat_result`.

    Attributes:
        st_mode: type and permissions; 0 if the server does not tell them.
        st_size: bytes, or None.
        st_uid, st_gid, st_atime, st_mtime: numbers (times in seconds), or None.
        extended: the server's own additions.
    """

    st_mode: int = 0
    st_size: int | None = None
    st_uid: int | None = None
    st_gid: int | None = None
    st_atime: int | None = None
    st_mtime: int | None = None
    extended: tuple[tuple[bytes, bytes], ...] = ()


@dataclass
class SFTPLimits:
    """How large messages may be, in bytes; the defaults suit servers that do not tell."""

    read: int = 32 * 1024
    write: int = 32 * 1024
    open_handles: int = 64
    #: Whether the server stated `open_handles`.
    tells_handles: bool = False

    #: Above this nothing gets faster, and a server's buffer must hold it.
    MOST = 256 * 1024

    def learn(self, packet: int, read: int, write: int, handles: int) -> None:
        """Take over what limits@openssh.com says; 0 there means "not told"."""
        room = packet - 1024 if packet > 2048 else self.MOST
        if read:
            self.read = max(512, min(read, self.MOST))
        if write:
            self.write = max(512, min(write, room, self.MOST))
        if handles:
            self.open_handles = max(1, min(handles, 1 << 16))
            self.tells_handles = True
