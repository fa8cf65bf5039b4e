"""Makes symbolic links, in the order of paths that the server expects, which it finds out.

The draft puts the link's path before its target in SYMLINK. OpenSSH's server has the other order.
Most others have followed it, some follow the draft, and some decide by the name of the client.
Nothing that a server says about itself tells. So the first link of a connection is looked at once
it is made. If it was made the wrong way round, it is removed again. If the first attempt fails for
a reason that the wrong order may cause, a link between two new names in the same directory tells
the order, and is removed.

`SftpState.takes_link_first` keeps what was learned; `sftp.put_tree` asks it, too.
"""

from __future__ import annotations

import errno
import os

from ..._policy.remote_path import expand_from_home, get_parent, join
from ..._policy.sftp import make_file_error
from ..core import Op
from . import wire
from .home import START, expand_home
from .ops import explain, resolve_path
from .request import Request
from .session import SftpSession, SftpState, wait
from .wire import string

__all__ = ["link_body", "make_link", "symlink"]


def symlink(sftp: SftpState, target: bytes, link: bytes) -> Op[None]:
    """Make a link as `os.symlink` does; ``~`` is the home in both paths, as in a shell."""
    there = yield from expand_home(sftp, target)
    if there != target and not there.startswith(b"/"):
        # What a link holds is relative to where it lies, not to where the session starts.
        there = expand_from_home(target, (yield from resolve_path(sftp, START)))
    yield from make_link(sftp, there, (yield from expand_home(sftp, link)))


def link_body(takes_link_first: bool, target: bytes, link: bytes) -> bytes:
    """Return the paths of a SYMLINK request in the server's order."""
    first, second = (link, target) if takes_link_first else (target, link)
    return string(first) + string(second)


def make_link(sftp: SftpState, target: bytes, link: bytes) -> Op[None]:
    """Make a link that holds `target` as it is; the first one finds out the server's order.

    Raises:
        SFTPError: it failed; FileExistsError if a file has that name.
    """
    session = yield from sftp.get_session()
    if sftp.takes_link_first is None:
        yield from _make_first(sftp, session, target, link)
        return
    yield from _make(session, sftp.takes_link_first, target, link)


def _make(session: SftpSession, takes_link_first: bool, target: bytes, link: bytes) -> Op[None]:
    body = link_body(takes_link_first, target, link)
    request = yield from _ask(session, wire.SYMLINK, body)
    if request.status:
        raise (yield from explain(session, request, "link", target, link))


def _make_first(sftp: SftpState, session: SftpSession, target: bytes, link: bytes) -> Op[None]:
    """Make a link, and learn from it in which order the server takes the paths."""
    # What is there before would prove nothing afterwards.
    is_taken, has_target = yield from _find_existing(session, link, target)
    if is_taken:
        raise make_file_error(errno.EEXIST, "link", target, link)
    made = yield from _ask(session, wire.SYMLINK, link_body(False, target, link))
    if made.status:
        takes_link_first = yield from _probe_order(session, link)
    else:
        made_link, made_target = yield from _find_existing(session, link, target)
        if not made_link and (has_target or not made_target):
            reason = "the server says that it made the link, and there is none"
            raise make_file_error(errno.EIO, "link", target, link, reason=reason)
        takes_link_first = not made_link
        if takes_link_first:
            yield from _ask(session, wire.REMOVE, string(target))
    sftp.takes_link_first = takes_link_first
    if takes_link_first:
        yield from _make(session, True, target, link)
    elif made.status:
        raise (yield from explain(session, made, "link", target, link))


def _probe_order(session: SftpSession, link: bytes) -> Op[bool | None]:
    """Return whether the server takes the link's path first; None if no link can be made there."""
    name = b".hussh-" + os.urandom(8).hex().encode()
    first, second = (join(get_parent(link), name + end) for end in (b"a", b"b"))
    made = yield from _ask(session, wire.SYMLINK, string(first) + string(second))
    if made.status:
        return None
    at_first, at_second = yield from _find_existing(session, first, second)
    for path, is_there in ((first, at_first), (second, at_second)):
        if is_there:
            yield from _ask(session, wire.REMOVE, string(path))
    return at_first if at_first != at_second else None


def _find_existing(session: SftpSession, *paths: bytes) -> Op[list[bool]]:
    """Tell for each of these names whether it exists, a link to nothing included."""
    # Some servers' LSTAT follows links.
    asked = [
        [session.machine.request(kind, string(path)) for kind in (wire.LSTAT, wire.READLINK)]
        for path in paths
    ]
    found = []
    for pair in asked:
        for request in pair:
            yield from wait(session, request)
        found.append(any(request.value for request in pair))
    return found


def _ask(session: SftpSession, kind: int, body: bytes) -> Op[Request]:
    return (yield from wait(session, session.machine.request(kind, body)))
