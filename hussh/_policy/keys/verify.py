"""Checks a signature that an SSH key made: who signed a certificate.

`host_certificate.py` uses it. C checks the signatures of a key exchange. It reads bytes only, and
imports ``cryptography`` within functions, because ``import hussh`` must not pay for it.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from ...errors import ProtocolError
from ..wire import Reader

__all__ = ["is_signed_by"]

_CURVES = {"nistp256": ("SECP256R1", "SHA256"), "nistp384": ("SECP384R1", "SHA384"),
           "nistp521": ("SECP521R1", "SHA512")}  # fmt: skip
_RSA_HASHES = {"rsa-sha2-256": "SHA256", "rsa-sha2-512": "SHA512"}  # SHA-1 counts no more
_SECURITY_KEYS = {
    "sk-ssh-ed25519@openssh.com": "ssh-ed25519",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ecdsa-sha2-nistp256",
}
MIN_RSA_BITS = 1024  # OpenSSH's own floor


def is_signed_by(key_blob: bytes, data: bytes, signature: bytes) -> bool:
    """Tell whether `signature` (RFC 4253 section 6.6) is one of `data` by this public key.

    It takes Ed25519, ECDSA, RSA with SHA-2, and the security keys of PROTOCOL.u2f. The result is
    False also if the key or the signature is malformed or of another kind.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        key, sig = Reader(key_blob), Reader(signature)
        kind, algorithm = key.text(), sig.text()
        raw = sig.string()
        if kind in _SECURITY_KEYS:
            flags_and_counter = sig.take(5)
            fields = _take_fields(key, _SECURITY_KEYS[kind])
            application = key.string()
            data = sha256(application).digest() + flags_and_counter + sha256(data).digest()
        else:
            fields = _take_fields(key, kind)
        if not (key.done and sig.done):
            return False
        if kind == "ssh-rsa":
            return algorithm in _RSA_HASHES and _check_rsa(fields, algorithm, raw, data)
        if algorithm != kind:
            return False
        return _check_curve(_SECURITY_KEYS.get(kind, kind), fields, raw, data)
    except (ProtocolError, InvalidSignature, UnsupportedAlgorithm, ValueError, OverflowError):
        return False


def _take_fields(key: Reader, kind: str) -> list[bytes]:
    """Return the fields after the type of a plain key of this kind (RFC 4253, 5656, 8709)."""
    counts = {"ssh-ed25519": 1, "ssh-rsa": 2}
    counts.update((f"ecdsa-sha2-{curve}", 2) for curve in _CURVES)
    if kind not in counts:
        raise ValueError("no kind of key that may sign certificates")
    return [key.string() for _ in range(counts[kind])]


def _check_rsa(fields: list[bytes], algorithm: str, raw: bytes, data: bytes) -> bool:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    e, n = (int.from_bytes(field, "big", signed=True) for field in fields)
    if n.bit_length() < MIN_RSA_BITS:
        return False
    hash_: Any = getattr(hashes, _RSA_HASHES[algorithm])()
    size = (n.bit_length() + 7) // 8
    public = rsa.RSAPublicNumbers(e, n).public_key()
    public.verify(raw.rjust(size, b"\0"), data, PKCS1v15(), hash_)
    return True


def _check_curve(kind: str, fields: list[bytes], raw: bytes, data: bytes) -> bool:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if kind == "ssh-ed25519":
        ed25519.Ed25519PublicKey.from_public_bytes(fields[0]).verify(raw, data)
        return True
    named = kind.removeprefix("ecdsa-sha2-")
    if fields[0] != named.encode():
        return False
    curve, hash_name = _CURVES[named]
    numbers = Reader(raw)
    r, s = numbers.mpint(), numbers.mpint()
    if not numbers.done or r <= 0 or s <= 0:
        return False
    hash_: Any = getattr(hashes, hash_name)()
    public = ec.EllipticCurvePublicKey.from_encoded_point(getattr(ec, curve)(), fields[1])
    public.verify(encode_dss_signature(r, s), data, ec.ECDSA(hash_))
    return True
