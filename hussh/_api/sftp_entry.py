"""What an entry of a directory is, without asking the server: for `SFTPDirEntry` and its twin."""

from __future__ import annotations

import os
import stat as modes
from typing import Any

from .._policy.sftp import SFTPAttributes, decode_path
from .._protocol.sftp_wire import Name

__all__ = ["Entry"]


class Entry:
    """See `SFTPDirEntry`."""

    __slots__ = ("name", "path", "attributes", "longname")

    def __init__(self, folder: Any, entry: Name) -> None:
        self.attributes = entry.attributes
        self.longname = decode_path(entry.longname)
        self.name: Any = entry.name if isinstance(folder, bytes) else decode_path(entry.name)
        self.path: Any = os.path.join(folder, self.name)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __fspath__(self) -> Any:
        return self.path

    def _known(self, follow: bool) -> SFTPAttributes | None:
        """Attributes as far as the listing told them; None: the server must be asked."""
        links = follow and modes.S_ISLNK(self.attributes.st_mode)
        return self.attributes if self.attributes.st_mode and not links else None
