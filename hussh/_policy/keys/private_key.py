"""A decrypted private key, and signing with it.

`openssh_format.py`, `pem_format.py` and `given_keys.py` make it, and the login signs with it. It
reads no file and lets no secret into a repr or an error. It imports ``cryptography`` within
functions only, because ``import hussh`` must not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from ...errors import KeyFileError
from ..wire import mpint, string
from .key_source import Source
from .public_key import PublicKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = ["CURVES", "PrivateKey", "adopt", "check_rsa"]

MIN_RSA_BITS = 1024  # OpenSSH's own floor
MAX_RSA_BITS = 16384  # OpenSSL's own ceiling
CURVES = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}
_RSA_HASHES = {"rsa-sha2-512": "SHA512", "rsa-sha2-256": "SHA256", "ssh-rsa": "SHA1"}


class PrivateKey:
    """A decrypted key that can sign.

    Attributes:
        public: its public half.
    """

    __slots__ = ("public", "_signers")

    def __init__(self, public: PublicKey, signers: Mapping[str, Callable[[bytes], bytes]]) -> None:
        self.public = public
        self._signers = signers

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return the SSH signature blob: the algorithm's name, then the signature, two strings.

        See RFC 4253 section 6.6; RFC 8332 (RSA), RFC 5656 (ECDSA), RFC 8709 (Ed25519).

        Raises:
            ValueError: `algorithm` is not one for this kind of key.
            KeyFileError: the crypto library refuses to sign, for example SHA-1 in FIPS mode.
        """
        signer = self._signers.get(algorithm)
        if signer is None:
            raise ValueError(f"a {self.public.algorithm} key cannot sign with {algorithm}")
        try:
            signature = signer(data)
        except Exception as error:
            raise KeyFileError(
                f"private key {self.public.fingerprint} cannot sign with {algorithm}: "
                f"{type(error).__name__} in the crypto library"
            ) from error
        return _encode_label(algorithm) + string(signature)

    @property
    def is_quick(self) -> bool:
        """Whether a signature takes less time than handing the work to a thread (0.1 ms)."""
        return self.public.algorithm in ("ssh-ed25519", "ecdsa-sha2-nistp256")

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.algorithm} {self.public.fingerprint}>"


@cache
def _encode_label(algorithm: str) -> bytes:
    return string(algorithm.encode())


def adopt(key: object, comment: str, source: Source) -> PrivateKey:
    """Wrap a key of ``cryptography``, whatever format it came from."""
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    signers: dict[str, Callable[[bytes], bytes]]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        kind = "ssh-ed25519"
        fields = string(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
        signers = {kind: key.sign}
    elif isinstance(key, rsa.RSAPrivateKey):
        kind = "ssh-rsa"
        private = key.private_numbers()
        e, n = private.public_numbers.e, private.public_numbers.n
        check_rsa(n, e, private.d, private.p, private.q, private.iqmp, source)
        fields = mpint(e) + mpint(n)
        signers = {name: partial(_sign_rsa, key, hash_) for name, hash_ in _RSA_HASHES.items()}
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in CURVES:
        curve = CURVES[key.curve.name]
        kind = f"ecdsa-sha2-{curve}"
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        fields = string(curve.encode()) + string(point)
        signers = {kind: partial(_sign_ecdsa, key, curve)}
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        raise source.make_unsupported_error(f"ECDSA {key.curve.name}")
    elif isinstance(key, dsa.DSAPrivateKey):
        raise source.make_unsupported_error("DSA")
    else:
        raise source.make_unsupported_error(type(key).__name__.removesuffix("PrivateKey"))
    return PrivateKey(PublicKey(kind, string(kind.encode()) + fields, comment), signers)


def check_rsa(n: int, e: int, d: int, p: int, q: int, iqmp: int, source: Source) -> None:
    """Check all that makes the numbers an RSA key, except that `p` and `q` are prime."""
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise source.make_error(
            f"is an RSA key of {n.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} can be used"
        )
    fits = min(p, q) > 2 and n % 2 and p * q == n and 2 < e < 1 << 64 and 0 < d < n
    if not fits or e * d % (p - 1) != 1 or e * d % (q - 1) != 1 or iqmp * q % p != 1:
        raise source.make_error("is damaged: its numbers do not make an RSA key")


def _sign_rsa(key: rsa.RSAPrivateKey, hash_name: str, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15

    algorithm: Any = getattr(hashes, hash_name)()
    return key.sign(data, PKCS1v15(), algorithm)


def _sign_ecdsa(key: ec.EllipticCurvePrivateKey, curve: str, data: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    # RFC 5656 section 6.2.1
    sized = {"nistp256": hashes.SHA256(), "nistp384": hashes.SHA384(), "nistp521": hashes.SHA512()}
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(sized[curve])))
    return mpint(r) + mpint(s)
