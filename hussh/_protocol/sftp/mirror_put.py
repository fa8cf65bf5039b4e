"""Makes a directory on the server what a local one is; `_api` runs it for `SFTP.mirror`.

`mirror.py` says what that means, `mirror_get.py` has the other direction. `sftp_calls.py` makes the
operation. It adds to `put_tree` a look at what is there already. Like all mirrors it never follows
a link on the receiving side.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

from ..._policy.owned_fd import OwnedFd
from ..._policy.remote_path import check_name, get_parent, join
from ..._policy.sftp import SFTPAttributes, decode_path
from ..._results.transfer_result import MirrorResult
from ...errors import SFTPError
from ..core import Op, RunBlocking
from . import wire
from .file_types import find_kind, get_listed_type
from .job_pool import Job, Local
from .list_job import list_all
from .mirror import LEFT_OUT, UNREAD, Mirrored, Wanted, is_same, join_inner, make_temporary_name
from .put_tree import Entry, Folder, PutTree, run_put, scan
from .remove_tree import Removal
from .request import Request
from .session import SftpSession, SftpState, wait
from .transfer_context import TransferContext
from .tree import DEEPEST, TreeOptions
from .wire import Name, string

__all__ = ["mirror_put"]

_RENAME = b"posix-rename@openssh.com"


def mirror_put(
    sftp: SftpState, local: bytes, remote: bytes, options: TreeOptions, wanted: Wanted
) -> Op[MirrorResult]:
    """Make a remote directory what a local one is.

    Raises:
        OSError: as `put_tree`.
    """

    def make(*given: Any) -> PutTree:
        return _MirrorPut(*given, wanted=wanted)

    result = yield from run_put(sftp, local, remote, options, make)
    return cast("MirrorResult", result)


class _MirrorPut(PutTree):
    def __init__(
        self, sftp: SftpState, session: SftpSession, options: TreeOptions, doing: str,
        *, wanted: Wanted,
    ) -> None:  # fmt: skip
        super().__init__(sftp, session, options, doing)
        self.wanted = wanted
        self.found_out = Mirrored()
        self.there: set[bytes] = set()  # files that are to be replaced
        self.extra: list[tuple[bytes, bytes, bool]] = []  # remote path, local folder, directory
        self.known: list[tuple[Folder, bool]] = []  # and whether attributes differ
        self.remote_top = b""
        # Names that are not complete, with those that they are to get.
        self.half_done: dict[bytes, bytes] = {}
        self.set_aside: dict[bytes, bytes] = {}  # old files, with their names
        # Files and links in whose place a directory is: local and remote path, and the job.
        self.obstructed: list[tuple[bytes, bytes, Callable[[], Job]]] = []

    def make_top(self, local: bytes, remote: bytes, info: os.stat_result) -> Folder:
        self.remote_top = remote
        return Folder(local, remote, frozenset({(info.st_dev, info.st_ino)}), b"", info, True)

    # -- jobs

    def fill(self, folder: Folder) -> Job:
        """Compare a directory with its counterpart, and begin what differs."""
        exclude, there = self.wanted.exclude, dict[bytes, Name]()
        try:
            entries: list[Entry] = yield Local(lambda: scan(folder.local, self.options))
        except OSError as error:
            self.found_out.is_unread = True
            self.fail(folder.local, folder.remote, error)
            return
        if folder.is_there:
            found = yield from self.list_counterpart(folder)
            if found is None:
                return
            there = {entry.name: entry for entry in found if check_name(entry.name)}
        for entry in entries:
            self.pool.work += 1
            if self.pool.is_due:
                yield None
            other = there.pop(entry.name, None)
            is_directory = entry.info is not None and modes.S_ISDIR(entry.info.st_mode)
            if exclude(join_inner(folder.path, entry.name), is_directory):
                continue
            if other is not None and not get_listed_type(other.attributes, other.longname):
                self.search(partial(self.find_out, folder, entry, other))
            else:
                self.compare(folder, entry, other)
        if self.wanted.delete:
            for other in there.values():
                self.search(partial(self.note_surplus, folder, other))

    def list_counterpart(self, folder: Folder) -> Generator[Any, Any, list[Name] | None]:
        """Return what the counterpart has; None if that cannot be told or must not be touched."""
        # Some servers' listings follow links: what they call a directory may be a link to one.
        look = self.pool.ask(wire.LSTAT, string(folder.remote))
        yield from self.pool.wait(look)
        info: SFTPAttributes | None = look.value
        if info is not None and modes.S_ISLNK(info.st_mode) and folder.path:
            gone = yield from self.ask_once(wire.REMOVE, string(folder.remote))
            if gone.status:
                self.refuse(folder.local, folder.remote, gone, folder.remote)
            elif folder.info is not None:
                yield from self.copy_folder(self.mark_missing(folder), folder.info)
            return None
        mode = info.st_mode if info is not None else 0
        if modes.S_ISDIR(mode) and mode & 0o700 != 0o700:
            # So that it can be filled; it gets what is asked for at the end.
            setting = wire.encode_setting(mode=modes.S_IMODE(mode) | 0o700)
            yield from self.ask_once(wire.SETSTAT, string(folder.remote) + setting)
        ours = folder.info
        differs = ours is None or info is None or modes.S_IMODE(mode) != modes.S_IMODE(ours.st_mode)
        differs = differs or (info is not None and ours is not None
                              and info.st_mtime != int(ours.st_mtime))  # fmt: skip
        self.known.append((folder, differs or mode & 0o700 != 0o700))
        try:
            found = yield from list_all(self.pool, folder.remote)
        except SFTPError as error:
            self.fail(folder.local, folder.remote, error)
            return None
        if isinstance(found, Request):
            self.refuse(folder.local, folder.remote, found, folder.remote)
            return None
        return found

    def mark_missing(self, folder: Folder) -> Folder:
        return folder._replace(is_there=False)

    def find_out(self, folder: Folder, entry: Entry, other: Name) -> Job:
        """Compare with an entry whose type the server did not tell."""
        path = join(folder.remote, entry.name)
        found = yield from self.run_inquiry(find_kind(path, other.attributes, other.longname,
                                                 follow=False))  # fmt: skip
        if isinstance(found, Request):
            self.refuse(os.path.join(folder.local, entry.name), path, found, path)
            return
        other.attributes = found[0]
        other.attributes.st_mode = modes.S_IMODE(found[0].st_mode) | found[1]
        self.compare(folder, entry, other)

    def compare(self, folder: Folder, entry: Entry, other: Name | None) -> None:
        """Begin what has to be done about one local entry."""
        path, target = os.path.join(folder.local, entry.name), join(folder.remote, entry.name)
        info, link = entry.info, entry.target
        if entry.error is not None:
            vanished = entry.error.errno == errno.ENOENT
            self.found_out.is_unread = self.found_out.is_unread or not vanished
            self.fail(path, target, entry.error)
            return
        kind = get_listed_type(other.attributes, other.longname) if other is not None else 0
        is_directory = info is not None and modes.S_ISDIR(info.st_mode)
        is_in_the_way = kind == modes.S_IFDIR and not is_directory
        if is_in_the_way and self.wanted.exclude(join_inner(folder.path, entry.name), True):
            self.fail(path, target, errno.ENOTEMPTY, LEFT_OUT)
            return
        if link is not None:
            if kind == modes.S_IFLNK:
                self.search(partial(self.compare_link, path, target, link))
            else:
                self.note_found(0)
                self.make_way(path, target, kind, partial(self.copy_link, path, target, link))
        elif info is not None and modes.S_ISDIR(info.st_mode):
            self.compare_folder(folder, path, target, entry.name, info, kind)
        elif info is not None and modes.S_ISREG(info.st_mode):
            if kind == modes.S_IFREG and other is not None:
                self.compare_file(path, target, info, other.attributes)
            else:
                self.send(path, target, info, kind)
        else:
            self.begin(folder, path, target, entry)  # which refuses it

    def compare_folder(
        self, folder: Folder, path: bytes, target: bytes, name: bytes, info: os.stat_result,
        kind: int,
    ) -> None:  # fmt: skip
        place = (info.st_dev, info.st_ino)
        if place in folder.above or len(folder.above) > DEEPEST:
            self.fail(path, target, errno.ELOOP, "directories lie in one another")
            return
        is_there = kind == modes.S_IFDIR
        below = Folder(
            path, target, folder.above | {place}, join_inner(folder.path, name), info, is_there
        )
        if is_there:
            self.search(lambda: self.fill(below), soon=True)
        else:
            self.make_way(path, target, kind, lambda: self.copy_folder(below, info), search=True)

    def compare_file(
        self, path: bytes, target: bytes, info: os.stat_result, other: SFTPAttributes
    ) -> None:
        if not is_same(info.st_size, info.st_mtime, other.st_size, other.st_mtime):
            self.there.add(target)
            self.send(path, target, info, 0)
            return
        self.found_out.unchanged += 1
        if modes.S_IMODE(info.st_mode) != modes.S_IMODE(other.st_mode):
            self.pool.add(partial(self.settle, path, target, self.setting(info)))

    def compare_link(self, path: bytes, target: bytes, link: bytes) -> Job:
        there = yield from self.ask_once(wire.READLINK, string(target))
        if not there.status and [name.name for name in there.value] == [link]:
            self.found_out.unchanged += 1
            return
        self.note_found(0)
        yield from self.copy_link(path, target, link)

    def send(self, path: bytes, target: bytes, info: os.stat_result, kind: int) -> None:
        self.note_found(info.st_size)
        if kind == modes.S_IFDIR:
            self.make_way(path, target, kind, partial(self.copy_file, path, target, info))
            return
        if kind:  # a rename replaces it, whatever it is
            self.there.add(target)
        self.pool.add(partial(self.copy_file, path, target, info), size=info.st_size)

    def make_way(
        self, path: bytes, target: bytes, kind: int, then: Callable[[], Job], search: bool = False
    ) -> None:
        """Begin a job once nothing is in its way."""
        if kind == modes.S_IFDIR:
            self.obstructed.append((path, target, then))  # what is removed comes last
            return

        def job() -> Job:
            if kind:
                gone = yield from self.ask_once(wire.REMOVE, string(target))
                if gone.status:
                    self.refuse(path, target, gone, target)
                    return
            yield from then()

        if search:
            self.search(job, soon=True)
        else:
            self.pool.add(job)

    def remove_folder(self, path: bytes, target: bytes, then: Callable[[], Job]) -> Op[None]:
        """Remove a directory in whose place something else comes: only an empty one, or all."""
        try:
            yield RunBlocking(lambda _: _check_readable(path))
        except OSError as error:
            self.fail(path, target, error)
            return
        removal = Removal(self.sftp, keep=self.may_stay)
        removal.add(target, self.wanted.delete)
        if not self.wanted.delete:
            session = yield from self.sftp.get_session()
            request = session.machine.request(wire.RMDIR, string(target))
            from_there = yield from wait(session, request)
            if from_there.status:
                self.fail(path, target, errno.ENOTEMPTY, "a directory is in its place")
                return
        else:
            yield from removal.run()
            if target not in removal.removed:
                self.fail(path, target, errno.ENOTEMPTY, "a directory in its place stays")
                return
            self.found_out.deleted += map(decode_path, removal.removed)
        self.pool.add(then)

    def note_surplus(self, folder: Folder, other: Name) -> Job:
        """Note what the local directory does not have."""
        target, path = join(folder.remote, other.name), join_inner(folder.path, other.name)
        found = yield from self.run_inquiry(
            find_kind(target, other.attributes, other.longname, follow=False)
        )
        if isinstance(found, Request):
            return  # it is gone, or cannot be looked at
        is_directory = found[1] == modes.S_IFDIR
        if not self.wanted.exclude(path, is_directory):
            self.extra.append((target, folder.local, is_directory))

    def may_stay(self, remote: bytes, is_directory: bool) -> bool:
        """Tell whether what lies in a surplus directory is left out of the mirror."""
        path = remote[len(self.remote_top) :].lstrip(b"/")
        return self.wanted.exclude(path, is_directory)

    # -- files that are there already

    def choose_place(self, target: bytes) -> bytes:
        if target not in self.there:
            return target
        place = join(get_parent(target), make_temporary_name())
        self.half_done[place] = target
        return place

    def put_in_place(
        self, path: bytes, place: bytes, target: bytes
    ) -> Generator[Any, Any, Request | None]:
        if place == target:
            return None
        if _RENAME in self.session.machine.extensions:
            moved = self.pool.ask_extended(_RENAME, string(place) + string(target))
            yield from self.pool.wait(moved)
        else:
            moved = yield from self.replace(place, target)
        if moved.status:
            self.discard(place, target)
            return moved
        self.half_done.pop(place, None)
        return None

    def replace(self, place: bytes, target: bytes) -> Generator[Any, Any, Request]:
        """Replace a file at a server whose RENAME may refuse to; the old file goes last."""
        moved: Request = yield from self.ask_once(wire.RENAME, string(place) + string(target))
        if not moved.status:
            return moved
        aside = join(get_parent(target), make_temporary_name())
        self.set_aside[aside] = target
        moved = yield from self.ask_once(wire.RENAME, string(target) + string(aside))
        if not moved.status:
            moved = yield from self.ask_once(wire.RENAME, string(place) + string(target))
            if moved.status:
                self.put_back(aside)
            else:
                yield from self.ask_once(wire.REMOVE, string(aside))
        self.set_aside.pop(aside, None)
        return moved

    def put_back(self, aside: bytes) -> None:
        """Give a file its name back, unless another has it now; then the other one is right."""
        body = string(aside) + string(self.set_aside.pop(aside))
        self.session.machine.request(wire.RENAME, body)

    def discard(self, place: bytes, target: bytes) -> None:
        if self.half_done.pop(place, None) is not None:
            # Not abandoned: such a request may never be sent.
            self.session.machine.request(wire.REMOVE, string(place))

    def note_done(self, path: bytes, size: int | None = 0) -> None:
        super().note_done(path, size)
        self.found_out.dirty.add(os.path.dirname(path))

    # -- the end

    def finish(self) -> Op[None]:
        """Remove what is in the way or too much, then set modes and times of directories."""
        obstructed, self.obstructed = self.obstructed, []
        for path, target, then in obstructed:
            if self.found_out.is_unread and self.wanted.delete:
                self.fail(path, target, errno.ENOTEMPTY, f"a directory is in its place; {UNREAD}")
            else:
                yield from self.remove_folder(path, target, then)
        yield from self.run()
        for place, target in list(self.half_done.items()):  # such as of a lost handle
            self.discard(place, target)
        if self.wanted.delete and not self.found_out.is_unread and self.extra:
            removal = Removal(self.sftp, keep=self.may_stay)
            for target, above, is_directory in self.extra:
                removal.add(target, is_directory)
                self.found_out.dirty.add(above)
            yield from removal.run()
            self.found_out.deleted += map(decode_path, removal.removed)
            for error in (yield from removal.explain_errors()):
                path = os.fsencode(error.filename or "")
                self.fail(path, path, error)
        dirty = self.found_out.dirty | {os.path.dirname(local) for local, _, _ in self.folders}
        for folder, differs in self.known:
            if folder.info is not None and (differs or folder.local in dirty):
                self.folders.append((folder.local, folder.remote, self.setting(folder.info)))
        self.folders.sort(key=lambda one: one[1].count(b"/"))
        yield from super().finish()

    def make_end_error(self, error: BaseException, context: TransferContext) -> BaseException:
        """Remove what is not complete, as far as the server still hears that."""
        for aside in list(self.set_aside):
            self.put_back(aside)
        for place, target in list(self.half_done.items()):
            self.discard(place, target)
        self.session.step()
        return super().make_end_error(error, context)

    def make_result(self) -> MirrorResult:
        return self.found_out.make_result(super().make_result(), self.wanted)


def _check_readable(path: bytes) -> None:
    """Raise the OSError of a regular file that cannot be read, or of what is gone."""
    if modes.S_ISREG(os.lstat(path).st_mode):
        with OwnedFd(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC):
            pass
