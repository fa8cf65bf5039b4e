"""Copies a remote directory to this machine, and trusts none of the server's names, links or sizes.

`sftp_calls.py` makes it for `SFTP.get_dir` and `sftp_get_dir`, and `mirror_get` adds to it. A
hostile server could pretend to have a tree without end. So depth, the number of names and the bytes
that they take are bounded. What waits to be copied is held as a name and its directory, so a deep
path is not kept once for each name.
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any, TypeVar

from ..._policy.remote_path import check_name, join
from ..._policy.sftp import FX_EOF, SFTPAttributes, make_file_error
from ..._policy.sftp_server import UNBOUNDED
from ..._results.transfer_result import TransferResult
from ..core import Op, RunBlocking
from . import wire
from .confined_dir import ConfinedDir, ConfinedSink, Times
from .file_types import find_kind, get_listed_type, run_inquiry
from .job_pool import Job, Local
from .ops import EMPTY_LISTS, MOST_LISTED, MOST_NAMES, RealPath, explain_present
from .request import Request
from .session import SftpSession, SftpState
from .transfer import download
from .transfer_context import TransferContext, raise_shown
from .tree import DEEPEST, Tree, TreeOptions
from .wire import Name, string

__all__ = ["GetTree", "RemoteFolder", "get_tree", "run_get"]

G = TypeVar("G", bound="GetTree")

#: More names than this, in all directories together, are not copied by one call.
MOST_IN_TREE = 4_000_000
#: Nor more bytes of names, paths and attributes.
MOST_TREE_BYTES = 1 << 30
#: Bytes of a path; no file system takes as many.
LONGEST_PATH = 64 * 1024
#: Directories that are listed at the same time, and bytes of the answers that this may bring at
#: once: taking them apart must not keep a time limit waiting.
MOST_LISTINGS, LISTED_AT_ONCE = 32, 512 * 1024
#: Questions for names of one directory that are under way at once, at servers that bear many;
#: OpenSSH answers with 100 names.
LISTS_AHEAD = 4
#: Directories whose attributes are set in one go.
SETTLED = 64


class RemoteFolder:
    """A remote directory that is being copied.

    Attributes:
        above: the directory that contains it; None for the top.
        name: its name there; for the top, its path.
        real: its path without links, if that is not its name in the real path of `above`.
        depth: levels below the top.
        length: about the number of bytes of its path.
    """

    __slots__ = ("above", "name", "real", "depth", "length")

    def __init__(self, above: RemoteFolder | None, name: bytes, real: bytes | None = None) -> None:
        self.above = above
        self.name = name
        self.real = real
        self.depth: int = 0 if above is None else above.depth + 1
        self.length: int = len(name) + 1 + (0 if above is None else above.length)

    def line(self) -> list[RemoteFolder]:
        """Return the top, and so on down to this directory."""
        found = [self]
        while (above := found[-1].above) is not None:
            found.append(above)
        return found[::-1]

    def parts(self) -> tuple[bytes, ...]:
        """Return the names from the top down, without that of the top."""
        return tuple(folder.name for folder in self.line()[1:])

    def path(self) -> bytes:
        """Return its path on the server."""
        top, *inner = self.line()
        path = top.name
        for folder in inner:
            path = join(path, folder.name)
        return path

    def reals(self) -> set[bytes]:
        """Return the paths without links of this directory and of all above it."""
        found: set[bytes] = set()
        real = b""
        for folder in self.line():
            real = folder.real if folder.real is not None else join(real, folder.name)
            found.add(real)
        return found


def get_tree(
    sftp: SftpState, remote: bytes, local: bytes, options: TreeOptions
) -> Op[TransferResult]:
    """Copy the content of a remote directory into a local one, which is made if need be.

    Returns:
        the remote paths of files and links that were copied, and of those that failed.

    Raises:
        OSError: as `put_tree`, and EOVERFLOW for a tree without end.
    """
    return (yield from run_get(sftp, remote, local, options, GetTree, ConfinedDir))


def run_get(
    sftp: SftpState,
    remote: bytes,
    local: bytes,
    options: TreeOptions,
    make: Callable[[SftpState, SftpSession, TreeOptions, str], G],
    confine: Callable[[bytes], ConfinedDir],
) -> Op[TransferResult]:
    """Run the transfer that `make` makes; see `get_tree`."""
    context = TransferContext("download", remote, local, options.limit)
    tree: G | None = None
    folder: ConfinedDir | None = None
    try:
        session = yield from sftp.get_session(early=True)
        resolving = RealPath(session, remote) if options.follow_symlinks else None
        top = yield from run_inquiry(sftp, find_kind(remote, follow=True))
        if isinstance(top, Request):
            raise (yield from explain_present(sftp, top, "stat", remote))
        if top[1] != modes.S_IFDIR:
            raise make_file_error(errno.ENOTDIR, "download", remote, local)
        real = (yield from resolving.answer()) if resolving is not None else remote
        folder = yield RunBlocking(lambda _: confine(local))
        tree = make(sftp, session, options, "download")
        tree.confined, tree.info = folder, top[0]
        started = tree
        tree.search(lambda: started.fill(RemoteFolder(None, remote, real)))
        yield from tree.run()
        yield from tree.finish()
        return (yield from tree.report_result())
    except BaseException as error:
        if tree is None:
            raise_shown(error, context.explain_failure(error, None))
        raise_shown(error, tree.make_end_error(error, context))
    finally:
        if folder is not None:
            folder.close()


class GetTree(Tree):
    """One transfer.

    Attributes:
        confined: the local directory.
        info: what the server tells of the remote one.
    """

    confined: ConfinedDir
    info: SFTPAttributes

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folders: list[tuple[RemoteFolder, int | None, Times | None]] = []
        self.names = 0
        self.bytes = 0
        self.listings = 0  # that are under way
        self.largest = 1  # bytes of the largest answer of a listing so far
        self.parked: list[
            tuple[RemoteFolder, frozenset[bytes]]
        ] = []  # made here, and to be listed when others are

    def target(self, parts: tuple[bytes, ...]) -> bytes:
        return os.path.join(self.confined.path, *parts)

    def count(self, folder: RemoteFolder, names: int, size: int) -> None:
        """Count what a listing of so many bytes adds; ends it all where that is too much."""
        self.names += names
        self.bytes += size + names * folder.length
        if self.names > MOST_IN_TREE or self.bytes > MOST_TREE_BYTES:
            top = folder.line()[0].name
            reason = (
                f"there are more than {min(self.names, MOST_IN_TREE)} names in it; "
                "copy the directories in it one by one"
            )
            raise make_file_error(
                errno.EOVERFLOW, self.doing, top, self.confined.path, reason=reason
            )

    # -- jobs

    def fill(self, folder: RemoteFolder, begun: frozenset[bytes] = frozenset()) -> Job:
        """List a directory and begin everything in it but what has `begun` before.

        Later, if many are being listed.
        """
        bytes_at_once = self.largest * self.lists_ahead()
        if self.listings >= max(2, min(MOST_LISTINGS, LISTED_AT_ONCE // bytes_at_once)):
            self.parked.append((folder, begun))
            self.searches += 1
            return
        self.listings += 1
        try:
            yield from self.read_list(folder, begun)
        finally:
            self.listings -= 1
            if self.parked:
                again = partial(self.fill, *self.parked.pop())
                self.search(again, soon=True)
                self.searches -= 1  # which counted it when it was parked

    def lists_ahead(self) -> int:
        """Questions for names of one directory that are under way at once."""
        bears_many = self.session.machine.server.most_requests == UNBOUNDED
        return LISTS_AHEAD if bears_many else 1

    def read_list(self, folder: RemoteFolder, begun: frozenset[bytes]) -> Job:
        pool, count, size, empty = self.pool, 0, 0, 0
        path, target = folder.path(), self.target(folder.parts())
        opened = pool.ask(wire.OPENDIR, string(path))
        new: list[bytes] = []
        asked: deque[Request] = deque()
        try:
            yield opened
            if opened.status:
                self.refuse(path, target, opened, path)
                return
            while True:
                while len(asked) < self.lists_ahead():
                    asked.append(pool.ask_about(wire.READDIR, opened.value))
                reply = asked[0]
                yield from pool.wait(reply)
                asked.popleft()
                if opened.value.is_lost:
                    self.search(partial(self.fill, folder, begun.union(new)))
                    return
                if reply.status:
                    if reply.status != FX_EOF:
                        self.refuse(path, target, reply, path)
                    return
                self.largest = max(self.largest, reply.size)
                count += len(reply.value)
                size += reply.size
                empty = 0 if reply.value else empty + 1
                if count > MOST_NAMES or size > MOST_LISTED or empty > EMPTY_LISTS:
                    self.fail(path, target, errno.EOVERFLOW, "its listing does not end")
                    return
                self.count(folder, len(reply.value), reply.size)
                for name in reply.value:
                    pool.work += 1
                    if pool.is_due:
                        yield None
                    if name.name not in (b".", b"..") and name.name not in begun:
                        new.append(name.name)
                        self.begin(folder, path, name)
        finally:
            for reply in asked:
                self.session.machine.abandon(reply)
            self.session.machine.abandon(opened)  # closes it

    def begin(self, folder: RemoteFolder, path: bytes, entry: Name) -> None:
        name, info = entry.name, entry.attributes
        info.extended = ()
        problem = None
        if not check_name(name):
            problem = errno.EINVAL, "the server's name for it is no name"
        elif folder.depth >= DEEPEST or folder.length + len(name) > LONGEST_PATH:
            problem = errno.ELOOP, "too deep"
        if problem is not None:
            target = self.target((*folder.parts(), name))
            self.fail(join(path, name), target, *problem)
            return
        kind = get_listed_type(info, entry.longname)
        if kind in (0, modes.S_IFLNK):
            start = entry.longname[:10]
            self.search(partial(self.find_out, folder, name, info, start))
        else:
            self.take_known(folder, name, info, kind, None)

    def take_known(
        self, folder: RemoteFolder, name: bytes, info: SFTPAttributes, kind: int, real: bytes | None
    ) -> None:
        if kind == modes.S_IFDIR:
            inner = RemoteFolder(folder, name, real)
            self.search(partial(self.copy_folder, inner, info), soon=True)
        elif kind == modes.S_IFREG:
            self.note_found(info.st_size)
            self.pool.add(partial(self.copy_file, folder, name, info), size=info.st_size or 0)
        else:
            parts = (*folder.parts(), name)
            path = join(folder.path(), name)
            self.fail(path, self.target(parts), errno.EINVAL, "neither a file nor a directory")

    def find_out(
        self, folder: RemoteFolder, name: bytes, info: SFTPAttributes, longname: bytes
    ) -> Job:
        """Copy a link, or an entry whose type the server did not tell."""
        path, parts = join(folder.path(), name), (*folder.parts(), name)
        target = self.target(parts)
        found = yield from self.run_inquiry(find_kind(path, info, longname, follow=False))
        if isinstance(found, tuple) and found[1] == modes.S_IFLNK:
            if not self.options.follow_symlinks:
                self.note_found(0)
                yield from self.copy_link(path, parts)
                return
            found = yield from self.run_inquiry(find_kind(path, follow=True))
            if isinstance(found, tuple) and found[1] == modes.S_IFDIR:
                yield from self.follow_link(folder, path, name, found[0])
                return
        if isinstance(found, Request):
            self.refuse(path, target, found, path)
            return
        self.take_known(folder, name, *found, None)

    def follow_link(
        self, folder: RemoteFolder, path: bytes, name: bytes, info: SFTPAttributes
    ) -> Generator[Any, Any, None]:
        """Return the directory that a link leads to, unless that contains the link."""
        target = self.target((*folder.parts(), name))
        reply = yield from self.ask_once(wire.REALPATH, path)
        if reply.status or len(reply.value) != 1:
            self.refuse(path, target, reply, path)
            return
        real = reply.value[0].name
        if real in folder.reals():
            self.fail(path, target, errno.ELOOP, "the link leads back to where it lies in")
            return
        self.take_known(folder, name, info, modes.S_IFDIR, real)

    def ask_once(self, kind: int, path: bytes) -> Generator[Any, Any, Any]:
        request = self.pool.ask(kind, string(path))
        yield request
        return request

    def copy_link(self, path: bytes, parts: tuple[bytes, ...]) -> Generator[Any, Any, None]:
        target = self.target(parts)
        reply = yield from self.ask_once(wire.READLINK, path)
        if reply.status or len(reply.value) != 1:
            self.refuse(path, target, reply, path)
            return
        leads_to = reply.value[0].name
        if b"\0" in leads_to or not leads_to:
            self.fail(path, target, errno.EINVAL, "the server's answer is no path")
            return
        yield from self.make_link(path, parts, leads_to)

    def make_link(
        self, path: bytes, parts: tuple[bytes, ...], leads_to: bytes
    ) -> Generator[Any, Any, None]:
        try:
            yield Local(lambda: self.confined.make_link(parts, leads_to))
        except OSError as error:
            self.fail(path, self.target(parts), error)
            return
        self.note_done(path)

    def copy_folder(self, folder: RemoteFolder, info: SFTPAttributes) -> Job:
        parts = folder.parts()
        try:
            made = yield Local(lambda: self.confined.make_folder(parts))
        except OSError as error:
            self.fail(folder.path(), self.target(parts), error)
            return
        if made:
            self.folders.append((folder, *self.keep(info)))
        yield from self.fill(folder)

    def copy_file(self, folder: RemoteFolder, name: bytes, info: SFTPAttributes) -> Job:
        """Copy a small file in one go: one byte more is asked for than it should have."""
        pool, machine = self.pool, self.session.machine
        path, parts = join(folder.path(), name), (*folder.parts(), name)
        size = info.st_size
        if size is None or size >= machine.limits.read:
            self.large.append(partial(self.copy_large, folder, name, info))
            return
        flags = wire.U32.pack(wire.FXF_READ) + wire.encode_setting()
        opened = pool.ask(wire.OPEN, string(path) + flags)
        try:
            yield opened
            if opened.status:
                self.refuse(path, self.target(parts), opened, path)
                return
            read = machine.read(opened.value, 0, size + 1, pool.box, pool.current)
            yield read
        finally:
            machine.abandon(opened)  # closes it
        if opened.value.is_lost:
            pool.add(partial(self.copy_file, folder, name, info), size=size)
            return
        if read.status not in (0, FX_EOF) and not self.session.machine.server.is_openssh:
            # Maybe the server refuses to read past the end.
            self.large.append(partial(self.copy_large, folder, name, info))
            return
        if read.status not in (0, FX_EOF):
            self.refuse(path, self.target(parts), read, path)
            return
        data = memoryview(b"") if read.status else read.value
        if len(data) != size:  # not what was listed, or answered short
            self.large.append(partial(self.copy_large, folder, name, info))
            return
        mode, times = self.keep(info)
        try:
            refused = yield Local(lambda: self.confined.write_file(parts, data, mode, times))
        except OSError as error:
            self.fail(path, self.target(parts), error)
            return
        if not self.keeps_none(path, self.target(parts), refused):
            self.note_done(path, size)

    def keep(self, info: SFTPAttributes) -> tuple[int | None, Times | None]:
        """Mode and times to set; of the mode nothing where the server told none."""
        keeps_mode = self.options.preserve_permissions and info.st_mode != 0
        mode = modes.S_IMODE(info.st_mode) if keeps_mode else None
        has_times = info.st_atime is not None and info.st_mtime is not None
        times = (info.st_atime or 0, info.st_mtime or 0) if has_times else None
        return mode, times if self.options.preserve_times else None

    # -- later

    def choose_place(self, parts: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return where the data of a large file goes at first."""
        return parts

    def put_in_place(self, place: tuple[bytes, ...], parts: tuple[bytes, ...]) -> Op[None]:
        """Give data that is complete its name."""
        return
        yield

    def discard(self, place: tuple[bytes, ...]) -> None:
        """Remove what is of no use after a failure."""

    def copy_large(self, folder: RemoteFolder, name: bytes, info: SFTPAttributes) -> Op[None]:
        path, parts = join(folder.path(), name), (*folder.parts(), name)
        target, place = self.target(parts), self.choose_place(parts)
        context = TransferContext("download", path, target, self.options.limit)
        sink = ConfinedSink(self.confined, place, *self.keep(info))
        try:
            size = yield from download(
                self.sftp, path, sink, context, self.options.clock, self.make_part_callback()
            )
            yield from self.put_in_place(place, parts)
        except BaseException as error:
            self.discard(place)
            if not isinstance(error, OSError):
                raise
            self.fail_alone(path, target, error)
            return
        if not self.keeps_none(path, target, sink.refused):
            self.note_done(path, size)

    def finish(self) -> Op[None]:
        """Modes and times of directories, the innermost first."""
        while self.folders:
            part, self.folders[-SETTLED:] = self.folders[-SETTLED:], []
            for folder, refused in (yield RunBlocking(partial(self._settle, part[::-1]))):
                self.keeps_none(folder.path(), self.target(folder.parts()), refused)

    def _settle(
        self, folders: list[tuple[RemoteFolder, int | None, Times | None]], _left: float | None
    ) -> list[tuple[RemoteFolder, OSError]]:
        """Set attributes; what was refused."""
        found = []
        for folder, mode, times in folders:
            refused = self.confined.finish_folder(folder.parts(), mode, times)
            if refused is not None:
                found.append((folder, refused))
        return found
