"""Decodes the text of a known_hosts file, whatever an editor has made of it; pure.

`known_hosts.py` uses it.
"""

from __future__ import annotations

import codecs

__all__ = ["decode_text", "is_utf16"]

_UTF16 = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def is_utf16(data: bytes) -> bool:
    """Tell whether this is text in UTF-16, with or without a byte order mark."""
    return _decode_utf16(data) is not None


def _decode_utf16(data: bytes) -> tuple[bytes, str] | None:
    for mark, codec in _UTF16:
        if data.startswith(mark):
            return mark, codec
    if len(data) >= 4:
        # A line begins with ASCII, of which every other byte is 0 then.
        zeros = [byte == 0 for byte in data[:4]]
        if zeros == [False, True, False, True]:
            return b"", "utf-16-le"
        if zeros == [True, False, True, False]:
            return b"", "utf-16-be"
    return None


def decode_text(data: bytes) -> tuple[bytes, str]:
    """Return the lines as ssh(1) expects them, and what is wrong with the file ("" if nothing).

    ssh reads no line of a UTF-16 file, and not the first one after a byte order mark.
    """
    utf16 = _decode_utf16(data)
    if utf16 is not None:
        mark, codec = utf16
        text = data[len(mark) :].decode(codec, "replace").encode("utf-8", "surrogatepass")
        return text, "is UTF-16 text, of which ssh reads nothing; save it as UTF-8"
    if data.startswith(codecs.BOM_UTF8):
        return data[len(codecs.BOM_UTF8) :], (
            "begins with a byte order mark, so that ssh does not read its first line; "
            "save it without one"
        )
    return data, ""
