"""What a path at the server means before any server is asked; pure.

`_protocol` and the file classes of `_api` use it.  It never decodes a path and never
resolves a link: only the server knows where those lead.
"""

from __future__ import annotations

import os
from typing import AnyStr

__all__ = ["check_name", "from_home", "is_at_home", "is_name", "join", "parent_of"]


def is_at_home(path: bytes) -> bool:
    """Whether a path begins at the home directory: ``~`` or ``~/x``, but not ``~x`` or ``./~``."""
    return path[:2] == b"~/" or path == b"~"


def from_home(path: bytes, home: bytes) -> bytes:
    """A path that begins with ``~``, with the home directory in its place.

    The result never begins with ``~`` as a path component of its own, so that expanding it
    again changes nothing.  The home ``.`` gives paths relative to where the session starts.
    """
    rest = path[1:].lstrip(b"/")
    if not rest:
        return home if path == b"~" or home.endswith(b"/") else home + b"/"
    if home == b".":
        return b"./" + rest if is_at_home(rest) else rest
    return home + rest if home.endswith(b"/") else home + b"/" + rest


def join(folder: AnyStr, name: AnyStr) -> AnyStr:
    """The path of an entry of a directory; an entry called ``~`` stays one.

    Unlike `os.path.join`, a name that begins with a slash does not lead out of the directory.
    """
    if isinstance(folder, bytes):
        if not folder:
            return b"./" + name if is_at_home(name) else name
        return folder + name if folder.endswith(b"/") else folder + b"/" + name
    if not folder:
        return "./" + name if name == "~" else name
    return folder + name if folder.endswith("/") else folder + "/" + name


def parent_of(path: bytes) -> bytes:
    """The directory that a path lies in; empty where the path names none or is the root."""
    path = path.rstrip(b"/")
    parent = os.path.dirname(path)
    return b"" if parent == path else parent


def is_name(name: bytes) -> bool:
    """Whether a directory can contain an entry of this name, ``.`` and ``..`` included."""
    return name != b"" and b"/" not in name and b"\0" not in name


def check_name(name: bytes) -> bool:
    """Whether a server's name for an entry of a directory is one: no path, no way up."""
    return is_name(name) and name not in (b".", b"..")
