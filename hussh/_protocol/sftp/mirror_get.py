"""Makes a local directory what one on the server is; `_api` runs it for `SFTP.mirror_back`.

`mirror.py` says what that means, `mirror_put.py` has the other direction. It adds to `get_tree` a
look at what is here already. As there, nothing that the server says leads out of the directory.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, cast

from ..._policy.remote_path import check_name, join
from ..._policy.sftp import SFTPAttributes, decode_path, make_file_error
from ..._results.transfer_result import MirrorResult
from ...errors import SFTPError
from ..core import Op, RunBlocking
from .confined_dir import Parts
from .get_tree import GetTree, RemoteFolder, run_get
from .job_pool import Job, Local
from .list_job import list_all
from .mirror import LEFT_OUT, UNREAD, Mirrored, Wanted, is_same, make_temporary_name
from .mirror_dir import MirrorDir
from .request import Request
from .session import SftpState
from .tree import TreeOptions
from .wire import Name

__all__ = ["mirror_get"]

#: Surplus entries that are removed in one go.
REMOVED = 64


def mirror_get(
    sftp: SftpState, remote: bytes, local: bytes, options: TreeOptions, wanted: Wanted
) -> Op[MirrorResult]:
    """Make a local directory what a remote one is.

    Raises:
        OSError: as `get_tree`.
    """

    def make(*given: Any) -> _MirrorGet:
        return _MirrorGet(*given, wanted=wanted)

    result = yield from run_get(sftp, remote, local, options, make, MirrorDir)
    return cast("MirrorResult", result)


class _MirrorGet(GetTree):
    def __init__(self, *given: Any, wanted: Wanted) -> None:
        super().__init__(*given)
        self.wanted = wanted
        self.found_out = Mirrored()
        self.here: dict[RemoteFolder, dict[bytes, os.stat_result]] = {}
        self.extra: list[tuple[RemoteFolder, bytes]] = []
        self.top: RemoteFolder | None = None
        # Files and links in whose place a directory is, with the work that is put off.
        self.obstructed: list[tuple[bytes, Parts, Callable[[], None]]] = []
        self.known_folders: list[tuple[RemoteFolder, SFTPAttributes, bool]] = []  # it differs

    @property
    def dir(self) -> MirrorDir:
        """The local folder."""
        return cast("MirrorDir", self.confined)

    def exclude(self, parts: Parts, is_directory: bool) -> bool:
        return self.wanted.exclude(b"/".join(parts), is_directory)

    # -- jobs

    def begin(self, folder: RemoteFolder, path: bytes, entry: Name) -> None:
        if not check_name(entry.name):  # it may be the name of what would be removed here
            self.found_out.is_unread = True
        super().begin(folder, path, entry)

    def read_list(self, folder: RemoteFolder, begun: frozenset[bytes]) -> Job:
        path, parts = folder.path(), folder.parts()
        target = self.target(parts)
        try:
            here = yield Local(partial(self.dir.scan, parts))
        except OSError as error:
            self.fail(path, target, error)
            return
        if folder.above is None:
            self.top = folder
        try:
            found = yield from list_all(self.pool, path)
        except SFTPError as error:
            self.found_out.is_unread = True
            self.fail(path, target, error)
            return
        if isinstance(found, Request):
            self.found_out.is_unread = True
            self.refuse(path, target, found, path)
            return
        self.count(folder, len(found), sum(len(entry.longname) for entry in found))
        surplus = set(here)
        self.here[folder] = {}
        for entry in found:
            self.pool.work += 1
            if self.pool.is_due:
                yield None
            if entry.name in here:
                self.here[folder][entry.name] = here[entry.name]
                surplus.discard(entry.name)
            self.begin(folder, path, entry)
        if self.wanted.delete:
            for name in surplus:
                if not self.exclude((*parts, name), modes.S_ISDIR(here[name].st_mode)):
                    self.extra.append((folder, name))

    def take_known(
        self, folder: RemoteFolder, name: bytes, info: SFTPAttributes, kind: int, real: bytes | None
    ) -> None:
        parts = (*folder.parts(), name)
        if self.exclude(parts, kind == modes.S_IFDIR):
            return
        have = self.here[folder].get(name)
        there = 0 if have is None else modes.S_IFMT(have.st_mode)
        if kind == modes.S_IFDIR and there not in (0, modes.S_IFDIR):
            inner = RemoteFolder(folder, name, real)
            self.search(
                partial(self.make_way, folder, name, partial(self.copy_folder, inner, info))
            )
        elif kind == modes.S_IFDIR and have is not None:
            inner = RemoteFolder(folder, name, real)
            differs = modes.S_IMODE(have.st_mode) & 0o777 != modes.S_IMODE(info.st_mode) & 0o777
            differs = differs or int(have.st_mtime) != info.st_mtime
            self.known_folders.append((inner, info, differs))
            self.search(partial(self.refill, inner, have.st_mode), soon=True)
        elif kind == modes.S_IFREG and have is not None and there == modes.S_IFREG:
            self.compare_file(folder, name, info, have)
        elif kind == modes.S_IFREG and there == modes.S_IFDIR:
            self.note_found(info.st_size)
            self.put_off(
                join(folder.path(), name), parts,
                lambda: self.large.append(partial(self.copy_large, folder, name, info)),
            )  # fmt: skip
        else:
            super().take_known(folder, name, info, kind, real)

    def refill(self, folder: RemoteFolder, mode: int) -> Job:
        if mode & 0o700 != 0o700:
            yield Local(partial(self.dir.open_up, folder.parts()))
        yield from self.fill(folder)

    def compare_file(
        self, folder: RemoteFolder, name: bytes, info: SFTPAttributes, have: os.stat_result
    ) -> None:
        if not is_same(info.st_size, info.st_mtime, have.st_size, have.st_mtime):
            super().take_known(folder, name, info, modes.S_IFREG, None)
            return
        self.found_out.unchanged += 1
        mode = self.keep(info)[0]
        if mode is not None and mode & 0o777 != modes.S_IMODE(have.st_mode):
            self.pool.add(partial(self.set_mode, folder, name, mode))

    def set_mode(self, folder: RemoteFolder, name: bytes, mode: int) -> Job:
        parts = (*folder.parts(), name)
        refused = yield Local(partial(self.dir.set_attributes, parts, mode))
        self.keeps_none(join(folder.path(), name), self.target(parts), refused)

    def copy_link(self, path: bytes, parts: Parts) -> Generator[Any, Any, None]:
        """Make a link, unless the same is there."""
        if not self.exclude(parts, False):
            yield from super().copy_link(path, parts)

    def make_link(self, path: bytes, parts: Parts, leads_to: bytes) -> Generator[Any, Any, None]:
        try:
            same = yield Local(partial(self.prepare_link, parts, leads_to))
        except OSError as error:
            self.fail(path, self.target(parts), error)
            return
        if same is None:
            job = partial(self.copy_late_link, path, parts, leads_to)
            self.put_off(path, parts, lambda: self.pool.add(job))
        elif same:
            self.found_out.unchanged += 1
        else:
            yield from super().make_link(path, parts, leads_to)

    def copy_late_link(self, path: bytes, parts: Parts, leads_to: bytes) -> Job:
        try:
            yield Local(partial(self.clear, parts))
        except OSError as error:
            self.fail(path, self.target(parts), error)
            return
        yield from super().make_link(path, parts, leads_to)

    def put_off(self, path: bytes, parts: Parts, begin: Callable[[], None]) -> None:
        """Leave what needs the removal of a directory for the end; fail it if that must stay."""
        why = self.explain_staying(parts)
        if why is None:
            self.obstructed.append((path, parts, begin))
        else:
            self.fail(path, self.target(parts), errno.ENOTEMPTY, why)

    def explain_staying(self, parts: Parts) -> str | None:
        """Return why a directory must not be removed."""
        if self.exclude(parts, True):
            return LEFT_OUT
        if not self.wanted.delete:
            return "a directory is in its place"
        if self.found_out.is_unread:
            return f"a directory is in its place; {UNREAD}"
        return None

    def prepare_link(self, parts: Parts, target: bytes) -> bool | None:
        """Tell whether a link is there as it shall be; remove a file that is in its way.

        Returns:
            None if a directory is in its way.
        """
        try:
            if self.dir.read_link(parts) == target:
                return True
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno != errno.EINVAL:  # EINVAL: it is no link
                raise
            try:
                self.dir.unlink(parts)
            except (IsADirectoryError, PermissionError):  # POSIX has EPERM for a directory
                if self.dir.is_folder(parts):
                    return None
                raise
        return False

    def clear(self, parts: Parts) -> None:
        """Remove what is in the way of something else; a directory only if that is wanted."""
        is_folder = self.dir.is_folder(parts)
        if is_folder is None:
            return
        if is_folder and (why := self.explain_staying(parts)) is not None:
            raise OSError(errno.ENOTEMPTY, why)
        gone, failed = self.dir.remove(parts, self.wanted.exclude)
        if is_folder:
            self.found_out.deleted += [decode_path(self.target((each,))) for each in gone]
        for _, error in failed:
            raise error
        if b"/".join(parts) not in gone:
            raise OSError(errno.ENOTEMPTY, "a directory in its place stays")

    def make_way(self, folder: RemoteFolder, name: bytes, then: Callable[[], Job]) -> Job:
        """Begin a job once no file is in its way."""
        parts = (*folder.parts(), name)
        try:
            yield Local(partial(self.clear, parts))
        except OSError as error:
            self.fail(join(folder.path(), name), self.target(parts), error)
            return
        self.here[folder].pop(name, None)
        yield from then()

    def note_done(self, path: bytes, size: int | None = 0) -> None:
        super().note_done(path, size)
        self.found_out.dirty.add(os.path.dirname(path))

    # -- later

    def choose_place(self, parts: Parts) -> Parts:
        """Return a place beside the file that is replaced when the new one is complete."""
        return (*parts[:-1], make_temporary_name())

    def put_in_place(self, place: Parts, parts: Parts) -> Op[None]:
        yield RunBlocking(lambda _: self.replace(place, parts))

    def discard(self, place: Parts) -> None:
        self.dir.discard(place)

    def replace(self, place: Parts, parts: Parts) -> None:
        try:
            self.dir.replace(place, parts)
        except IsADirectoryError:
            self.clear(parts)
            self.dir.replace(place, parts)

    def finish(self) -> Op[None]:
        """Remove what is in the way or too much, then set modes and times of directories."""
        obstructed, self.obstructed = self.obstructed, []
        for path, parts, begin in obstructed:
            why = self.explain_staying(parts)
            if why is None:
                begin()
            else:
                self.fail(path, self.target(parts), errno.ENOTEMPTY, why)
        yield from self.run()
        if self.wanted.delete and not self.found_out.is_unread:
            while self.extra:
                part, self.extra[-REMOVED:] = self.extra[-REMOVED:], []
                gone = yield RunBlocking(partial(self._remove, part))
                for failed, why in gone:
                    self._fail_to_remove(failed, why)
        dirty = self.found_out.dirty | {
            folder.above.path() for folder, _, _ in self.folders if folder.above is not None
        }
        for folder, info, differs in self.known_folders:
            if differs or folder.path() in dirty:
                self.folders.append((folder, *self.keep(info)))
        if self.top is not None:
            self.folders.append((self.top, *self.keep(self.info)))
        self.folders.sort(key=lambda one: one[0].depth)
        yield from super().finish()

    def _remove(
        self, part: list[tuple[RemoteFolder, bytes]], _left: float | None
    ) -> list[tuple[bytes, OSError]]:
        failed: list[tuple[bytes, OSError]] = []
        for folder, name in part:
            self.found_out.dirty.add(folder.path())
            gone, refused = self.dir.remove((*folder.parts(), name), self.wanted.exclude)
            self.found_out.deleted += [decode_path(self.target((path,))) for path in gone]
            failed += refused
        return failed

    def _fail_to_remove(self, path: bytes, error: OSError) -> None:
        target, code = self.target((path,)), error.errno or errno.EIO
        shown = make_file_error(code, "remove", target, server_text="on this machine")
        self.fail(target, target, shown)

    def make_result(self) -> MirrorResult:
        return self.found_out.make_result(super().make_result(), self.wanted)
