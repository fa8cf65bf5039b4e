"""Parses the argument ``private_key=``: paths, texts and objects, one or a list; opens nothing.

`plan.py` of `_api` parses it, and the login (`auth_given_keys.py`) reads it. No secret gets into a
repr or an error.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .key_files import check_is_path
from .key_source import Source
from .key_text import straighten
from .private_key import PrivateKey, adopt

__all__ = ["GivenKey", "parse_given_keys", "get_path"]

#: How a key that was given as text is known, once marks and UTF-16 are gone from it.
_TEXT = rb"\s*[\"']?-----BEGIN|PRIVATE ?KEY-----|\s*(ssh-|ecdsa-sha2-|sk-)[\w@.-]+\s+AAAA"
_MOST = 100


@dataclass(frozen=True, repr=False)
class GivenKey:
    """One key that the user names; exactly one of `path`, `text` and `key` is set.

    Attributes:
        name: what errors and logs call it; a path, or words.
        path: of a file with a private or a public key.
        text: the content of such a file.
        key: made from an object of ``cryptography``.
    """

    name: str
    path: str | None = None
    text: bytes | None = None
    key: PrivateKey | None = field(default=None)

    def __repr__(self) -> str:
        return f"<GivenKey {self.name}>"


def parse_given_keys(value: object) -> tuple[GivenKey, ...]:
    """Return the keys that `value` names, in order; nothing if it is None or empty.

    Raises:
        TypeError: a key is of another type.
        ValueError: a path contains a NUL character.
        KeyUnreadable: a key object is of a kind that SSH does not have, or what should be a path
            is a piece of a key.
    """
    if value is None or value in ("", b"", ()):
        return ()
    if isinstance(value, str | bytes | os.PathLike) or not isinstance(value, Sequence):
        return (_parse_one(value, ""),)
    if len(value) > _MOST:
        raise ValueError(f"private_key names {len(value)} keys; more than {_MOST} make no sense")
    return tuple(_parse_one(item, f" {place}") for place, item in enumerate(value, 1))


def _parse_one(value: object, place: str) -> GivenKey:
    if isinstance(value, str | bytes):
        data = value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")
        if re.match(_TEXT, straighten(data)) or re.search(_TEXT, data[: 1 << 16]):
            return GivenKey(f"that was given as text{place}", text=data)
    if isinstance(value, str | bytes | os.PathLike):
        path = os.fsdecode(value)
        if not path:
            raise ValueError(f"private_key{place} is empty")
        check_is_path(path)
        return GivenKey(path, path=path)
    if not type(value).__module__.startswith("cryptography."):
        raise TypeError(
            "private_key must be a path, the text of a key, a private key of cryptography, or a "
            f"list of these, not {type(value).__name__}"
        )
    name = f"that was given as an object{place}"
    return GivenKey(name, key=adopt(value, "", Source(name, None)))


def get_path(keys: Sequence[GivenKey]) -> str:
    """Return what the attribute ``private_key`` of a connection shows: a path, or ""."""
    return next((key.path for key in keys if key.path is not None), "")
