"""Pinned host keys: the argument ``host_key=``, which replaces known_hosts for one hop.

`check_options.py` of `_api` parses it, and the check of a host key asks it. Pure.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import HostKeyError
from ..keys.public_key import CERTIFICATE, fingerprint, read_blob_type

__all__ = ["Pins", "parse_pins"]

_FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}=?"
_FORMS = '"SHA256:…" as ssh-keygen -l prints it, or "ssh-ed25519 AAAA…" as a .pub file has it'


class Pins(NamedTuple):
    """The keys that one host may have.

    Attributes:
        fingerprints: ``SHA256:…`` of each.
        key_types: types of those that were given as whole keys; a server shall present one of
            these.
    """

    fingerprints: tuple[str, ...]
    key_types: tuple[str, ...]

    def refusal(self, name: str, key_blob: bytes) -> HostKeyError | None:
        """Return the error for a key that is not pinned; None for one that is."""
        shown = fingerprint(key_blob)
        if shown in self.fingerprints:
            return None
        return HostKeyError(
            f"the host key of {name} is not the pinned one: the server shows {shown} "
            f"({read_blob_type(key_blob)}), host_key= names {', '.join(self.fingerprints)}; "
            "somebody may be in between, or the server has keys of several types: "
            "host_key_algorithms= says which one it shall show",
            host=name,
            reason="changed",
            fingerprint=shown,
            recorded=self.fingerprints,
        )


def parse_pins(value: object) -> Pins | None:
    """Return the pins that `value` names, a string or a sequence of strings; None if it has none.

    Raises:
        TypeError: it is neither.
        ValueError: a string has none of the two forms, or the sequence is empty.
    """
    if value is None:
        return None
    items = [value] if isinstance(value, str) else value
    if isinstance(items, bytes) or not isinstance(items, Sequence):
        raise TypeError(f"host_key must be a string or a list of them: {_FORMS}")
    if not items:
        raise ValueError("host_key is an empty list, with which no server could be trusted")
    fingerprints, types = [], []
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"host_key must be a string or a list of them: {_FORMS}")
        text = item.strip()
        if re.fullmatch(_FINGERPRINT, text):
            fingerprints.append(text.rstrip("="))
            continue
        blob = _parse_key(text)
        fingerprints.append(fingerprint(blob))
        types.append(read_blob_type(blob) or "")
    return Pins(tuple(fingerprints), tuple(types) if len(types) == len(items) else ())


def _parse_key(text: str) -> bytes:
    words = text.split(None, 2)
    try:
        blob = b64decode(words[1], validate=True)
    except (ValueError, IndexError):
        raise ValueError(f"host_key must be {_FORMS}") from None
    kind = read_blob_type(blob)
    if kind is None or kind != words[0]:
        raise ValueError(f"host_key holds a damaged public key; it must be {_FORMS}")
    if kind.endswith(CERTIFICATE):
        raise ValueError("host_key holds a certificate; name the plain key, or its authority in "
                         "a @cert-authority line of known_hosts")  # fmt: skip
    return blob
