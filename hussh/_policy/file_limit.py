"""Recognises local files that could not be read because the process has too many open.

Such an error says nothing about the file. `key_files.py` and `known_hosts.py` import it. It opens
nothing.
"""

from __future__ import annotations

import errno

from ..errors import ConnectError, Phase

__all__ = ["check_file_limit"]


def check_file_limit(error: OSError, doing: str, phase: Phase) -> None:
    """Raise ConnectError if an error means that the process has no descriptor left."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        text = f"{doing}: {error.strerror}: close connections, or raise the limit (ulimit -n)"
        raise ConnectError(text, phase=phase) from error
