"""Remembers host keys that could not be recorded in a file, until this process ends.

Recording (`known_hosts_record.py`) adds them. The check of a host key treats them as the lines that
they should have become. It reads and writes no file.
"""

from __future__ import annotations

from ..keys.public_key import read_blob_type
from .known_hosts_line import Entry, encode

__all__ = ["entries_for", "forget", "remember"]

_keys: dict[tuple[str, bytes], bytes] = {}


def remember(file: str, name: str, key_blob: bytes) -> bytes:
    """Remember the key for this name (``[host]:port`` for ports other than 22).

    Returns:
        the key that is remembered, which may be an earlier one, because the first one stays.
    """
    return _keys.setdefault((file, encode(name)), key_blob)


def entries_for(file: str, name: str) -> list[Entry]:
    """Return what is remembered in place of a line of this file; at most one."""
    blob = _keys.get((file, encode(name)))
    if blob is None:
        return []
    return [Entry("", (name,), read_blob_type(blob) or "", blob, 0, "")]


def forget() -> None:
    """Forget everything; for tests."""
    _keys.clear()
