"""The text of ``hussh --version``.

`main.py` prints it. It opens no connection.
"""

from __future__ import annotations

from .._api.build_info import build_info
from .._version import __version__

__all__ = ["format_version"]


def format_version() -> str:
    """Return the versions of hussh and of what it is built from."""
    built = build_info()
    return f"hussh {__version__} (libssh2 {built['libssh2']}, OpenSSL {built['openssl_running']})"
