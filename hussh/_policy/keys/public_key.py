"""Public keys as SSH sends them: their type, their fingerprint, and when two are the same.

`known_hosts.py`, `key_files.py`, `certificates.py` and `agent.py` build on it. It reads bytes only:
no file, no secret, and nothing of ``cryptography``.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

from ...errors import ProtocolError
from ..wire import Reader

__all__ = ["CERTIFICATE", "RSA_NAMES", "PublicKey", "read_blob_type", "count_fields", "fingerprint",
           "get_identity", "count_rsa_bits"]  # fmt: skip

#: The end of a certificate's algorithm, after that of its key (openssh PROTOCOL.certkeys).
CERTIFICATE = "-cert-v01@openssh.com"
# One RSA key serves three signature algorithms (RFC 8332).
RSA_NAMES = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")
# How many strings follow the type in a key blob (RFC 4253 section 6.6, RFC 5656, RFC 8709).
_FIELD_COUNTS = {
    "ssh-ed25519": 1,
    "ssh-rsa": 2,
    "ecdsa-sha2-nistp256": 2,
    "ecdsa-sha2-nistp384": 2,
    "ecdsa-sha2-nistp521": 2,
    "ssh-dss": 4,
    "sk-ssh-ed25519@openssh.com": 2,
    "sk-ecdsa-sha2-nistp256@openssh.com": 3,
}


@dataclass(frozen=True)
class PublicKey:
    """A public key as SSH sends it (RFC 4253 section 6.6).

    Attributes:
        algorithm: the key's type, the first field of `blob`.
        blob: the wire encoding.
        comment: for people; may be empty.
    """

    algorithm: str
    blob: bytes
    comment: str = ""

    @cached_property  # a batch names the same key at each host
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` prints it."""
        return fingerprint(self.blob)


def count_fields(key_type: str) -> int:
    """Return how many strings follow the type in a public key blob; 0 if that is not known."""
    return _FIELD_COUNTS.get(key_type, 0)


def fingerprint(blob: bytes) -> str:
    """Return the fingerprint as ssh-keygen prints it: ``SHA256:`` and base64 without padding."""
    return "SHA256:" + b64encode(sha256(blob).digest()).decode("ascii").rstrip("=")


def read_blob_type(blob: bytes) -> str | None:
    """Return the key type within a public key blob (RFC 4253 section 6.6), None if it is malformed.

    Of unknown types only the outer shape is checked.
    """
    try:
        reader = Reader(blob)
        key_type = reader.string().decode("ascii")
        fields = [reader.string() for _ in range(_FIELD_COUNTS.get(key_type, 0))]
    except (ProtocolError, UnicodeDecodeError):
        return None
    if not key_type.isprintable() or not key_type or " " in key_type:
        return None
    if bool(fields) != reader.done or (key_type == "ssh-ed25519" and len(fields[0]) != 32):
        return None
    return key_type


def get_identity(blob: bytes) -> tuple[bytes, ...]:
    """Return what is equal for all encodings of a key, so that a revoked key is always found.

    Numbers may have leading zeros, curve points may be compressed, and bytes may follow the last
    field.
    """
    try:
        reader = Reader(blob)
        key_type = reader.string()
        count = _FIELD_COUNTS[key_type.decode("ascii")]
        fields = [reader.string() for _ in range(count)]
    except (ProtocolError, UnicodeDecodeError, KeyError):
        return (blob,)
    if key_type in (b"ssh-rsa", b"ssh-dss"):
        fields = [field.lstrip(b"\0") for field in fields]
    elif b"ecdsa" in key_type and fields[1]:
        form, point = fields[1][0], fields[1][1:]
        if form in (4, 6, 7) and point:
            form, point = 2 + (point[-1] & 1), point[: len(point) // 2]
        fields[1] = bytes((form,)) + point
    return (key_type, *fields)


def count_rsa_bits(blob: bytes) -> int | None:
    """Return the size in bits of an RSA key, also of one in a certificate; None for other keys.

    A malformed RSA key has 0 bits.
    """
    reader = Reader(blob)
    try:
        kind = reader.string()
        if kind not in (b"ssh-rsa", b"ssh-rsa" + CERTIFICATE.encode()):
            return None
        for _ in range(2 if kind.endswith(CERTIFICATE.encode()) else 1):
            reader.string()  # a certificate's nonce, and the exponent
        return int.from_bytes(reader.string(), "big").bit_length()
    except ProtocolError:
        return 0
