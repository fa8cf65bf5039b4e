"""File contents as the user asked for them: bytes, or text that is never silently changed."""

from __future__ import annotations

from typing import Any

from .._drive.session import Hop
from .._policy.sftp import AnyPath
from ..errors import NotText

__all__ = ["contents"]


def contents(
    data: bytes, encoding: str | None, path: AnyPath, hop: Hop[Any], phase: str
) -> str | bytes:
    """Text in an encoding; bytes for None.

    Raises:
        NotText: the contents are not text in that encoding.
    """
    if encoding is None:
        return data
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        told = NotText(
            f"{path!r} is not {encoding} text (byte {error.start}): encoding=None gives bytes"
        )
        raise told.at(hop.hop, hop.place.index, phase) from error
