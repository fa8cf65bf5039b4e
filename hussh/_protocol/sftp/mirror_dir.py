"""A local folder that a mirror fills, empties and compares; nothing outside of it is touched.

`mirror_get` uses it. As in `confined_dir`, every step down is taken by name and never through a
link. Methods may block; operations call them through `RunBlocking`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat as modes
from collections.abc import Callable

from ..._policy.owned_fd import OwnedFd, close_fds
from .confined_dir import ConfinedDir, Parts, Times, set_meta
from .mirror import join_inner, make_temporary_name
from .tree import DEEPEST

__all__ = ["MirrorDir"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Tells whether something stays, by its path below the top and whether it is a directory.
Keep = Callable[[bytes, bool], bool]


class MirrorDir(ConfinedDir):
    """The folder; parts are the names from it down."""

    def scan(self, parts: Parts) -> dict[bytes, os.stat_result]:
        """Return what lies in a folder, links as such."""
        found: dict[bytes, os.stat_result] = {}
        with self._in_use:
            fd = self._open_folder(parts)
            for name in os.listdir(fd):
                raw = os.fsencode(name)
                with contextlib.suppress(FileNotFoundError):
                    found[raw] = os.stat(raw, dir_fd=fd, follow_symlinks=False)
        return found

    def read_link(self, parts: Parts) -> bytes:
        with self._in_use:
            return os.readlink(parts[-1], dir_fd=self._open_folder(parts[:-1]))

    def set_attributes(self, parts: Parts, mode: int | None) -> OSError | None:
        """Set the permissions of a file; return why that was refused."""
        try:
            with self._in_use:
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                opened = OwnedFd(parts[-1], flags, dir_fd=self._open_folder(parts[:-1]))
            with opened as fd:
                return set_meta(fd, mode, None)
        except OSError as error:
            return error

    def open_up(self, parts: Parts) -> None:
        """Let the owner into a folder, which gets its permissions at the end."""
        with self._in_use, contextlib.suppress(OSError):
            # By its name, because one that may not be read cannot be opened.
            above = self._open_folder(parts[:-1])
            info = os.stat(parts[-1], dir_fd=above, follow_symlinks=False)
            if modes.S_ISDIR(info.st_mode) and info.st_mode & 0o700 != 0o700:
                os.chmod(parts[-1], modes.S_IMODE(info.st_mode) | 0o700, dir_fd=above)

    def write_file(
        self, parts: Parts, data: memoryview, mode: int | None, times: Times | None
    ) -> OSError | None:
        """Write a whole file beside the one that it then replaces."""
        place = (*parts[:-1], make_temporary_name())
        try:
            refused = super().write_file(place, data, mode, times)
            self.replace(place, parts)
        except BaseException:
            self.discard(place)
            raise
        return refused

    def replace(self, source: Parts, target: Parts) -> None:
        """Rename within a folder."""
        with self._in_use:
            fd = self._open_folder(target[:-1])
            os.replace(source[-1], target[-1], src_dir_fd=fd, dst_dir_fd=fd)

    def is_folder(self, parts: Parts) -> bool | None:
        """Tell whether a folder is there, and not a link to one; None if nothing is."""
        with self._in_use:
            try:
                info = os.stat(
                    parts[-1], dir_fd=self._open_folder(parts[:-1]), follow_symlinks=False
                )
            except FileNotFoundError:
                return None
            return modes.S_ISDIR(info.st_mode)

    def unlink(self, parts: Parts) -> None:
        """Remove what is no folder."""
        with self._in_use:
            os.unlink(parts[-1], dir_fd=self._open_folder(parts[:-1]))

    def discard(self, parts: Parts) -> None:
        """Remove a file that is of no use, if it is there."""
        with self._in_use, contextlib.suppress(OSError):
            os.unlink(parts[-1], dir_fd=self._open_folder(parts[:-1]))

    def remove(self, parts: Parts, keep: Keep) -> tuple[list[bytes], list[tuple[bytes, OSError]]]:
        """Remove a file, or a folder with all that is in it but what `keep` names.

        Returns:
            Paths below the top: what is gone, and what could not be removed, with the reason.
        """
        gone: list[bytes] = []
        failed: list[tuple[bytes, OSError]] = []
        path = b"/".join(parts)
        with self._in_use:
            for known in [key for key in self._open if key[: len(parts)] == parts]:
                close_fds(self._open[known])
                del self._open[known]
            try:
                above = self._open_folder(parts[:-1])
                self._remove(above, parts[-1], path, keep, gone, failed, len(parts))
            except OSError as error:
                failed.append((path, error))
        return gone, failed

    def _remove(
        self, above: int, name: bytes, path: bytes, keep: Keep, gone: list[bytes],
        failed: list[tuple[bytes, OSError]], depth: int,
    ) -> bool:  # fmt: skip
        """Remove one entry of an open folder; return whether it is gone."""
        try:
            info = os.stat(name, dir_fd=above, follow_symlinks=False)
            if not modes.S_ISDIR(info.st_mode):
                os.unlink(name, dir_fd=above)
            elif not self._remove_entries(above, name, path, keep, gone, failed, depth):
                return False
            else:
                os.rmdir(name, dir_fd=above)
        except FileNotFoundError:
            return True
        except OSError as error:
            failed.append((path, error))
            return False
        gone.append(path)
        return True

    def _remove_entries(
        self, above: int, name: bytes, path: bytes, keep: Keep, gone: list[bytes],
        failed: list[tuple[bytes, OSError]], depth: int,
    ) -> bool:  # fmt: skip
        if depth > DEEPEST:
            raise OSError(errno.ELOOP, "too deep")
        with OwnedFd(name, _FOLDER, dir_fd=above) as fd:
            is_empty = True
            for child in map(os.fsencode, os.listdir(fd)):
                below = join_inner(path, child)
                info = os.stat(child, dir_fd=fd, follow_symlinks=False)
                stays = keep(below, modes.S_ISDIR(info.st_mode))
                if stays or not self._remove(fd, child, below, keep, gone, failed, depth + 1):
                    is_empty = False
            return is_empty
