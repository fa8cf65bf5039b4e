"""`TransferResult`, `MirrorResult`: the outcome of the transfer of a directory; pure data.

The directory methods of `_api` return it, and errors that end a transfer carry it. It can be
pickled.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

__all__ = ["FailedPath", "MirrorResult", "TransferResult"]


class FailedPath(str):
    """The path of a file that was not transferred: a str with the error.

    Attributes:
        error: why it was not transferred.
    """

    __slots__ = ("error",)

    error: OSError

    @classmethod
    def of(cls, path: str, error: OSError) -> FailedPath:
        made = cls(path)
        made.error = error
        return made


class TransferResult(tuple[list[str], list[str]]):
    """A pair ``(transferred, failed)`` that also has warnings.

    Attributes:
        transferred: source paths of the files and links that were copied.
        failed: source paths that were not copied; each is a str whose `error` says why.
        warnings: sentences about copies that are not in every way as requested, such as
            permissions that the receiving end refused to set.
    """

    warnings: tuple[str, ...]

    def __new__(
        cls, transferred: list[str], failed: list[str], warnings: Iterable[str] = ()
    ) -> TransferResult:
        made = super().__new__(cls, (transferred, failed))
        made.warnings = tuple(warnings)
        return made

    @property
    def transferred(self) -> list[str]:
        return self[0]

    @property
    def failed(self) -> list[FailedPath]:
        return cast("list[FailedPath]", self[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self, self.warnings)


class MirrorResult(TransferResult):
    """The result of a mirror: a `TransferResult` that also knows what moved nothing.

    Attributes:
        deleted: paths at the receiving end that are gone.
        unchanged: number of files and links that were the same on both sides.
    """

    deleted: list[str]
    unchanged: int

    def __new__(
        cls,
        transferred: list[str],
        failed: list[str],
        warnings: Iterable[str] = (),
        deleted: Iterable[str] = (),
        unchanged: int = 0,
    ) -> MirrorResult:
        made = cast("MirrorResult", super().__new__(cls, transferred, failed, warnings))
        made.deleted = list(deleted)
        made.unchanged = unchanged
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self, self.warnings, self.deleted, self.unchanged)
