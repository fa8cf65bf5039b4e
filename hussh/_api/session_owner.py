"""What the groups of methods that make up `Connection` need of it: its session and its time limit.

`files.py` and `port_forwarding.py` inherit from it. It opens nothing.
"""

from __future__ import annotations

from .._connect.connect import Session

__all__ = ["SessionOwner"]


class SessionOwner:
    """Has a session."""

    _timeout: int  # milliseconds

    @property
    def _seconds(self) -> float | None:
        return self._timeout / 1000 or None

    def _get_session(self) -> Session:
        raise NotImplementedError
