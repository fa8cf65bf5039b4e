"""Copies a local directory to the server, for `SFTP.put_dir` and `sftp_put_dir`.

`sftp_calls.py` makes the operation, and `mirror_put` adds to it. `get_tree.py` has the other
direction, `tree.py` what both share. It reads local files only through `RunBlocking`.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, NamedTuple

from ..._policy.owned_fd import OwnedFd
from ..._policy.remote_path import join
from ..._policy.sftp import FX_OK
from ..._results.transfer_result import TransferResult
from ..core import Op, RunBlocking
from . import wire
from .file_types import find_kind, run_inquiry
from .job_pool import Job, Local
from .links import link_body, make_link
from .local_file import FileSource
from .makedirs import make_directories
from .ops import remove
from .request import FileHandle, Request
from .session import SftpSession, SftpState, wait
from .transfer import upload
from .transfer_context import TransferContext, raise_shown
from .tree import DEEPEST, Tree, TreeOptions
from .wire import string

__all__ = ["Entry", "Folder", "PutTree", "put_tree", "run_put", "scan"]


class Folder(NamedTuple):
    """A local directory to copy; `above` are those that contain it, by device and inode."""

    local: bytes
    remote: bytes
    above: frozenset[tuple[int, int]]
    #: For a mirror: its path below the top, its attributes, and whether the remote one was there.
    path: bytes = b""
    info: os.stat_result | None = None
    is_there: bool = False


class Entry:
    """An entry of a local directory; `info` is that of a link's target, if links are followed."""

    __slots__ = ("name", "info", "error", "target")

    def __init__(
        self, name: bytes, info: os.stat_result | None, error: OSError | None, target: bytes | None
    ) -> None:
        self.name = name
        self.info = info
        self.error = error
        self.target = target


def put_tree(
    sftp: SftpState, local: bytes, remote: bytes, options: TreeOptions
) -> Op[TransferResult]:
    """Copy the content of a local directory into a remote one, which is made if need be.

    Returns:
        the local paths of files and links that were copied, and of those that failed.

    Raises:
        OSError: there is no such directory, the remote one cannot be made, or, with
            `fail_fast`, the first failure.
    """
    return (yield from run_put(sftp, local, remote, options, PutTree))


def run_put(
    sftp: SftpState,
    local: bytes,
    remote: bytes,
    options: TreeOptions,
    make: Callable[[SftpState, SftpSession, TreeOptions, str], PutTree],
) -> Op[TransferResult]:
    """Run the transfer that `make` makes; see `put_tree`."""
    context = TransferContext("upload", local, remote, options.limit)
    tree: PutTree | None = None
    try:
        info: os.stat_result = yield RunBlocking(lambda _: os.stat(local))
        if not modes.S_ISDIR(info.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), local)
        session = yield from sftp.get_session()
        if remote.strip(b"/"):
            yield from make_directories(sftp, remote, 0o777, True)
        started = tree = make(sftp, session, options, "upload")
        top = tree.make_top(local, remote, info)
        tree.search(lambda: started.fill(top))
        yield from tree.run()
        yield from tree.finish()
        return (yield from tree.report_result())
    except BaseException as error:
        if tree is None:
            raise_shown(error, context.explain_failure(error, None))
        raise_shown(error, tree.make_end_error(error, context))


class PutTree(Tree):
    def __post_init__(self) -> None:
        super().__post_init__()
        # Made by us: local and remote paths, and the attributes to set.
        self.folders: list[tuple[bytes, bytes, bytes]] = []

    def make_top(self, local: bytes, remote: bytes, info: os.stat_result) -> Folder:
        """Return the directory that is copied."""
        return Folder(local, remote, frozenset({(info.st_dev, info.st_ino)}))

    # -- jobs

    def fill(self, folder: Folder) -> Job:
        """Begin everything that lies in a directory."""
        try:
            entries: list[Entry] = yield Local(lambda: scan(folder.local, self.options))
        except OSError as error:
            self.fail(folder.local, folder.remote, error)
            return
        for entry in entries:
            self.pool.work += 1
            if self.pool.is_due:
                yield None
            path, target = os.path.join(folder.local, entry.name), join(folder.remote, entry.name)
            self.begin(folder, path, target, entry)

    def begin(self, folder: Folder, path: bytes, target: bytes, entry: Entry) -> None:
        add, info, link = self.pool.add, entry.info, entry.target
        if entry.error is not None:
            self.fail(path, target, entry.error)
        elif link is not None:
            self.note_found(0)
            add(lambda: self.copy_link(path, target, link))
        elif info is None:
            self.fail(path, target, errno.ENOENT, "on this machine")
        elif modes.S_ISDIR(info.st_mode):
            place = (info.st_dev, info.st_ino)
            if place in folder.above or len(folder.above) > DEEPEST:
                self.fail(path, target, errno.ELOOP, "a link leads back to where it lies in")
                return
            inner = Folder(path, target, folder.above | {place})
            self.search(lambda: self.copy_folder(inner, info), soon=True)
        elif modes.S_ISREG(info.st_mode):
            self.note_found(info.st_size)
            add(lambda: self.copy_file(path, target, info), size=info.st_size)
        else:
            self.fail(path, target, errno.EINVAL, "neither a file nor a directory")

    def copy_folder(self, folder: Folder, info: os.stat_result) -> Job:
        """Make a directory, then fill it."""
        pool = self.pool
        # The mode that is asked for comes when it is full.
        mode = modes.S_IMODE(info.st_mode) if self.options.preserve_permissions else 0o777
        setting = wire.encode_setting(mode=mode | 0o700)
        made = pool.ask(wire.MKDIR, string(folder.remote) + setting)
        yield made
        if made.status:
            there = yield from self.run_inquiry(find_kind(folder.remote, follow=True))
            if isinstance(there, Request):
                self.refuse(folder.local, folder.remote, made, folder.remote)
                return
            if there[1] != modes.S_IFDIR:
                self.fail(folder.local, folder.remote, errno.EEXIST, "no directory is there")
                return
        else:
            self.folders.append((folder.local, folder.remote, self.setting(info)))
        yield from self.fill(folder)

    def choose_place(self, target: bytes) -> bytes:
        """Return where the data of a file goes at first."""
        return target

    def put_in_place(
        self, path: bytes, place: bytes, target: bytes
    ) -> Generator[Any, Any, Request | None]:
        """Give data that is complete its name; return the request that was refused."""
        return None
        yield

    def discard(self, place: bytes, target: bytes) -> None:
        """Remove what is of no use after a failure."""

    def copy_file(self, path: bytes, target: bytes, info: os.stat_result) -> Job:
        pool, machine = self.pool, self.session.machine
        most = machine.limits.write
        if info.st_size > most:
            self.large.append(lambda: self.copy_large(path, target, info))
            return
        try:
            data: bytes | None = yield Local(lambda: _read_small(path, most))
        except OSError as error:
            self.fail(path, target, error)
            return
        if data is None:  # it has grown
            self.large.append(lambda: self.copy_large(path, target, info))
            return
        place = self.choose_place(target)
        flags = wire.U32.pack(wire.FXF_WRITE | wire.FXF_CREAT | wire.FXF_TRUNC)
        mode = modes.S_IMODE(info.st_mode) if self.options.preserve_permissions else None
        opened = pool.ask(wire.OPEN, string(place) + flags + wire.encode_setting(mode=mode))
        try:
            yield opened
            if opened.status:
                opened.tag = "write"
                self.refuse(path, target, opened, place)
                return
            handle: FileHandle = opened.value
            asked, kept = [], None
            if data:
                asked.append(machine.write(handle, 0, data, pool.box, pool.current))
                yield from self.wait_in_order(asked[0])
            setting = self.setting(info)
            if setting != wire.encode_setting():
                kept = pool.ask_about(wire.FSETSTAT, handle, setting)
                yield from self.wait_in_order(kept)
        except GeneratorExit:
            machine.abandon(opened)
            raise
        asked.append(machine.close(handle, pool.box, pool.current))
        yield from pool.wait(*asked, *([kept] if kept is not None else []))
        if handle.is_lost:
            pool.add(lambda: self.copy_file(path, target, info), size=info.st_size)
            return
        for request in asked:
            if request.status != FX_OK:
                self.refuse(path, target, request, place)
                self.discard(place, target)
                return
        moved = yield from self.put_in_place(path, place, target)
        if moved is not None:
            self.refuse(path, target, moved, target)
            return
        refused = kept if kept is not None and kept.status else None
        if not self.keeps_none(path, target, refused):
            self.note_done(path, len(data))

    def wait_in_order(self, request: Request) -> Generator[Request, Any, None]:
        """Wait for a request if those that follow it may overtake it."""
        if not self.session.machine.server.keeps_order:
            yield from self.pool.wait(request)

    def copy_link(self, path: bytes, target: bytes, leads_to: bytes) -> Job:
        takes_link_first = self.sftp.takes_link_first
        if takes_link_first is None:
            self.large.append(lambda: self.make_first_link(path, target, leads_to))
            return
        for turn in range(2):
            body = link_body(takes_link_first, leads_to, target)
            request = yield from self.ask_once(wire.SYMLINK, body)
            if not request.status:
                self.note_done(path)
                return
            there = yield from self.run_inquiry(find_kind(target, follow=False))
            if turn or isinstance(there, Request) or there[1] != modes.S_IFLNK:
                break
            yield from self.ask_once(wire.REMOVE, string(target))
        self.refuse(path, target, request, target)

    def make_first_link(self, path: bytes, target: bytes, leads_to: bytes) -> Op[None]:
        """Make a link by itself, from which the others learn the server's order."""
        if self.sftp.takes_link_first is not None:
            self.pool.add(lambda: self.copy_link(path, target, leads_to))
            return
        try:
            there = yield from run_inquiry(self.sftp, find_kind(target, follow=False))
            if isinstance(there, tuple) and there[1] == modes.S_IFLNK:
                yield from remove(self.sftp, target)
            yield from make_link(self.sftp, leads_to, target)
            self.note_done(path)
        except OSError as error:
            self.fail_alone(path, target, error)

    def ask_once(self, kind: int, body: bytes) -> Generator[Any, Any, Any]:
        request = self.pool.ask(kind, body)
        yield request
        return request

    def setting(self, info: os.stat_result) -> bytes:
        options = self.options
        times = (int(info.st_atime), int(info.st_mtime)) if options.preserve_times else None
        if times is not None and not all(0 <= moment < 1 << 32 for moment in times):
            times = None
        mode = modes.S_IMODE(info.st_mode) if options.preserve_permissions else None
        return wire.encode_setting(mode=mode, times=times)

    # -- later

    def copy_large(self, path: bytes, target: bytes, info: os.stat_result) -> Op[None]:
        place = self.choose_place(target)
        context = TransferContext("upload", path, target, self.options.limit)
        clock = self.options.clock
        try:
            size = yield from upload(
                self.sftp,
                lambda: FileSource(path),
                place,
                context,
                clock,
                self.make_part_callback(),
            )
            session = yield from self.sftp.get_session()
            kept: Request | None = None
            setting = self.setting(info)
            if setting != wire.encode_setting():
                body = string(place) + setting
                kept = yield from wait(session, session.machine.request(wire.SETSTAT, body))
        except OSError as error:
            self.discard(place, target)
            self.fail_alone(path, target, error)
            return
        self.pool.add(partial(self.name_large, path, place, target, kept, size))

    def name_large(
        self, path: bytes, place: bytes, target: bytes, kept: Request | None, size: int
    ) -> Job:
        """Give a large file its name."""
        moved = yield from self.put_in_place(path, place, target)
        if moved is not None:
            self.refuse(path, target, moved, target)
        elif not self.keeps_none(path, target, kept if kept is not None and kept.status else None):
            self.note_done(path, size)

    def finish(self) -> Op[None]:
        """Modes and times of directories, the innermost first."""
        if not (self.options.preserve_permissions or self.options.preserve_times):
            return
        for folder in reversed(self.folders):
            self.pool.add(partial(self.settle, *folder))
        yield from self.run()

    def settle(self, local: bytes, remote: bytes, setting: bytes) -> Job:
        kept = yield from self.ask_once(wire.SETSTAT, string(remote) + setting)
        if kept.status:
            self.keeps_none(local, remote, kept)


def scan(folder: bytes, options: TreeOptions) -> list[Entry]:
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            info: os.stat_result | None = None
            target: bytes | None = None
            error: OSError | None = None
            try:
                if entry.is_symlink() and not options.follow_symlinks:
                    target = os.readlink(entry.path)
                else:
                    info = entry.stat()
            except OSError as raised:
                error = raised
            found.append(Entry(entry.name, info, error, target))
    return found


def _read_small(path: bytes, most: int) -> bytes | None:
    """Return a whole file, or None if it is larger than that."""
    with OwnedFd(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) as fd:
        data = os.read(fd, most + 1)
        if len(data) > most:
            return None
        while more := os.read(fd, most + 1):
            data += more
            if len(data) > most:
                return None
        return data
