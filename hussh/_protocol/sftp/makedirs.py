"""Makes directories with their missing parents, at servers whose MKDIR does not say what is wrong.

`SFTP.makedirs` and `put_tree` use it. Servers answer MKDIR for a directory that exists, or for one
without a parent, in different ways: "failure", "permission denied", "no such file". So the answer
only says that it did not work. A look at the path and at its parents tells why. The look at the
path travels with the first MKDIR, so that a directory which is there costs one round trip.
"""

from __future__ import annotations

import errno
import stat as modes

from ..._policy.remote_path import get_parent
from ..._policy.sftp import make_file_error
from ...errors import SFTPError
from ..core import Op
from . import wire
from .file_types import find_kind, is_directory, run_inquiry
from .home import expands_home
from .ops import explain, make_directory
from .request import Request
from .session import SftpState, wait
from .wire import string

__all__ = ["make_directories"]


_PERMISSION_DENIED = 3
DOING = "make the directory"


@expands_home
def make_directories(sftp: SftpState, path: bytes, mode: int, exist_ok: bool) -> Op[None]:
    """Make directories as `os.makedirs` does; parents get the server's default mode.

    Raises:
        FileExistsError: it exists and `exist_ok` is False, or it is no directory.
        SFTPError: a directory could not be made.
    """
    session = yield from sftp.get_session(early=True)
    body = string(path) + wire.encode_setting(mode=mode & 0o7777)
    made = session.machine.request(wire.MKDIR, body)
    try:
        found = yield from run_inquiry(sftp, find_kind(path, follow=True))
    except BaseException:
        session.machine.abandon(made)
        session.step()
        raise
    yield from wait(session, made)
    if not made.status:
        return
    if isinstance(found, tuple):
        if exist_ok and found[1] == modes.S_IFDIR:
            return
        raise make_file_error(errno.EEXIST, DOING, path, status=made.status)
    if made.errno is not None:  # the session is lost
        raise (yield from explain(session, made, DOING, path))
    lacking: list[bytes] = []
    parent = get_parent(path)
    while parent and (yield from _is_missing(sftp, parent)):
        lacking.append(parent)
        parent = get_parent(parent)
    for folder in reversed(lacking):
        refused = yield from _try_mkdir(sftp, folder, 0o777)
        if refused is not None and not (yield from is_directory(sftp, folder)):
            raise refused
    # Again, also where no parent is lacking: somebody may have made one since the first attempt.
    refused = yield from _try_mkdir(sftp, path, mode)
    # Somebody may have been quicker.
    if refused is not None and not (exist_ok and (yield from is_directory(sftp, path))):
        raise refused


def _try_mkdir(sftp: SftpState, path: bytes, mode: int) -> Op[SFTPError | None]:
    """Make one directory; return the server's refusal.

    Other errors, such as a lost session, raise.
    """
    try:
        yield from make_directory(sftp, path, mode)
    except SFTPError as error:
        if error.status is None:
            raise
        return error
    return None


def _is_missing(sftp: SftpState, path: bytes) -> Op[bool]:
    """Tell whether nothing is there; False also if the server does not let us look."""
    found = yield from run_inquiry(sftp, find_kind(path, follow=True))
    return isinstance(found, Request) and found.status != _PERMISSION_DENIED
