"""Parses private keys in OpenSSH's own container (openssh PROTOCOL.key).

`key_files.py` uses it. This module takes the container apart, and not ``cryptography``, for three
reasons. The public key stands outside the encrypted part, so a FIDO or DSA key is recognised before
anybody is asked for a passphrase. A check value tells a wrong passphrase from a damaged file. The
comment, and all AES and ChaCha ciphers of ``ssh-keygen -Z``, come with it.

It reads bytes only. It imports ``cryptography`` and ``bcrypt`` within functions, because ``import
hussh`` must not pay for them.
"""

from __future__ import annotations

from ..wire import Reader
from .key_source import Source
from .private_key import CURVES, PrivateKey, adopt, check_rsa
from .public_key import PublicKey

__all__ = ["MAX_BCRYPT_ROUNDS", "parse_openssh"]

# A round costs about 8 ms; ssh-keygen's default is 16 or 24.  More than this
# is a file made to hang its reader.
MAX_BCRYPT_ROUNDS = 10_000
# Name: key bytes, IV bytes, mode (openssh PROTOCOL.key; ssh-keygen -Z).
_CIPHERS = {
    "aes128-ctr": (16, 16, "CTR"),
    "aes192-ctr": (24, 16, "CTR"),
    "aes256-ctr": (32, 16, "CTR"),
    "aes128-cbc": (16, 16, "CBC"),
    "aes192-cbc": (24, 16, "CBC"),
    "aes256-cbc": (32, 16, "CBC"),
    "aes128-gcm@openssh.com": (16, 12, "GCM"),
    "aes256-gcm@openssh.com": (32, 12, "GCM"),
    "chacha20-poly1305@openssh.com": (64, 0, "ChaCha"),
}
_MAGIC = b"openssh-key-v1\0"


def parse_openssh(body: bytes, source: Source) -> PrivateKey:
    if not body.startswith(_MAGIC):
        raise source.make_error("is damaged: wrong magic")
    reader = Reader(body, len(_MAGIC))
    cipher, kdf, options = reader.text(), reader.text(), reader.string()
    if reader.uint32() != 1:
        raise source.make_error("holds more than one key")
    blob, section, tag = reader.string(), reader.string(), reader.rest
    kind = Reader(blob).text()
    if kind != "ssh-ed25519" and kind != "ssh-rsa" and kind not in _list_ecdsa_kinds():
        raise source.make_unsupported_error(kind)
    if cipher != "none":
        section = _decrypt(cipher, kdf, options, section, tag, source, PublicKey(kind, blob))
    reader = Reader(section)
    if reader.take(4) != reader.take(4):
        if cipher != "none":
            raise source.make_passphrase_error()
        raise source.make_error("is damaged: its check values differ")
    if reader.text() != kind:
        raise source.make_error("is damaged: its two halves do not match")
    key = _read_numbers(kind, reader, source)
    comment = reader.text()
    if reader.rest != bytes(range(1, len(reader.rest) + 1)):
        raise source.make_error("is damaged: wrong padding")
    adopted = adopt(key, comment, source)
    if adopted.public.blob != blob:
        raise source.make_error("is damaged: its two halves do not match")
    return adopted


def _list_ecdsa_kinds() -> list[str]:
    return [f"ecdsa-sha2-{curve}" for curve in CURVES.values()]


def _decrypt(
    cipher: str,
    kdf: str,
    options: bytes,
    section: bytes,
    tag: bytes,
    source: Source,
    public: PublicKey,
) -> bytes:
    if cipher not in _CIPHERS or kdf != "bcrypt":
        raise source.make_error(f"is encrypted with {cipher!r} and {kdf!r}: not supported")
    key_size, iv_size, mode = _CIPHERS[cipher]
    reader = Reader(options)
    salt, rounds = reader.string(), reader.uint32()
    if not salt or not 1 <= rounds <= MAX_BCRYPT_ROUNDS:
        raise source.make_error(
            f"asks for {rounds} bcrypt rounds; the limit is {MAX_BCRYPT_ROUNDS}"
        )
    passphrase = source.need_passphrase(public)
    try:
        import bcrypt
    except ImportError as error:
        raise source.make_error("is encrypted, and the package bcrypt is not installed") from error
    # ignore_few_rounds only silences a warning that is meant for makers of keys.
    seed = bcrypt.kdf(passphrase, salt, key_size + iv_size, rounds, ignore_few_rounds=True)
    plain = _decipher(mode, seed[:key_size], seed[key_size:], section, tag)
    if plain is None:
        raise source.make_passphrase_error()
    return plain


def _decipher(mode: str, key: bytes, iv: bytes, section: bytes, tag: bytes) -> bytes | None:
    """Return the plain text, or None if an authenticated cipher says that the key is wrong."""
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.poly1305 import Poly1305

    if mode == "GCM":
        try:
            return AESGCM(key).decrypt(iv, section + tag, None)
        except InvalidTag:
            return None
    if mode == "ChaCha":
        # The first half of the key; the second would encrypt a packet length.  Block 0 of the
        # stream keys the authenticator, the text starts at block 1 (PROTOCOL.chacha20poly1305).
        stream = Cipher(algorithms.ChaCha20(key[:32], bytes(16)), mode=None).decryptor()
        once = stream.update(bytes(64))[:32]
        try:
            Poly1305.verify_tag(once, section, tag)
        except InvalidSignature:
            return None
        return stream.update(section)
    aes = Cipher(algorithms.AES(key), modes.CTR(iv) if mode == "CTR" else modes.CBC(iv)).decryptor()
    return aes.update(section) + aes.finalize()


def _read_numbers(kind: str, reader: Reader, source: Source) -> object:
    """Read the key's own fields in the decrypted section, as a key of ``cryptography``."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "ssh-ed25519":
        reader.string()
        return ed25519.Ed25519PrivateKey.from_private_bytes(reader.string()[:32])
    if kind == "ssh-rsa":
        n, e, d, iqmp, p, q = (reader.mpint() for _ in range(6))
        check_rsa(n, e, d, p, q, iqmp, source)
        public = rsa.RSAPublicNumbers(e, n)
        dmp1, dmq1 = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q)
        numbers = rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, public)
        return numbers.private_key(unsafe_skip_rsa_key_validation=True)
    curves = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1()}
    curve = reader.text()
    reader.string()
    return ec.derive_private_key(reader.mpint(), curves[curve])
