"""Host keys that could not be recorded in a file, remembered until this process ends.

For recording (`known_hosts_record.py`), which adds them, and for the check of a host key, which
treats them as the lines that they should have become.  It reads and writes no file.
"""

from __future__ import annotations

from ..keys.public_key import blob_type
from .known_hosts_line import Entry, encode

__all__ = ["entries_for", "forget", "remember"]

_keys: dict[tuple[str, bytes], bytes] = {}


def remember(file: str, name: str, key_blob: bytes) -> bytes:
    """Remember the key for this name (``[host]:port`` off port 22); the first one stays.

    Returns the key that is remembered, which may be an earlier one.
    """
    return _keys.setdefault((file, encode(name)), key_blob)


def entries_for(file: str, name: str) -> list[Entry]:
    """What is remembered in place of a line of this file; at most one."""
    blob = _keys.get((file, encode(name)))
    if blob is None:
        return []
    return [Entry("", (name,), blob_type(blob) or "", blob, 0, "")]


def forget() -> None:
    """Forget everything; for tests."""
    _keys.clear()
