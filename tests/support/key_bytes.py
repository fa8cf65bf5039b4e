"""Private keys as bytes that `ssh-keygen` would not write, in OpenSSH's container.

Tests of the readers of keys use them.
"""

from __future__ import annotations

import contextlib
from base64 import b64encode

from hussh._policy.keys.key_files import parse_private_key
from hussh._policy.wire import string, uint32
from hussh.errors import (
    HusshError,
)

__all__ = ["ED_BLOB", "container", "ed25519_section", "only_our_errors"]

ED_BLOB = string(b"ssh-ed25519") + string(bytes(32))


def container(
    blob: bytes, section: bytes, cipher: bytes = b"none", options: bytes = b"", count: int = 1
) -> bytes:
    kdf = b"none" if cipher == b"none" else b"bcrypt"
    body = b"openssh-key-v1\0" + string(cipher) + string(kdf) + string(options)
    body += uint32(count) + string(blob) + string(section)
    text = b"-----BEGIN OPENSSH PRIVATE KEY-----\n%s\n-----END OPENSSH PRIVATE KEY-----\n"
    return text % b64encode(body)


def ed25519_section(*, check: int = 7, seed: bytes = bytes(32), padding: bytes = b"") -> bytes:
    key = string(b"ssh-ed25519") + string(bytes(32)) + string(seed + bytes(32))
    return uint32(7) + uint32(check) + key + string(b"") + padding


def only_our_errors(data: bytes, passphrase: str | None) -> None:
    with contextlib.suppress(HusshError):
        key = parse_private_key(data, passphrase, "key")
        assert key.public.blob.startswith(string(key.public.algorithm.encode()))
