"""Repairs the text of a key file that a variable, a template or an editor has changed; pure.

`key_files.py` uses it. It mends only what is unambiguous: base64 and the lines around it contain no
backslash, and no blank that means anything but a line break.
"""

from __future__ import annotations

import codecs
import contextlib
import re
from base64 import b64decode

__all__ = ["is_piece_of_key", "rewrap", "straighten"]

#: How base64 of a text begins that begins with ``-----BEGIN``.
_BEGIN_IN_BASE64 = b"LS0tLS1CRUdJTi"
#: How the base64 of OpenSSH's format begins, and that of most DER keys.
_BODY = ("b3BlbnNzaC1rZXktdjE", "MIIE", "MIIJ", "MHcCAQEE", "MC4CAQAw", "LS0tLS1CRUdJTi")
#: Characters of a line of a key.
_LONG = 64

_HEADERS = rb"\s*Proc-Type:\s*4,ENCRYPTED\s+DEK-Info:\s*([A-Za-z0-9-]+,[0-9A-Fa-f]+)\s"


def straighten(data: bytes) -> bytes:
    r"""Return the text in ASCII with line breaks: no mark, no UTF-16, no literal ``\n``.

    Nor is it in base64 as a whole, which is what many keep in a variable.
    """
    for mark, codec in ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")):
        if data.startswith(mark):
            data = data[len(mark) :].decode(codec, "replace").encode()
    if data[1:2] == b"\0" and data[:1] != b"\0":
        data = data.decode("utf-16-le", "replace").encode()
    elif data[:1] == b"\0" and data[1:2] != b"\0":
        data = data.decode("utf-16-be", "replace").encode()
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\\n" in data:
        data = data.replace(b"\\r\\n", b"\n").replace(b"\\n", b"\n")
    if data[:64].lstrip().startswith(_BEGIN_IN_BASE64):
        with contextlib.suppress(ValueError):
            data = b64decode(b"".join(data.split()), validate=True)
    return data


def is_piece_of_key(name: str) -> bool:
    """Tell whether a text that should be a path looks like a part of a key, so a secret."""
    if "PRIVATE KEY-" in name or "\n" in name or "\\n" in name or name.startswith(_BODY):
        return True
    text = "".join(name.split())
    # Hardly a path: long, and without a dot, a dash or an underscore.
    return (
        len(text) >= _LONG
        and re.fullmatch(r"[A-Za-z0-9+][A-Za-z0-9+/]*=*", text) is not None
        and all(re.search(kind, text) for kind in ("[A-Z]", "[a-z]", "[0-9]"))
    )


def rewrap(body: bytes) -> bytes:
    """Return what stands between BEGIN and END of a PEM file in lines, its headers first."""
    headers = re.match(_HEADERS, body, re.IGNORECASE)
    if headers is None:
        return b"\n" + _wrap_lines(body)
    dek = headers[1]
    return (
        b"\nProc-Type: 4,ENCRYPTED\nDEK-Info: " + dek + b"\n\n" + _wrap_lines(body[headers.end() :])
    )


def _wrap_lines(body: bytes) -> bytes:
    text = b"".join(body.split())
    return b"".join(text[at : at + 64] + b"\n" for at in range(0, len(text), 64))
