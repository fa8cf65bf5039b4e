"""Removes directories on the server with all that lies in them, many entries at once.

`SFTP.rmtree` and the mirrors use it. Links are removed and never followed: what is no directory by
its own attributes is only removed itself. Version 3 of SFTP has no way to open a directory without
following a link. So if somebody on the server puts a link in the place of a directory between its
listing and ours, that is followed.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from ..._policy.remote_path import check_name, join
from ..._policy.sftp import FX_NO_SUCH_FILE, make_file_error
from ...errors import SFTPError
from ..core import Op
from . import wire
from .file_types import find_kind, get_listed_type, run_inquiry
from .home import expands_home
from .job_pool import Job, JobPool
from .list_job import list_all
from .names import LONGEST_PATH
from .ops import explain, explain_present
from .request import Request
from .session import SftpState
from .wire import Name, string

__all__ = ["Removal", "remove_tree"]

#: So often a directory is listed again that was not empty after all in it had been removed.
MOST_LISTINGS = 3

#: Tells whether an entry, by its path and whether it is a directory, is to stay.
Keep = Callable[[bytes, bool], bool]


@expands_home
def remove_tree(sftp: SftpState, path: bytes, ignore_errors: bool) -> Op[None]:
    """Remove a directory as `shutil.rmtree` does.

    Raises:
        SFTPError: the first failure, unless `ignore_errors`; ENOTDIR for a link to a directory.
    """
    try:
        yield from _remove_tree(sftp, path, ignore_errors)
    except SFTPError as error:
        if not ignore_errors or (error.status is None and error.errno is None):
            raise  # the session is lost


def _remove_tree(sftp: SftpState, path: bytes, ignore_errors: bool) -> Op[None]:
    doing = "remove the tree"
    if not path:
        raise make_file_error(errno.ENOENT, doing, path)
    path = path.rstrip(b"/")  # with a slash behind it, a link would be followed
    if os.path.basename(path) in (b"", b".", b".."):
        reason = "it is the root or the directory where you are; remove what is in it"
        raise make_file_error(errno.EINVAL, doing, path or b"/", reason=reason)
    found = yield from run_inquiry(sftp, find_kind(path, follow=False))
    if isinstance(found, Request):
        raise (yield from explain_present(sftp, found, doing, path))
    if found[1] != modes.S_IFDIR:
        reason = "it is a symbolic link" if found[1] == modes.S_IFLNK else ""
        raise make_file_error(errno.ENOTDIR, doing, path, reason=reason)
    removal = Removal(sftp, stops=not ignore_errors, lists=False)
    removal.add(path, True)
    yield from removal.run()
    if not ignore_errors:
        for error in (yield from removal.explain_errors()):
            raise error


@dataclass(eq=False, repr=False)
class _Folder:
    """A directory that is being removed.

    Attributes:
        left: entries that are still there.
        kept: whether something in it stays, because it is to be kept or could not be removed.
        listings: how often it was listed.
    """

    path: bytes
    above: _Folder | None
    left: int = 0
    kept: bool = False
    listings: int = 0


@dataclass(eq=False, repr=False)
class Removal:
    """The removal of any number of files and trees.

    Attributes:
        stops: whether the first failure ends it.
        keep: tells what is to stay, although it lies in a tree that is removed.
        lists: whether to note what is gone, and what could not be removed after the first.
        removed: what is gone, directories after their contents.
    """

    sftp: SftpState
    stops: bool = False
    keep: Keep | None = None
    lists: bool = True
    removed: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._todo: list[tuple[bytes, bool]] = []
        self._failed: list[tuple[bytes, Request | SFTPError]] = []
        self._pool: JobPool

    def add(self, path: bytes, is_directory: bool) -> None:
        """Note what is to be removed; a link to a directory is no directory."""
        self._todo.append((path, is_directory))

    def run(self) -> Op[None]:
        """Remove all that was added."""
        session = yield from self.sftp.get_session()
        self._pool = JobPool(session)
        for path, is_directory in self._todo:
            self._begin(path, None, is_directory)
        self._todo.clear()
        yield from self._pool.run()

    def explain_errors(self) -> Op[list[SFTPError]]:
        """Return why things could not be removed; a second look at the server tells more."""
        session = yield from self.sftp.get_session()
        found = []
        for path, why in self._failed:
            if isinstance(why, Request):
                why = yield from explain(session, why, "remove", path)
            found.append(why)
        return found

    def _begin(self, path: bytes, above: _Folder | None, is_directory: bool) -> None:
        if is_directory:
            # Soon, so that few directories are half removed at a time.
            self._pool.add(partial(self._empty_folder, _Folder(path, above)), soon=True)
        else:
            self._pool.add(partial(self._remove, path, above))

    # -- jobs

    def _empty_folder(self, folder: _Folder) -> Job:
        """List a directory, and begin to remove what is in it."""
        if len(folder.path) > LONGEST_PATH:
            reason = "directories lie in one another without end"
            error = make_file_error(errno.ELOOP, "remove", folder.path, reason=reason)
            self._fail(folder.path, folder.above, error)
            return
        folder.listings += 1
        # Some servers' listings follow links: what they call a directory may be a link to one.
        look = self._pool.ask(wire.LSTAT, string(folder.path))
        yield from self._pool.wait(look)
        if look.value is not None and modes.S_ISLNK(look.value.st_mode):
            yield from self._remove(folder.path, folder.above)
            return
        try:
            found = yield from list_all(self._pool, folder.path)
        except SFTPError as error:
            self._fail(folder.path, folder.above, error)
            return
        if isinstance(found, Request):
            if found.status == FX_NO_SUCH_FILE and folder.above is not None:
                self._leave(folder.above)  # somebody was quicker
            else:
                self._fail(folder.path, folder.above, found)
            return
        folder.left = len(found) + 1
        for entry in found:
            self._pool.work += 1
            if self._pool.is_due:
                yield None
            self._take_entry(folder, entry)
        self._leave(folder)

    def _take_entry(self, folder: _Folder, entry: Name) -> None:
        path = join(folder.path, entry.name)
        if not check_name(entry.name):
            reason = "the server's name for it is no name"
            self._fail(path, folder, make_file_error(errno.EINVAL, "remove", path, reason=reason))
            return
        kind = get_listed_type(entry.attributes, entry.longname)
        if kind:
            self._remove_known(folder, path, kind)
        else:
            self._pool.add(partial(self._remove_unknown, folder, path, entry))

    def _remove_unknown(self, folder: _Folder, path: bytes, entry: Name) -> Job:
        """Remove an entry whose type the server did not tell."""
        inquiry = find_kind(path, entry.attributes, entry.longname, follow=False)
        found = yield from self._pool.run_inquiry(inquiry)
        if isinstance(found, Request):
            self._note_refusal(found, path, folder)
        else:
            self._remove_known(folder, path, found[1])

    def _remove_known(self, folder: _Folder, path: bytes, kind: int) -> None:
        is_directory = kind == modes.S_IFDIR
        if self.keep is not None and self.keep(path, is_directory):
            self._note_kept(folder)
        else:
            self._begin(path, folder, is_directory)

    def _remove(self, path: bytes, above: _Folder | None) -> Job:
        gone = self._pool.ask(wire.REMOVE, string(path))
        yield from self._pool.wait(gone)
        if gone.status:
            self._note_refusal(gone, path, above)
        else:
            self._note_gone(path, above)

    def _remove_empty(self, folder: _Folder) -> Job:
        gone = self._pool.ask(wire.RMDIR, string(folder.path))
        yield from self._pool.wait(gone)
        if not gone.status:
            self._note_gone(folder.path, folder.above)
        elif gone.status != FX_NO_SUCH_FILE and folder.listings < MOST_LISTINGS:
            # Some servers leave names out of a listing, and somebody may have put a file there.
            yield from self._empty_folder(folder)
        else:
            self._note_refusal(gone, folder.path, folder.above)

    # -- what became of it

    def _note_gone(self, path: bytes, above: _Folder | None) -> None:
        if self.lists:
            self.removed.append(path)
        self._leave(above)

    def _leave(self, folder: _Folder | None) -> None:
        """Note that an entry of a directory is dealt with."""
        if folder is None:
            return
        folder.left -= 1
        if folder.left:
            return
        if folder.kept:
            self._note_kept(folder.above)
        else:
            self._pool.add(partial(self._remove_empty, folder), soon=True)

    def _note_kept(self, folder: _Folder | None) -> None:
        if folder is not None:
            folder.kept = True
        self._leave(folder)

    def _note_refusal(self, request: Request, path: bytes, above: _Folder | None) -> None:
        if request.status == FX_NO_SUCH_FILE and above is not None:
            self._leave(above)  # somebody was quicker
        else:
            self._fail(path, above, request)

    def _fail(self, path: bytes, above: _Folder | None, why: Request | SFTPError) -> None:
        if self.lists or not self._failed:
            self._failed.append((path, why))
        if self.stops:
            self._pool.stopped = True
        self._note_kept(above)
