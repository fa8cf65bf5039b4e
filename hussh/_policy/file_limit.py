"""Local files that could not be read because the process has as many open as it may.

That says nothing about the file: who reads keys and known hosts imports it.
"""

from __future__ import annotations

import errno

from ..errors import ConnectError

__all__ = ["check_file_limit"]


def check_file_limit(error: OSError, doing: str, phase: str) -> None:
    """Raises ConnectError if that is why it failed."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        text = f"{doing}: {error.strerror}: close connections, or raise the limit (ulimit -n)"
        raise ConnectError(text, phase=phase) from error
