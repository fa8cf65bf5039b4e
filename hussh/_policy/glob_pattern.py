"""Takes patterns for names and paths apart: those of `glob`, and what a mirror leaves out; pure.

A star stands for any characters but a slash, ``**`` as a whole part for any number of directories,
as `pathlib` has it. ``?`` and ``[...]`` are those of `fnmatch`. Case counts, and names that begin
with a dot are like others.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from fnmatch import translate

from .sftp import AnyPath, decode_path, encode_path

__all__ = ["ANY_DEPTH", "Exclusion", "GlobPattern", "Part"]

_MAGIC = re.compile(r"[*?[]")

#: The part ``**``.
ANY_DEPTH = None
#: A name as it is, a pattern for a name, or `ANY_DEPTH`.
Part = bytes | re.Pattern[str] | None


class GlobPattern:
    """A pattern of `glob`.

    Attributes:
        base: the path from which it begins: ``/``, ``~``, or nothing.
        parts: what follows, a part for each level.
        only_directories: whether a slash ends it.
    """

    def __init__(self, pattern: bytes) -> None:
        self.base = b""
        names = pattern.split(b"/")
        if pattern.startswith(b"/"):
            self.base = b"/"
        elif names[0] == b"~":
            self.base = names.pop(0)
        self.only_directories = pattern.endswith(b"/")
        self.parts: list[Part] = []
        for name in names:
            part = _compile_part(name)
            twice = part is ANY_DEPTH and self.parts and self.parts[-1] is ANY_DEPTH
            if name not in (b"", b".") and not twice:
                self.parts.append(part)
        self._end = len(self.parts)

    def begin(self) -> frozenset[int]:
        """Return the positions in `parts` at the beginning."""
        return self._close_over({0})

    def is_match(self, at: frozenset[int]) -> bool:
        """Tell whether what these positions were reached with matches the whole pattern."""
        return self._end in at

    def may_go_on(self, at: frozenset[int]) -> bool:
        """Tell whether something below may match."""
        return any(position < self._end for position in at)

    def get_literal(self, at: frozenset[int]) -> bytes | None:
        """Return the only name that can come next, if it needs no listing."""
        if len(at) != 1:
            return None
        (position,) = at
        part = self.parts[position] if position < self._end else None
        return part if isinstance(part, bytes) else None

    def step_up(self, at: frozenset[int]) -> frozenset[int]:
        """Return the positions after ``..``, which no listing contains."""
        return self._close_over({p + 1 for p in at if p < self._end and self.parts[p] == b".."})

    def step_into(self, at: frozenset[int], name: bytes, is_directory: bool) -> frozenset[int]:
        """Return the positions after an entry of a directory.

        Args:
            is_directory: whether it is a directory itself, and not a link to one.
        """
        text = None
        reached: set[int] = set()
        for position in at:
            if position == self._end:
                continue
            part = self.parts[position]
            if part is ANY_DEPTH:
                if is_directory:
                    reached.add(position)
                if position + 1 == self._end:
                    reached.add(self._end)
            elif isinstance(part, bytes):
                if part == name:
                    reached.add(position + 1)
            else:
                text = decode_path(name) if text is None else text
                if part.match(text):
                    reached.add(position + 1)
        return self._close_over(reached)

    def _close_over(self, at: set[int]) -> frozenset[int]:
        """Add the positions behind ``**``, which may stand for nothing."""
        for position in list(at):
            if position < self._end and self.parts[position] is ANY_DEPTH:
                at.add(position + 1)
        return frozenset(at)


def _compile_part(name: bytes) -> Part:
    if name == b"**":
        return ANY_DEPTH
    text = decode_path(name)
    return re.compile(translate(text)) if _MAGIC.search(text) else name


class Exclusion:
    """Tells which paths below a directory a mirror leaves out, by rsync's rules.

    A pattern without a slash is for names at any depth. With a slash it is for the last parts of a
    path, and with one at its beginning for the whole path below the top. A slash at the end means
    directories only.
    """

    def __init__(self, patterns: AnyPath | Iterable[AnyPath] = ()) -> None:
        """Take patterns, or one pattern.

        Raises:
            TypeError: one of them is no path.
            ValueError: one of them is empty.
        """
        if isinstance(patterns, str | bytes | os.PathLike):
            patterns = [patterns]
        self._rules = [_Rule(encode_path(pattern)) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether a path is left out, though none of the directories above it is."""
        names = decode_path(path).split("/")
        return any(
            rule.is_match(names)
            for rule in self._rules
            if is_directory or not rule.only_directories
        )


class _Rule:
    """One pattern of an `Exclusion`.

    A server chooses the names. So a match takes time in proportion to their length for each star,
    and never more.
    """

    def __init__(self, pattern: bytes) -> None:
        inner = pattern.strip(b"/")
        if not inner:
            raise ValueError("a pattern of exclude= is empty")
        self.only_directories = pattern.endswith(b"/")
        self._whole = pattern.startswith(b"/")
        self._parts: list[re.Pattern[str] | None] = [
            ANY_DEPTH if name == b"**" else re.compile(_translate_part(decode_path(name)))
            for name in inner.split(b"/")
        ]

    def is_match(self, names: list[str]) -> bool:
        """Tell whether the names of a path, from the top down, end as the pattern says."""
        parts, end = self._parts, len(self._parts)
        if not self._whole and ANY_DEPTH not in parts:
            names = names[-end:]
        at = {0}
        for name in names:
            reached: set[int] = set()
            if not self._whole:
                at.add(0)
            for start in at:
                position = start
                while position < end:
                    part = parts[position]
                    if part is not ANY_DEPTH:
                        if part.match(name):
                            reached.add(position + 1)
                        break
                    reached.add(position)
                    position += 1  # it may stand for nothing, but at the end
                    if position == end:
                        reached.add(end)
            at = reached
        return end in at


def _translate_part(name: str) -> str:
    """Return a regular expression for one part of a path; it never tries a star twice."""
    fixed, at = [""], 0  # between the stars
    while at < len(name):
        letter = name[at]
        at += 1
        if letter == "*":
            fixed.append("")
        elif letter == "?":
            fixed[-1] += "."
        elif letter == "[" and (end := name.find("]", at + 1 + (name[at : at + 1] in "!^"))) > 0:
            inside = name[at:end].replace("\\", "\\\\").replace("[", "\\[")
            inverted = inside[:1] in ("!", "^")
            fixed[-1] += f"[{'^' if inverted else ''}{inside[inverted:]}]"
            at = end + 1
        else:
            fixed[-1] += re.escape(letter)
    first, *others = fixed
    # The first place for what follows a star is as good as any later one, except for the last.
    found = first
    for number, text in enumerate(others[:-1]):
        if text:
            found += f"(?=(?P<g{number}>.*?{text}))(?P=g{number})"
    if others:
        found += f".*{others[-1]}"
    return f"(?s:{found})\\Z"
