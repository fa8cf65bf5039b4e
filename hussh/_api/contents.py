"""File contents as the user asked for them: bytes, or text that is never silently changed."""

from __future__ import annotations

from ..errors import NotText

__all__ = ["contents"]


def contents(data: bytes, encoding: str | None, path: str) -> str | bytes:
    """Text in an encoding; bytes for None.

    Raises:
        NotText: the contents are not text in that encoding.
    """
    if encoding is None:
        return data
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise NotText(
            f"{path} is not {encoding} text (byte {error.start}): encoding=None gives bytes"
        ) from error
