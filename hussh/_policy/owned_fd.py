"""Opens and closes descriptors so that no interrupt comes between that and knowing the number.

`file_cache`, `key_files`, `wakeup_fd` and SFTP's `local_file` import it: all that opens a file in a
thread that may be the main one. Ctrl-C can come between the return of `os.open` and the assignment
of what it returned. A number that is open and that nobody knows stays open; one that is closed and
not forgotten may be another file's by the time of the next close. So a list has the open numbers,
and each step between list and kernel is one step of C. It holds no lock and must not log.
"""

from __future__ import annotations

import os
from collections import deque
from functools import partial
from itertools import starmap
from types import TracebackType

__all__ = ["OwnedFd", "OwnedFds", "close_fds", "open_fd"]


class OwnedFds(list[int]):
    """Open descriptors, which are closed with the list at the latest: after an interrupt."""

    __slots__ = ()

    def __del__(self) -> None:
        if self:
            close_fds(self)


def open_fd(
    owned: list[int],
    path: str | bytes,
    flags: int,
    mode: int = 0o777,
    *,
    dir_fd: int | None = None,
) -> int:
    """Do what `os.open` does, and add the number to the list in the same step.

    Raises:
        OSError, ValueError: as `os.open`.
    """
    opening = os.open if dir_fd is None else partial(os.open, dir_fd=dir_fd)
    owned.extend(starmap(opening, ((path, flags, mode),)))
    return owned[-1]


def close_fds(owned: list[int]) -> None:
    """Close the descriptors and take each out of the list, from the last one on.

    After an interrupt the list has what is still open, and a second call goes on.
    """
    deque(map(os.close, map(list.pop, [owned] * len(owned))), maxlen=0)


class OwnedFd:
    """A file that is open within a `with`, which gives its number."""

    __slots__ = ("_owned",)

    def __init__(
        self, path: str | bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None
    ) -> None:
        """Open it as `os.open` does; raise as that."""
        self._owned = OwnedFds()
        open_fd(self._owned, path, flags, mode, dir_fd=dir_fd)

    def __enter__(self) -> int:
        return self._owned[-1]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        close_fds(self._owned)
