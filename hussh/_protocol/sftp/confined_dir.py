"""A local folder into which a server's files are written, and nothing outside of it.

`get_tree` uses it. Every step from the folder down is taken by name from an open directory and
never through a link. So neither a link that is there nor one that arrived a moment ago leads out.
Methods may block; operations call them through `RunBlocking`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from collections import OrderedDict

from ..._policy.owned_fd import OwnedFds, close_fds, open_fd
from ..in_use import InUse
from .local_file import FileSink

__all__ = ["ConfinedDir", "ConfinedSink", "Times"]

Times = tuple[int, int]
Parts = tuple[bytes, ...]

OPEN_FOLDERS = 16
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ConfinedDir:
    """The folder; parts are the names from it down."""

    def __init__(self, root: bytes) -> None:
        """Make the folder, and its parents if they are missing."""
        self._root = OwnedFds()
        self._open: OrderedDict[Parts, list[int]] = OrderedDict()
        self.path = root
        self._in_use = InUse()
        os.makedirs(root or b".", exist_ok=True)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        open_fd(self._root, root or b".", flags)  # the caller may name it through links

    def _open_folder(self, parts: Parts) -> int:
        """Return an fd of a folder, valid until the next call."""
        if not parts:
            return self._root[-1]
        owned = self._open.get(parts)
        if owned:
            self._open.move_to_end(parts)
            return owned[-1]
        known = len(parts) - 1
        while known and not self._open.get(parts[:known]):  # empty: opening it failed
            known -= 1
        fd = self._open[parts[:known]][-1] if known else self._root[-1]
        for depth in range(known, len(parts)):
            owned = self._open.setdefault(parts[: depth + 1], OwnedFds())
            fd = open_fd(owned, parts[depth], _FOLDER, dir_fd=fd)
        while len(self._open) > OPEN_FOLDERS and (oldest := next(iter(self._open))) != parts:
            close_fds(self._open[oldest])
            del self._open[oldest]
        return fd

    def make_folder(self, parts: Parts) -> bool:
        """Make a folder; return whether it was not there before."""
        with self._in_use:
            above = self._open_folder(parts[:-1])
            try:
                os.mkdir(parts[-1], 0o777, dir_fd=above)
            except FileExistsError:
                self._open_folder(parts)  # raises if it is no folder, or a link to one
                return False
            return True

    def finish_folder(self, parts: Parts, mode: int | None, times: Times | None) -> OSError | None:
        """Set mode and times, after all files are in it; return why that was refused."""
        try:
            with self._in_use:
                return set_meta(self._open_folder(parts), mode, times)
        except OSError as error:
            return error

    def open_file(self, owned: list[int], parts: Parts, mode: int | None) -> int:
        """Make or empty a file, as `open_fd` does; what this leaves in the list is to be closed."""
        made = 0o666 if mode is None else mode & 0o777
        with self._in_use:
            folder = self._open_folder(parts[:-1])
            fd = open_fd(owned, parts[-1], _FILE, made | 0o200, dir_fd=folder)
        if not modes.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "something that is no file is in its place")
        os.set_blocking(fd, True)
        return fd

    def write_file(
        self, parts: Parts, data: memoryview, mode: int | None, times: Times | None
    ) -> OSError | None:
        """Write a whole file; return why its mode or times were refused."""
        owned = OwnedFds()
        try:
            fd = self.open_file(owned, parts, mode)
            while data:
                data = data[os.write(fd, data) :]
            return set_meta(fd, mode, times)
        finally:
            close_fds(owned)

    def make_link(self, parts: Parts, target: bytes) -> None:
        """Make a link; it replaces a link that is there, nothing else."""
        with self._in_use:
            self._make_link(parts, target)

    def _make_link(self, parts: Parts, target: bytes) -> None:
        above = self._open_folder(parts[:-1])
        try:
            os.symlink(target, parts[-1], dir_fd=above)
        except FileExistsError:
            there = os.stat(parts[-1], dir_fd=above, follow_symlinks=False)
            if not modes.S_ISLNK(there.st_mode):
                raise
            os.unlink(parts[-1], dir_fd=above)
            os.symlink(target, parts[-1], dir_fd=above)

    def close(self) -> None:
        """Close it now, or after the calls that threads are in; a second call does nothing."""
        self._in_use.end(self._close)

    def _close(self) -> None:
        for owned in [*self._open.values(), self._root]:
            with contextlib.suppress(OSError):
                close_fds(owned)
        self._open.clear()


class ConfinedSink(FileSink):
    """One large file of such a folder.

    Attributes:
        refused: why its mode or times were refused, after `end`.
    """

    def __init__(
        self, folder: ConfinedDir, parts: Parts, keep: int | None, times: Times | None
    ) -> None:
        super().__init__(os.path.join(folder.path, *parts))
        self._folder = folder
        self._parts = parts
        self._keep = keep
        self._times = times
        self.refused: OSError | None = None

    def open_into(self, owned: list[int]) -> int:
        return self._folder.open_file(owned, self._parts, self._keep)

    def finish(self, fd: int) -> None:
        self.refused = set_meta(fd, self._keep, self._times)


def set_meta(fd: int, mode: int | None, times: Times | None) -> OSError | None:
    """Set what is not None; return why the first refused one was refused.

    Set-user-id and the like are not taken over, because the file has another owner here.
    """
    refused: OSError | None = None
    if times is not None:
        try:
            os.utime(fd, times)
        except OSError as error:
            refused = error
    if mode is not None:
        try:
            os.fchmod(fd, mode & 0o777)
        except OSError as error:
            refused = refused or error
    return refused
