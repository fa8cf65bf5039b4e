"""A remote directory to this machine.  The server is not trusted with names, links or sizes."""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from .._policy.sftp import FX_EOF, SFTPAttributes, file_error
from . import sftp_wire as wire
from .core import Blocking, Op
from .sftp_beneath import Beneath, BeneathSink, Times, check_name
from .sftp_channel import Sftp
from .sftp_crowd import Job, Local
from .sftp_ops import EMPTY_LISTS, MOST_LISTED, MOST_NAMES, real_path, stat
from .sftp_transfer import Way, download, raise_told
from .sftp_tree import DEEPEST, Tree, TreeOptions, join
from .sftp_wire import Name, string

__all__ = ["get_tree"]


@dataclass(frozen=True)
class _Folder:
    """A remote directory on its way; `real` without links, `above` those it lies in."""

    remote: bytes
    parts: tuple[bytes, ...]
    real: bytes
    above: frozenset[bytes]


def get_tree(
    sftp: Sftp, remote: bytes, local: bytes, options: TreeOptions
) -> Op[tuple[list[str], list[str]]]:
    """Copy what lies in a remote directory into a local one, which is made if need be.

    Returns the remote paths of files and links that were copied, and of what failed.
    Raises as `put_tree`.
    """
    way = Way("download", remote, local, options.limit)
    tree: _GetTree | None = None
    folder: Beneath | None = None
    try:
        session = yield from sftp.session()
        if not modes.S_ISDIR((yield from stat(sftp, remote)).st_mode):
            raise file_error(errno.ENOTDIR, "download", remote, local)
        real = (yield from real_path(sftp, remote)) if options.follow_symlinks else remote
        folder = yield Blocking(lambda _: Beneath(local))
        tree = _GetTree(sftp, session, options, "download")
        tree.beneath = folder
        tree.crowd.add(lambda: tree.fill(_Folder(remote, (), real, frozenset({real}))))
        yield from tree.run()
        yield Blocking(lambda _: tree.finish())
        return tree.result()
    except BaseException as error:
        if tree is None:
            raise_told(error, way.failed(error, None))
        raise_told(error, tree.ended(way.failed(error, None)))
    finally:
        if folder is not None:
            folder.close()


class _GetTree(Tree):
    beneath: Beneath

    def __post_init__(self) -> None:
        super().__post_init__()
        self.folders: list[tuple[tuple[bytes, ...], int | None, Times | None]] = []

    def target(self, parts: tuple[bytes, ...]) -> bytes:
        return os.path.join(self.beneath.path, *parts)

    # -- jobs

    def fill(self, folder: _Folder, begun: frozenset[bytes] = frozenset()) -> Job:
        """List a directory and begin everything in it but what has `begun` before."""
        crowd, count, size, empty = self.crowd, 0, 0, 0
        target = self.target(folder.parts)
        opened = crowd.ask(wire.OPENDIR, string(folder.remote))
        new: list[bytes] = []
        try:
            yield opened
            if opened.status:
                self.refuse(folder.remote, target, opened, folder.remote)
                return
            while True:
                reply = crowd.about(wire.READDIR, opened.value)
                yield reply
                if opened.value.is_lost:
                    crowd.add(lambda: self.fill(folder, begun.union(new)))
                    return
                if reply.status:
                    if reply.status != FX_EOF:
                        self.refuse(folder.remote, target, reply, folder.remote)
                    return
                count += len(reply.value)
                size += reply.size
                empty = 0 if reply.value else empty + 1
                if count > MOST_NAMES or size > MOST_LISTED or empty > EMPTY_LISTS:
                    self.fail(folder.remote, target, errno.EOVERFLOW, "its listing does not end")
                    return
                for name in reply.value:
                    if name.name not in (b".", b"..") and name.name not in begun:
                        new.append(name.name)
                        self.begin(folder, name)
        finally:
            self.session.machine.abandon(opened)  # closes it

    def begin(self, folder: _Folder, entry: Name) -> None:
        path, parts = join(folder.remote, entry.name), (*folder.parts, entry.name)
        target = self.target(parts)
        if not check_name(entry.name):
            self.fail(path, target, errno.EINVAL, "the server's name for it is no name")
        elif len(parts) > DEEPEST:
            self.fail(path, target, errno.ELOOP, "too deep")
        elif not entry.attributes.st_mode or modes.S_ISLNK(entry.attributes.st_mode):
            self.crowd.add(lambda: self.unknown(folder, path, parts, entry.attributes))
        else:
            self.known(folder, path, parts, entry.attributes, join(folder.real, entry.name))

    def known(
        self, folder: _Folder, path: bytes, parts: tuple[bytes, ...], info: SFTPAttributes,
        real: bytes,
    ) -> None:  # fmt: skip
        if modes.S_ISDIR(info.st_mode):
            inner = _Folder(path, parts, real, folder.above | {real})
            self.crowd.add(lambda: self.folder(inner, info), soon=True)
        elif modes.S_ISREG(info.st_mode):
            self.crowd.add(lambda: self.file(path, parts, info))
        else:
            self.fail(path, self.target(parts), errno.EINVAL, "neither a file nor a directory")

    def unknown(
        self, folder: _Folder, path: bytes, parts: tuple[bytes, ...], info: SFTPAttributes
    ) -> Job:
        """A link, or an entry whose type the server did not tell."""
        target = self.target(parts)
        if not info.st_mode:
            reply = yield from self.asked(wire.LSTAT, path)
            if reply.value is None:
                self.refuse(path, target, reply, path)
                return
            info = reply.value
        if not modes.S_ISLNK(info.st_mode):
            self.known(folder, path, parts, info, join(folder.real, parts[-1]))
            return
        if not self.options.follow_symlinks:
            yield from self.link(path, parts)
            return
        reply = yield from self.asked(wire.STAT, path)
        if reply.value is None:
            self.refuse(path, target, reply, path)
            return
        info = reply.value
        real = path
        if modes.S_ISDIR(info.st_mode):
            reply = yield from self.asked(wire.REALPATH, path)
            if reply.status or len(reply.value) != 1:
                self.refuse(path, target, reply, path)
                return
            real = reply.value[0].name
            if real in folder.above:
                self.fail(path, target, errno.ELOOP, "the link leads back to where it lies in")
                return
        self.known(folder, path, parts, info, real)

    def asked(self, kind: int, path: bytes) -> Generator[Any, Any, Any]:
        request = self.crowd.ask(kind, string(path))
        yield request
        return request

    def link(self, path: bytes, parts: tuple[bytes, ...]) -> Generator[Any, Any, None]:
        target = self.target(parts)
        reply = yield from self.asked(wire.READLINK, path)
        if reply.status or len(reply.value) != 1:
            self.refuse(path, target, reply, path)
            return
        leads_to = reply.value[0].name
        if b"\0" in leads_to or not leads_to:
            self.fail(path, target, errno.EINVAL, "the server's answer is no path")
            return
        try:
            yield Local(lambda: self.beneath.make_link(parts, leads_to))
        except OSError as error:
            self.fail(path, target, error)
            return
        self.done(path)

    def folder(self, folder: _Folder, info: SFTPAttributes) -> Job:
        try:
            made = yield Local(lambda: self.beneath.make_folder(folder.parts))
        except OSError as error:
            self.fail(folder.remote, self.target(folder.parts), error)
            return
        if made:
            self.folders.append((folder.parts, *self.keep(info)))
        yield from self.fill(folder)

    def file(self, path: bytes, parts: tuple[bytes, ...], info: SFTPAttributes) -> Job:
        """A small file in one go: one byte more is asked for than it should have."""
        crowd, machine = self.crowd, self.session.machine
        size = info.st_size
        if size is None or size >= machine.limits.read:
            self.large.append(lambda: self.big(path, parts, info))
            return
        flags = wire.U32.pack(wire.FXF_READ) + wire.setting()
        opened = crowd.ask(wire.OPEN, string(path) + flags)
        try:
            yield opened
            if opened.status:
                self.refuse(path, self.target(parts), opened, path)
                return
            read = machine.read(opened.value, 0, size + 1, crowd.box, crowd.current)
            yield read
        finally:
            machine.abandon(opened)  # closes it
        if opened.value.is_lost:
            crowd.add(lambda: self.file(path, parts, info))
            return
        if read.status not in (0, FX_EOF) and not self.session.machine.server.is_openssh:
            # It may be that the server refuses to read past the end.
            self.large.append(lambda: self.big(path, parts, info))
            return
        if read.status not in (0, FX_EOF):
            self.refuse(path, self.target(parts), read, path)
            return
        data = memoryview(b"") if read.status else read.value
        if len(data) != size:  # not what was listed, or answered short
            self.large.append(lambda: self.big(path, parts, info))
            return
        mode, times = self.keep(info)
        try:
            yield Local(lambda: self.beneath.write_file(parts, data, mode, times))
        except OSError as error:
            self.fail(path, self.target(parts), error)
            return
        self.done(path)

    def keep(self, info: SFTPAttributes) -> tuple[int | None, Times | None]:
        """Mode and times to set."""
        mode = modes.S_IMODE(info.st_mode) if self.options.preserve_permissions else None
        told = info.st_atime is not None and info.st_mtime is not None
        times = (info.st_atime or 0, info.st_mtime or 0) if told else None
        return mode, times if self.options.preserve_times else None

    # -- later

    def big(self, path: bytes, parts: tuple[bytes, ...], info: SFTPAttributes) -> Op[None]:
        target = self.target(parts)
        way = Way("download", path, target, self.options.limit)
        sink = BeneathSink(self.beneath, parts, *self.keep(info))
        try:
            yield from download(self.sftp, path, sink, way, self.options.clock, None)
            self.done(path)
        except OSError as error:
            self.session.check()
            if isinstance(error, TimeoutError):
                raise
            self.fail(path, target, error)

    def finish(self) -> None:
        """Modes and times of directories, the innermost first."""
        for parts, mode, times in reversed(self.folders):
            try:
                self.beneath.finish_folder(parts, mode, times)
            except OSError as error:
                self.fail(self.target(parts), self.target(parts), error)
