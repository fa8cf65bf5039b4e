"""Returns file contents as the user asked for them: bytes, or text that was not changed.

`files.py` and `async_files.py` call it for files that are read into memory. It never replaces a
byte that it cannot decode.
"""

from __future__ import annotations

from typing import Any

from .._connect.hop import Hop
from ..errors import NotText, Phase

__all__ = ["convert_contents"]


def convert_contents(
    data: bytes, encoding: str | None, path: object, session: Hop[Any], phase: Phase
) -> str | bytes:
    """Decode bytes, or return them for None; the path and what follows are for the error.

    Raises:
        NotText: the contents are not text in that encoding.
    """
    if encoding is None:
        return data
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        shown_error = NotText(
            f"{path!r} is not {encoding} text (byte {error.start}): encoding=None gives bytes"
        )
        raise session.endpoint.mark(shown_error, phase) from error
