"""Warns of what is not as requested but failed nothing: once for each call.

The logger ``hussh.sftp`` gets it as a warning, and results have it as `warnings`.
"""

from __future__ import annotations

import logging
from functools import partial

from ..._policy.sftp import NAME_SHOWN, decode_path
from ..core import Op, RunBlocking

__all__ = ["Refusals", "warn"]

_log = logging.getLogger("hussh.sftp")


def warn(text: str) -> Op[None]:
    """Log a warning; its handlers may block."""
    if _log.isEnabledFor(logging.WARNING):
        yield RunBlocking(partial(_warn, text))


def _warn(text: str, _left: float | None) -> None:
    _log.warning("%s", text)


class Refusals:
    """The changes of attributes that were refused within one call, though the data is there.

    Args:
        strict: whether a refusal is an error of its file instead.
    """

    def __init__(self, strict: bool) -> None:
        self.strict = strict
        self._count = 0
        self._first = ""

    def add(self, target: bytes, why: str) -> None:
        """Count one, for a file or directory at the receiving end."""
        self._count += 1
        if self._count == 1:
            self._first = f"{decode_path(target)[:NAME_SHOWN]!r} ({why})"

    def list_warnings(self) -> list[str]:
        """Return one sentence about all of them; none if nothing was refused."""
        if not self._count:
            return []
        more = f" and {self._count - 1} more" if self._count > 1 else ""
        return [f"permissions or times were not kept of {self._first}{more}"]
