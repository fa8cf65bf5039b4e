"""A stderr that is a terminal to those who ask it, for tests of what is shown there."""

from __future__ import annotations

import io

__all__ = ["Terminal"]


class Terminal(io.StringIO):
    """It says that it is a terminal, and keeps what is written."""

    def isatty(self) -> bool:
        """Say so."""
        return True
