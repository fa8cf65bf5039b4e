"""Parses private keys in PEM (PKCS#1, SEC 1) and PKCS#8, by way of ``cryptography``.

`key_files.py` uses it. It reads bytes only, and imports ``cryptography`` within functions, because
``import hussh`` must not pay for that package.
"""

from __future__ import annotations

import re

from .key_source import Source, unarmour
from .private_key import PrivateKey, adopt

__all__ = ["parse_pem"]

_BAD_CIPHER = "unknown (cipher|key encryption)|unsupported (cipher|encryption)"


def parse_pem(block: bytes, label: str, source: Source) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = label == "ENCRYPTED" or b"Proc-Type: 4,ENCRYPTED" in block
    try:
        # Their validation is a primality test (0.3 s for 4096 bits); check_rsa does the rest.
        key = load_pem_private_key(
            block,
            source.need_passphrase() if encrypted else None,
            unsafe_skip_rsa_key_validation=True,
        )
    except UnsupportedAlgorithm as error:
        raise source.make_error("uses an algorithm that is not supported") from error
    except (TypeError, ValueError) as error:
        # Only their text tells an unknown cipher from a wrong passphrase.
        if encrypted and not re.search(_BAD_CIPHER, str(error), re.I) and _is_intact(block, label):
            raise source.make_passphrase_error() from error
        raise source.make_error("cannot be decoded: damaged, or not supported") from error
    return adopt(key, "", source)


def _is_intact(block: bytes, label: str) -> bool:
    """Tell whether what surrounds the encrypted part is well-formed, so the passphrase is wrong.

    Neither format has a check value: a wrong passphrase and damaged bytes have the same effect.
    """
    lines = [line for line in block.splitlines()[1:-1] if b":" not in line]
    try:
        body = unarmour(b"".join(lines))
    except ValueError:
        return False
    if label != "ENCRYPTED":
        return len(body) > 0 and len(body) % 8 == 0
    if len(body) < 4 or body[0] != 0x30:
        return False
    size, count = body[1], 0
    if size >= 0x80:
        count = size - 0x80
        size = int.from_bytes(body[2 : 2 + count], "big")
    return len(body) == 2 + count + size
