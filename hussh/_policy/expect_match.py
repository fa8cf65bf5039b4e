"""`ExpectMatch`: what `expect` of a shell has found; pure data."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["ExpectMatch"]


class ExpectMatch:
    """A pattern that came, and what came before it.

    It has the methods of an `re.Match` for its groups: ``match.group(1)``, ``match[1]``.

    Attributes:
        before, before_bytes: what came before it and nobody had taken, as str (UTF-8; other bytes
            become U+FFFD) and exactly.
        after, after_bytes: what matched.
        index: the number of the pattern in the list, counted from 0.
        match: the `re.Match`.
        truncated: whether more came before it than `max_before` allowed to keep.
    """

    __slots__ = ("before_bytes", "after_bytes", "index", "match", "truncated")

    def __init__(
        self,
        before_bytes: bytes,
        after_bytes: bytes,
        index: int,
        match: re.Match[str] | re.Match[bytes],
        truncated: bool,
    ) -> None:
        self.before_bytes: bytes = before_bytes
        self.after_bytes: bytes = after_bytes
        self.index: int = index
        self.match: re.Match[str] | re.Match[bytes] = match
        self.truncated: bool = truncated

    @property
    def before(self) -> str:
        return self.before_bytes.decode("utf-8", "replace")

    @property
    def after(self) -> str:
        return self.after_bytes.decode("utf-8", "replace")

    def group(self, *groups: int | str) -> Any:
        """Return what a group of the pattern matched, as `re.Match.group`."""
        return self.match.group(*groups)

    def groups(self, default: Any = None) -> tuple[Any, ...]:
        """Return all groups, as `re.Match.groups`."""
        return self.match.groups(default)

    def groupdict(self, default: Any = None) -> dict[str, Any]:
        """Return the named groups, as `re.Match.groupdict`."""
        return self.match.groupdict(default)

    def __getitem__(self, group: int | str) -> Any:
        return self.match[group]

    def __repr__(self) -> str:
        return f"<ExpectMatch {self.index}: {self.after!r}>"
