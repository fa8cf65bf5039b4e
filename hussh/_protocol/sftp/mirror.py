"""What both directions of a mirror share: what is left out, what counts as the same, the result.

`mirror_put.py` and `mirror_get.py` have the directions. A mirror makes the receiving directory what
the other is: links stay links, and only files whose size or time differs move. It never follows a
link at the receiving end. A file that is there is replaced by a rename when the new one is
complete. With ``delete`` it removes what the source does not have, after all else, and nothing at
all if a part of the source could not be read. That holds for a directory in whose place a file or
link comes, too.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ..._policy.glob_pattern import Exclusion
from ..._results.transfer_result import MirrorResult, TransferResult

__all__ = [
    "LEFT_OUT",
    "UNREAD",
    "Mirrored",
    "Wanted",
    "join_inner",
    "is_same",
    "make_temporary_name",
]

#: Why nothing was removed.
UNREAD = "nothing was deleted, because a part of the source could not be read"
#: Why a file or link could not come.
LEFT_OUT = "a directory that is left out of the mirror is in its place"


@dataclass(frozen=True)
class Wanted:
    """What a user asks for.

    Attributes:
        delete: whether to remove what the source does not have.
        exclude: tells what is neither copied nor removed.
    """

    delete: bool
    exclude: Exclusion


class Mirrored:
    """What a mirror has found out so far.

    Attributes:
        deleted: paths at the receiving end that are gone.
        unchanged: number of files and links that are the same.
        is_unread: whether a part of the source could not be read, so that nothing may be removed.
        dirty: directories in which names have come or gone, by a path of the source or of the
            receiving end; their times are to be set.
    """

    def __init__(self) -> None:
        self.deleted: list[str] = []
        self.unchanged = 0
        self.is_unread = False
        self.dirty: set[object] = set()

    def make_result(self, found: TransferResult, wanted: Wanted) -> MirrorResult:
        """Return the result of a transfer with what a mirror has besides."""
        warnings = list(found.warnings)
        if wanted.delete and self.is_unread:
            warnings.append(UNREAD)
        return MirrorResult(
            found.transferred, list(found[1]), warnings, self.deleted, self.unchanged
        )


def is_same(
    size: int | None, seconds: float | None, other_size: int | None, other: float | None
) -> bool:
    """Tell whether two regular files count as the same, by size and whole seconds of their time."""
    if None in (size, seconds, other_size, other):
        return False
    return size == other_size and int(seconds or 0) == int(other or 0)


def make_temporary_name() -> bytes:
    """Return a name for a file that is not complete."""
    return b".hussh-" + os.urandom(8).hex().encode()


def join_inner(above: bytes, name: bytes) -> bytes:
    """Return a path below the top of a mirror."""
    return above + b"/" + name if above else name
