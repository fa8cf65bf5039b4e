"""`Endpoint`: which server on the way to the target something is about.

Errors, stories and limits of `_connect`, `_protocol` and `_multi` name hops by it. It never
changes, and knows nothing of links.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import HusshError, Phase
from .options import Options
from .route import format_hop

__all__ = ["Endpoint"]


@dataclass(frozen=True)
class Endpoint:
    """One hop, as errors name it.

    Attributes:
        hop: ``user@host:port``.
        index: its number in the order of travel, from 0.
    """

    hop: str
    index: int

    @classmethod
    def of(cls, options: Options, index: int) -> Endpoint:
        return cls(format_hop(options.username, options.host, options.port), index)

    def mark(self, error: HusshError, phase: Phase | None = None) -> HusshError:
        """Fill hop and phase into an error that does not have them; return the error."""
        return error.at(self.hop, self.index, phase)
