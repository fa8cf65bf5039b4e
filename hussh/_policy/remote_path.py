"""Computes with paths on the server, before any server is asked; pure.

`_protocol` and the file classes of `_api` use it. It never decodes a path and never resolves a
link, because only the server knows where those lead.
"""

from __future__ import annotations

import os
from typing import AnyStr

__all__ = ["check_name", "expand_from_home", "is_at_home", "is_name", "join", "get_parent"]


def is_at_home(path: bytes) -> bool:
    """Tell whether a path begins at the home directory.

    ``~`` and ``~/x`` do; ``~x`` and ``./~`` do not.
    """
    return path[:2] == b"~/" or path == b"~"


def expand_from_home(path: bytes, home: bytes) -> bytes:
    """Return a path that begins with ``~``, with the home directory in place of that.

    The result never begins with ``~`` as a path component, so expanding it again changes nothing.
    The home ``.`` gives paths relative to the directory where the session starts.
    """
    rest = path[1:].lstrip(b"/")
    if not rest:
        return home if path == b"~" or home.endswith(b"/") else home + b"/"
    if home == b".":
        return b"./" + rest if is_at_home(rest) else rest
    return home + rest if home.endswith(b"/") else home + b"/" + rest


def join(folder: AnyStr, name: AnyStr) -> AnyStr:
    """Return the path of an entry of a directory; an entry called ``~`` stays one.

    Unlike with `os.path.join`, a name that begins with a slash stays within the directory.
    """
    if isinstance(folder, bytes):
        if not folder:
            return b"./" + name if is_at_home(name) else name
        return folder + name if folder.endswith(b"/") else folder + b"/" + name
    if not folder:
        return "./" + name if name == "~" else name
    return folder + name if folder.endswith("/") else folder + "/" + name


def get_parent(path: bytes) -> bytes:
    """Return the directory of a path; it is empty if the path names none or is the root."""
    path = path.rstrip(b"/")
    parent = os.path.dirname(path)
    return b"" if parent == path else parent


def is_name(name: bytes) -> bool:
    """Tell whether a directory can contain an entry of this name, ``.`` and ``..`` included."""
    return name != b"" and b"/" not in name and b"\0" not in name


def check_name(name: bytes) -> bool:
    """Tell whether a server's name for an entry is a name: no path, and not ``..``."""
    return is_name(name) and name not in (b".", b"..")
