"""Private keys: reading the files, signing with them, and choosing the signature algorithm.

For `_protocol` (authentication, agent) and the tests.  It never waits for a
peer, never talks to an agent, and never lets a secret into a repr or an error.
``cryptography`` is imported within functions only: ``import hussh`` must not
pay for it.

OpenSSH's own container is taken apart here and not by ``cryptography``, for
three reasons: the public key stands outside the encrypted part, so a FIDO or
DSA key is recognised before anyone is asked for a passphrase; a check value
tells a wrong passphrase from a damaged file; and the comment and all of
``ssh-keygen -Z``'s AES and ChaCha ciphers come with it.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import KeyFileError, KeyUnreadable, PassphraseRequired, WrongPassphrase
from .wire import Reader, mpint, string

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

__all__ = [
    "PrivateKey",
    "PublicKey",
    "default_key_paths",
    "load_private_key",
    "parse_private_key",
    "read_private_key",
    "signature_algorithm",
    "signature_algorithms",
]

MAX_FILE = 1 << 20
# A round costs about 8 ms; ssh-keygen's default is 16 or 24.  More than this
# is a file made to hang its reader.
MAX_BCRYPT_ROUNDS = 10_000
MIN_RSA_BITS = 1024  # OpenSSH's own floor
MAX_RSA_BITS = 16384  # OpenSSL's own ceiling

_CURVES = {"secp256r1": "nistp256", "secp384r1": "nistp384", "secp521r1": "nistp521"}
_RSA_HASHES = {"rsa-sha2-512": "SHA512", "rsa-sha2-256": "SHA256", "ssh-rsa": "SHA1"}

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

_CERTIFICATE = "-cert-v01@openssh.com"
_MAGIC = b"openssh-key-v1\0"
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{0,32})PRIVATE KEY-----")
_BAD_CIPHER = re.compile("unknown (cipher|key encryption)|unsupported (cipher|encryption)", re.I)
_PUBLIC = re.compile(
    rb"\s*(ssh-|ecdsa-sha2-|sk-|-----BEGIN ([A-Z0-9 ]{0,32}PUBLIC KEY|CERTIFICATE)-----"
    rb"|---- BEGIN SSH2 PUBLIC KEY)"
)


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

    @property
    def fingerprint(self) -> str:
        """``SHA256:…``, as ``ssh-keygen -l`` prints it."""
        return "SHA256:" + b64encode(sha256(self.blob).digest()).rstrip(b"=").decode()


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
        """The SSH signature blob: the algorithm's name, then the signature, two strings.

        RFC 4253 section 6.6; RFC 8332 (RSA), RFC 5656 (ECDSA), RFC 8709 (Ed25519).

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
        return string(algorithm.encode()) + string(signature)

    @property
    def is_quick(self) -> bool:
        """Whether a signature takes less time than handing the work to a thread (0.1 ms)."""
        return self.public.algorithm in ("ssh-ed25519", "ecdsa-sha2-nistp256")

    def __repr__(self) -> str:
        return f"<PrivateKey {self.public.algorithm} {self.public.fingerprint}>"


def load_private_key(
    path: str | os.PathLike[str], passphrase: str | bytes | None = None
) -> PrivateKey:
    """Read a private key file; ``~`` expands.

    It may take a second: deriving the key of an encrypted file is slow on
    purpose.  Call it off the event loop.

    Args:
        path: an OpenSSH, PEM (PKCS#1, SEC 1) or PKCS#8 file.
        passphrase: ignored where the key is not encrypted; "" is as None.

    Raises:
        KeyUnreadable: missing, not permitted, not a file, or no key of a kind that we know.
        PassphraseRequired: encrypted, and no passphrase given.
        WrongPassphrase: encrypted, and the passphrase does not fit.
    """
    return parse_private_key(read_private_key(path), passphrase, os.fsdecode(path))


def read_private_key(path: str | os.PathLike[str]) -> bytes:
    """The content of a key file, for `parse_private_key`.  Raises KeyUnreadable."""
    name = os.fsdecode(path)
    if "PRIVATE KEY-" in name or "\n" in name:
        # Someone passed the key instead of its path: do not print it.
        raise KeyUnreadable("private_key must be the path of a key file, not the key itself")
    return _read_file(name)


def parse_private_key(data: bytes, passphrase: str | bytes | None, name: str) -> PrivateKey:
    """The key in `data`, the contents of a key file; `name` stands in the errors.

    Raises:
        KeyUnreadable, PassphraseRequired, WrongPassphrase: see `load_private_key`.
    """
    source = _Source(name, _secret(passphrase, name))
    try:
        if len(data) > MAX_FILE:
            raise source.unreadable("is larger than 1 MiB, too large for a key")
        return _parse(data, source)
    except KeyFileError:
        raise
    except Exception as error:
        # Whatever else a parser finds wrong with hostile bytes is the file's fault.
        raise source.unreadable(f"is damaged ({type(error).__name__})") from error


def signature_algorithms(
    key_algorithm: str, server_sig_algs: Sequence[str] | None, *, legacy: bool = False
) -> tuple[str, ...]:
    """What a key may sign with, best first; empty when the server takes none of it.

    Only RSA has a choice (RFC 8332 section 3.3).  For the other kinds the
    server's list decides nothing: servers as common as OpenSSH 7.4 list the
    RSA algorithms alone and accept Ed25519 and ECDSA all the same.

    Args:
        key_algorithm: of the public key or certificate.
        server_sig_algs: the server's ``server-sig-algs`` (RFC 8308); None when it sent none.
        legacy: allow ``ssh-rsa``, which is RSA with SHA-1.  A server that sent no list is
            then taken for one too old to know better, and ``ssh-rsa`` comes first.
    """
    kind = key_algorithm.removesuffix(_CERTIFICATE)
    if kind == "ssh-dss":
        return ()
    if kind != "ssh-rsa":
        return (key_algorithm,)
    suffix = key_algorithm[len(kind) :]
    names = ["rsa-sha2-512", "rsa-sha2-256"]
    if legacy:
        names.insert(0 if server_sig_algs is None else 2, "ssh-rsa")
    # OpenSSH lists the plain names for certificates as well.
    return tuple(
        name + suffix
        for name in names
        if server_sig_algs is None or name in server_sig_algs or name + suffix in server_sig_algs
    )


def signature_algorithm(
    key_algorithm: str, server_sig_algs: Sequence[str] | None, *, legacy: bool = False
) -> str | None:
    """The first of `signature_algorithms`, or None."""
    return next(iter(signature_algorithms(key_algorithm, server_sig_algs, legacy=legacy)), None)


def default_key_paths(home: str | os.PathLike[str]) -> list[Path]:
    """Where keys are looked for when none is named, in order; they need not exist."""
    return [Path(home, ".ssh", name) for name in ("id_rsa", "id_ed25519", "id_ecdsa")]


# --- Files -------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class _Source:
    """What is being read, for the error texts, and the passphrase for it."""

    name: str
    passphrase: bytes | None

    def unreadable(self, why: str) -> KeyUnreadable:
        return KeyUnreadable(f"private key {self.name} {why}")

    def need_passphrase(self) -> bytes:
        if self.passphrase is None:
            raise PassphraseRequired(
                f"private key {self.name} is encrypted and no passphrase was given"
            )
        return self.passphrase

    def wrong_passphrase(self) -> WrongPassphrase:
        return WrongPassphrase(f"the passphrase does not fit the private key {self.name}")

    def unsupported(self, kind: str) -> KeyUnreadable:
        if kind.startswith("sk-"):
            return self.unreadable(
                f"is a handle to a FIDO security key ({kind}): use it through ssh-agent"
            )
        if kind in ("DSA", "ssh-dss"):
            return self.unreadable("is a DSA key; SSH servers no longer accept those")
        return self.unreadable(f"is of the kind {kind!r}; only Ed25519, ECDSA and RSA can be used")


def _secret(passphrase: str | bytes | None, name: str) -> bytes | None:
    if not passphrase:
        return None
    if isinstance(passphrase, bytes):
        return passphrase
    try:
        return passphrase.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        pass  # raised below, outside: the codec's error carries the text
    raise WrongPassphrase(f"the passphrase for the private key {name} is not valid text")


def _read_file(name: str) -> bytes:
    source = _Source(name, None)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        # O_NONBLOCK: a named pipe without a writer must be an error, not a hang.
        fd = os.open(os.path.expanduser(name), flags)
        try:
            mode = os.fstat(fd).st_mode
            if stat.S_ISDIR(mode):
                raise source.unreadable("is a directory")
            if not stat.S_ISREG(mode):
                raise source.unreadable("is not a regular file")
            with open(fd, "rb", closefd=False) as file:
                return file.read(MAX_FILE + 1)
        finally:
            os.close(fd)
    except OSError as error:
        why = _OS_ERRORS.get(error.errno, f"cannot be opened: {error.strerror}")
        raise source.unreadable(why) from error
    except ValueError as error:
        raise KeyUnreadable(f"private key {name!r} is not a possible path") from error


_OS_ERRORS: dict[int | None, str] = {
    errno.ENOENT: "does not exist",
    errno.ENOTDIR: "does not exist",
    errno.EACCES: "may not be read: permission denied",
    errno.EPERM: "may not be read: permission denied",
}


def _parse(data: bytes, source: _Source) -> PrivateKey:
    begin = _BEGIN.search(data)
    if begin is None:
        if data.startswith(b"PuTTY-User-Key-File-"):
            raise source.unreadable(
                "is in PuTTY's format; convert it with: puttygen KEY.ppk -O private-openssh -o KEY"
            )
        if _PUBLIC.match(data):
            raise source.unreadable("holds a public key or certificate; name the private key")
        raise source.unreadable("holds no private key in OpenSSH, PEM or PKCS#8 format")
    label = begin[1].decode().strip()
    marker = begin[0].replace(b"BEGIN", b"END", 1)
    end = data.find(marker, begin.end())
    if end < 0:
        raise source.unreadable("is damaged: the file ends within the key")
    if label == "OPENSSH":
        return _parse_openssh(_unarmour(data[begin.end() : end]), source)
    if label not in ("", "ENCRYPTED", "RSA", "EC"):
        raise source.unsupported(label)
    return _parse_pem(data[begin.start() : end] + marker + b"\n", label, source)


def _unarmour(text: bytes) -> bytes:
    return b64decode(b"".join(text.split()), validate=True)


# --- PEM and PKCS#8 ----------------------------------------------------------


def _parse_pem(block: bytes, label: str, source: _Source) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    encrypted = label == "ENCRYPTED" or b"Proc-Type: 4,ENCRYPTED" in block
    try:
        # Their validation is a primality test (0.3 s for 4096 bits); _check_rsa does the rest.
        key = load_pem_private_key(
            block,
            source.need_passphrase() if encrypted else None,
            unsafe_skip_rsa_key_validation=True,
        )
    except UnsupportedAlgorithm as error:
        raise source.unreadable("uses an algorithm that is not supported") from error
    except (TypeError, ValueError) as error:
        # Only their text tells an unknown cipher from a wrong passphrase.
        if encrypted and not _BAD_CIPHER.search(str(error)) and _is_intact(block, label):
            raise source.wrong_passphrase() from error
        raise source.unreadable("cannot be decoded: damaged, or not supported") from error
    return _adopt(key, "", source)


def _is_intact(block: bytes, label: str) -> bool:
    """Whether what surrounds the encrypted part is well-formed, so that the passphrase is to blame.

    Neither format has a check value: decryption with a wrong key and of damaged
    bytes look the same from within.
    """
    lines = [line for line in block.splitlines()[1:-1] if b":" not in line]
    try:
        body = _unarmour(b"".join(lines))
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


# --- OpenSSH's container (openssh PROTOCOL.key) ------------------------------


def _parse_openssh(body: bytes, source: _Source) -> PrivateKey:
    if not body.startswith(_MAGIC):
        raise source.unreadable("is damaged: wrong magic")
    reader = Reader(body, len(_MAGIC))
    cipher, kdf, options = reader.text(), reader.text(), reader.string()
    if reader.uint32() != 1:
        raise source.unreadable("holds more than one key")
    blob, section, tag = reader.string(), reader.string(), reader.rest
    kind = Reader(blob).text()
    if kind != "ssh-ed25519" and kind != "ssh-rsa" and kind not in _ecdsa_kinds():
        raise source.unsupported(kind)
    if cipher != "none":
        section = _decrypt(cipher, kdf, options, section, tag, source)
    reader = Reader(section)
    if reader.take(4) != reader.take(4):
        if cipher != "none":
            raise source.wrong_passphrase()
        raise source.unreadable("is damaged: its check values differ")
    if reader.text() != kind:
        raise source.unreadable("is damaged: its two halves do not match")
    key = _read_numbers(kind, reader, source)
    comment = reader.text()
    if reader.rest != bytes(range(1, len(reader.rest) + 1)):
        raise source.unreadable("is damaged: wrong padding")
    adopted = _adopt(key, comment, source)
    if adopted.public.blob != blob:
        raise source.unreadable("is damaged: its two halves do not match")
    return adopted


def _ecdsa_kinds() -> list[str]:
    return [f"ecdsa-sha2-{curve}" for curve in _CURVES.values()]


def _decrypt(
    cipher: str, kdf: str, options: bytes, section: bytes, tag: bytes, source: _Source
) -> bytes:
    if cipher not in _CIPHERS or kdf != "bcrypt":
        raise source.unreadable(f"is encrypted with {cipher!r} and {kdf!r}: not supported")
    key_size, iv_size, mode = _CIPHERS[cipher]
    reader = Reader(options)
    salt, rounds = reader.string(), reader.uint32()
    if not salt or not 1 <= rounds <= MAX_BCRYPT_ROUNDS:
        raise source.unreadable(
            f"asks for {rounds} bcrypt rounds; the limit is {MAX_BCRYPT_ROUNDS}"
        )
    passphrase = source.need_passphrase()
    try:
        import bcrypt
    except ImportError as error:
        raise source.unreadable("is encrypted, and the package bcrypt is not installed") from error
    # ignore_few_rounds only silences a warning that is meant for makers of keys.
    seed = bcrypt.kdf(passphrase, salt, key_size + iv_size, rounds, ignore_few_rounds=True)
    plain = _decipher(mode, seed[:key_size], seed[key_size:], section, tag)
    if plain is None:
        raise source.wrong_passphrase()
    return plain


def _decipher(mode: str, key: bytes, iv: bytes, section: bytes, tag: bytes) -> bytes | None:
    """The plain text, or None where an authenticated cipher says that the key is wrong."""
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


def _read_numbers(kind: str, reader: Reader, source: _Source) -> object:
    """The key's own fields in the decrypted section, as a key of ``cryptography``."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if kind == "ssh-ed25519":
        reader.string()
        return ed25519.Ed25519PrivateKey.from_private_bytes(reader.string()[:32])
    if kind == "ssh-rsa":
        n, e, d, iqmp, p, q = (reader.mpint() for _ in range(6))
        _check_rsa(n, e, d, p, q, iqmp, source)
        public = rsa.RSAPublicNumbers(e, n)
        dmp1, dmq1 = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q)
        numbers = rsa.RSAPrivateNumbers(p, q, d, dmp1, dmq1, iqmp, public)
        return numbers.private_key(unsafe_skip_rsa_key_validation=True)
    curves = {"nistp256": ec.SECP256R1(), "nistp384": ec.SECP384R1(), "nistp521": ec.SECP521R1()}
    curve = reader.text()
    reader.string()
    return ec.derive_private_key(reader.mpint(), curves[curve])


# --- Keys of `cryptography` --------------------------------------------------


def _adopt(key: object, comment: str, source: _Source) -> PrivateKey:
    """Our key around theirs, whatever format it came from."""
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
        _check_rsa(n, e, private.d, private.p, private.q, private.iqmp, source)
        fields = mpint(e) + mpint(n)
        signers = {name: partial(_sign_rsa, key, hash_) for name, hash_ in _RSA_HASHES.items()}
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        curve = _CURVES[key.curve.name]
        kind = f"ecdsa-sha2-{curve}"
        point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        fields = string(curve.encode()) + string(point)
        signers = {kind: partial(_sign_ecdsa, key, curve)}
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        raise source.unsupported(f"ECDSA {key.curve.name}")
    elif isinstance(key, dsa.DSAPrivateKey):
        raise source.unsupported("DSA")
    else:
        raise source.unsupported(type(key).__name__.removesuffix("PrivateKey"))
    return PrivateKey(PublicKey(kind, string(kind.encode()) + fields, comment), signers)


def _check_rsa(n: int, e: int, d: int, p: int, q: int, iqmp: int, source: _Source) -> None:
    """All that makes the numbers an RSA key, except that `p` and `q` are prime."""
    if not MIN_RSA_BITS <= n.bit_length() <= MAX_RSA_BITS:
        raise source.unreadable(
            f"is an RSA key of {n.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} can be used"
        )
    fits = min(p, q) > 2 and n % 2 and p * q == n and 2 < e < 1 << 64 and 0 < d < n
    if not fits or e * d % (p - 1) != 1 or e * d % (q - 1) != 1 or iqmp * q % p != 1:
        raise source.unreadable("is damaged: its numbers do not make an RSA key")


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
