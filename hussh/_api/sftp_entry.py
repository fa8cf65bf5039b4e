"""Answers questions about an entry of a directory without asking the server.

`SFTPDirEntry` in `sftp_file.py` and its async twin inherit from `Entry`. A method here returns None
where only the server knows; the class that inherits then asks.
"""

from __future__ import annotations

import stat as modes
from typing import Any

from .._policy.remote_path import join
from .._policy.sftp import SFTPAttributes, decode_path
from .._protocol.sftp.file_types import get_listed_type
from .._protocol.sftp.wire import Name

__all__ = ["Entry"]


class Entry:
    """See `SFTPDirEntry`."""

    __slots__ = ("name", "path", "attributes", "longname", "_entry")

    def __init__(self, folder: Any, entry: Name) -> None:
        self._entry = entry
        self.attributes: SFTPAttributes = entry.attributes
        self.longname: str = decode_path(entry.longname)
        self.name: Any = entry.name if isinstance(folder, bytes) else decode_path(entry.name)
        self.path: Any = join(folder, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __fspath__(self) -> Any:
        return self.path

    def _get_known(self, follow: bool) -> SFTPAttributes | None:
        """Return the attributes of the listing; None if the server must be asked."""
        kind = get_listed_type(self.attributes)
        return self.attributes if kind and not (follow and kind == modes.S_IFLNK) else None
