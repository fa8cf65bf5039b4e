"""Matches patterns of host names, as ssh_config(5) defines them, in linear time.

`known_hosts.py` uses it. It is pure, and no pattern of a file can make it slow.
"""

from __future__ import annotations

__all__ = ["matches", "matches_list"]


def matches_list(name: bytes, patterns: bytes) -> bool:
    """Tell whether a list of patterns matches; a negated pattern that matches outweighs all others.

    See ssh_config(5), PATTERNS.
    """
    matched = False
    for pattern in patterns.lower().split(b","):
        if pattern.startswith(b"!"):
            if matches(name, pattern[1:]):
                return False
        elif not matched:
            matched = matches(name, pattern)
    return matched


def matches(name: bytes, pattern: bytes) -> bool:
    """Tell whether a pattern with ``*`` and ``?`` matches, without backtracking.

    Between stars the leftmost place is always the best one.
    """
    head, *rest = pattern.split(b"*")
    if not rest:
        return len(name) == len(head) and _find_part(name, head, 0, len(name)) == 0
    *middle, tail = rest
    start, end = len(head), len(name) - len(tail)
    if start > end or _find_part(name, head, 0, start) != 0:
        return False
    if _find_part(name, tail, end, len(name)) != end:
        return False
    for part in middle:
        at = _find_part(name, part, start, end)
        if at < 0:
            return False
        start = at + len(part)
    return True


def _find_part(name: bytes, part: bytes, start: int, end: int) -> int:
    """Return the leftmost place of a pattern without stars in ``name[start:end]``, or -1."""
    if b"?" not in part:
        return name.find(part, start, end)
    pieces = part.split(b"?")
    for found in range(start, end - len(part) + 1):
        at = found
        for piece in pieces:
            if not name.startswith(piece, at):
                break
            at += len(piece) + 1
        else:
            return found
    return -1
