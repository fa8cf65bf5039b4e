"""What the groups of methods that make up `AsyncConnection` need of it: session and time limit.

`async_files.py` and `async_port_forwarding.py` inherit from it. It opens nothing.
"""

from __future__ import annotations

from .._connect.async_connect import AsyncSession

__all__ = ["AsyncSessionOwner"]


class AsyncSessionOwner:
    """Has a session."""

    _timeout: float  # seconds

    def _get_session(self) -> AsyncSession:
        raise NotImplementedError
