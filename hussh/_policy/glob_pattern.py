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
            part = _part(name)
            twice = part is ANY_DEPTH and self.parts and self.parts[-1] is ANY_DEPTH
            if name not in (b"", b".") and not twice:
                self.parts.append(part)
        self._end = len(self.parts)

    def begin(self) -> frozenset[int]:
        """Return the positions in `parts` at the beginning."""
        return self._closure({0})

    def is_match(self, at: frozenset[int]) -> bool:
        """Tell whether what these positions were reached with matches the whole pattern."""
        return self._end in at

    def goes_on(self, at: frozenset[int]) -> bool:
        """Tell whether something below may match."""
        return any(position < self._end for position in at)

    def literal(self, at: frozenset[int]) -> bytes | None:
        """Return the only name that can come next, if it needs no listing."""
        if len(at) != 1:
            return None
        (position,) = at
        part = self.parts[position] if position < self._end else None
        return part if isinstance(part, bytes) else None

    def upward(self, at: frozenset[int]) -> frozenset[int]:
        """Return the positions after ``..``, which no listing contains."""
        return self._closure({p + 1 for p in at if p < self._end and self.parts[p] == b".."})

    def after(self, at: frozenset[int], name: bytes, is_directory: bool) -> frozenset[int]:
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
        return self._closure(reached)

    def _closure(self, at: set[int]) -> frozenset[int]:
        """Add the positions behind ``**``, which may stand for nothing."""
        for position in list(at):
            if position < self._end and self.parts[position] is ANY_DEPTH:
                at.add(position + 1)
        return frozenset(at)


def _part(name: bytes) -> Part:
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
        self._rules = [_rule(encode_path(pattern)) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def __call__(self, path: bytes, is_directory: bool) -> bool:
        """Tell whether a path is left out, though none of the directories above it is."""
        text = decode_path(path)
        return any(
            rule.match(text) is not None
            for rule, only_directories in self._rules
            if is_directory or not only_directories
        )


def _rule(pattern: bytes) -> tuple[re.Pattern[str], bool]:
    inner = pattern.strip(b"/")
    if not inner:
        raise ValueError("a pattern of exclude= is empty")
    parts = []
    for name in inner.split(b"/"):
        # `translate` wraps a name in (?s:...)\Z, and its stars would match a slash.
        parts.append(None if name == b"**" else _within_name(decode_path(name)))
    text = "" if pattern.startswith(b"/") else "(?:.*/)?"
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        if part is None:
            text += ".+" if last else "(?:.*/)?"
        else:
            text += part + ("" if last else "/")
    return re.compile(f"(?s:{text})\\Z"), pattern.endswith(b"/")


def _within_name(name: str) -> str:
    """Return a regular expression for a part of a path, in which nothing matches a slash."""
    found, at = "", 0
    while at < len(name):
        letter = name[at]
        at += 1
        if letter == "*":
            found += "[^/]*"
        elif letter == "?":
            found += "[^/]"
        elif letter == "[" and (end := name.find("]", at + 1 + (name[at : at + 1] in "!^"))) > 0:
            inside = name[at:end].replace("\\", "\\\\").replace("[", "\\[")
            inverted = inside[:1] in ("!", "^")
            found += f"(?!/)[{'^' if inverted else ''}{inside[inverted:]}]"
            at = end + 1
        else:
            found += re.escape(letter)
    return found
