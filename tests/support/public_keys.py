"""Public keys in the encoding of RFC 4253, made from a seed, and lines of known_hosts for them.

Tests of host keys use them; no private key belongs to any.
"""

from __future__ import annotations

import random
from base64 import b64encode

from hussh._policy.keys.public_key import read_blob_type
from hussh._policy.wire import mpint, string

__all__ = ["P256_POINT", "ecdsa", "ed25519", "line", "rsa"]

P256_POINT = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)


def ed25519(seed: int) -> bytes:
    """Return an ed25519 key (RFC 8709)."""
    return string(b"ssh-ed25519") + string(random.Random(seed).randbytes(32))


def rsa(seed: int) -> bytes:
    """Return an RSA key of 2048 bits."""
    modulus = random.Random(seed).getrandbits(2048) | 1 << 2047 | 1
    return string(b"ssh-rsa") + mpint(65537) + mpint(modulus)


def ecdsa(point: bytes = P256_POINT) -> bytes:
    """Return an ECDSA key on P-256 (RFC 5656)."""
    return string(b"ecdsa-sha2-nistp256") + string(b"nistp256") + string(point)


def line(names: str, blob: bytes, marker: str = "", end: str = "\n") -> bytes:
    """Return a line of known_hosts."""
    words = [marker] * bool(marker) + [names, read_blob_type(blob) or "?", b64encode(blob).decode()]
    return " ".join(words).encode() + end.encode()
