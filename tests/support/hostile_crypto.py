"""Packet protection, key derivation, host keys and signatures of the hostile server.

Imported by the other `hostile*` modules and by tests that want a host key.
A sealing cipher protects any body with any length field, so that malformed packets
still carry a valid tag; an opening one checks what the client sent and raises
`PeerError`.  Nothing here touches a socket.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from .hostile_wire import Fields, PeerError, mpint, string, u32

Read = Callable[[int], bytes]

MAX_PACKET = 1 << 20


def _length(raw: bytes) -> int:
    value = int.from_bytes(raw, "big")
    if not 2 <= value <= MAX_PACKET:
        raise PeerError(f"client packet has length {value}")
    return value


class PacketCipher(Protocol):
    """One direction of one key; a body is padding length, payload, padding."""

    block: int
    length_in_blocks: bool  # the 4 length bytes count for the alignment

    def seal(self, seq: int, length: int, body: bytes) -> tuple[bytes, bytes]:
        """The packet and its tag, with a length field that may lie."""

    def open(self, seq: int, read: Read) -> bytes:
        """The body of the next packet, fetched through `read`."""


class Plain:
    block = 8
    length_in_blocks = True

    def seal(self, seq: int, length: int, body: bytes) -> tuple[bytes, bytes]:
        return u32(length) + body, b""

    def open(self, seq: int, read: Read) -> bytes:
        return read(_length(read(4)))


class ChaChaPoly:
    """chacha20-poly1305@openssh.com: two keys, the sequence number as nonce."""

    block = 8
    length_in_blocks = False

    def __init__(self, key: bytes) -> None:
        self._main, self._header = key[:32], key[32:64]

    @staticmethod
    def _apply(key: bytes, counter: int, seq: int, data: bytes) -> bytes:
        nonce = counter.to_bytes(8, "little") + seq.to_bytes(8, "big")
        return Cipher(algorithms.ChaCha20(key, nonce), None).encryptor().update(data)

    def _tag(self, seq: int, packet: bytes) -> bytes:
        return Poly1305.generate_tag(self._apply(self._main, 0, seq, bytes(32)), packet)

    def seal(self, seq: int, length: int, body: bytes) -> tuple[bytes, bytes]:
        header = self._apply(self._header, 0, seq, u32(length))
        packet = header + self._apply(self._main, 1, seq, body)
        return packet, self._tag(seq, packet)

    def open(self, seq: int, read: Read) -> bytes:
        header = read(4)
        body = read(_length(self._apply(self._header, 0, seq, header)))
        if not hmac.compare_digest(read(16), self._tag(seq, header + body)):
            raise PeerError("client packet has a wrong Poly1305 tag")
        return self._apply(self._main, 1, seq, body)


class Gcm:
    """aes*-gcm@openssh.com (RFC 5647 with the OpenSSH negotiation)."""

    block = 16
    length_in_blocks = False

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed, self._count = iv[:4], int.from_bytes(iv[4:12], "big")

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce

    def seal(self, seq: int, length: int, body: bytes) -> tuple[bytes, bytes]:
        sealed = self._aead.encrypt(self._nonce(), body, u32(length))
        return u32(length) + sealed[:-16], sealed[-16:]

    def open(self, seq: int, read: Read) -> bytes:
        header = read(4)
        try:
            return self._aead.decrypt(self._nonce(), read(_length(header) + 16), header)
        except InvalidTag:
            raise PeerError("client packet has a wrong GCM tag") from None


class CtrHmac:
    """aes*-ctr with hmac-sha2-256, MAC over the plaintext or (etm) the ciphertext."""

    block = 16

    def __init__(self, key: bytes, iv: bytes, mac_key: bytes, *, etm: bool) -> None:
        self._stream = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()  # its own inverse
        self._mac_key, self._etm = mac_key, etm
        self.length_in_blocks = not etm

    def _mac(self, seq: int, data: bytes) -> bytes:
        return hmac.digest(self._mac_key, u32(seq) + data, "sha256")

    def seal(self, seq: int, length: int, body: bytes) -> tuple[bytes, bytes]:
        if self._etm:
            packet = u32(length) + self._stream.update(body)
            return packet, self._mac(seq, packet)
        plain = u32(length) + body
        return self._stream.update(plain), self._mac(seq, plain)

    def skip(self, count: int) -> None:
        """Go on in the key stream, by as many bytes as the other side took too many."""
        self._stream.update(bytes(count))

    def open(self, seq: int, read: Read) -> bytes:
        if self._etm:
            header = read(4)
            sealed = read(_length(header))
            expected, body = self._mac(seq, header + sealed), self._stream.update(sealed)
        else:
            header = self._stream.update(read(4))
            body = self._stream.update(read(_length(header)))
            expected = self._mac(seq, header + body)
        if not hmac.compare_digest(read(32), expected):
            raise PeerError("client packet has a wrong MAC")
        return body


_KEY_SIZES = {  # cipher: key bytes, IV bytes
    "chacha20-poly1305@openssh.com": (64, 0),
    "aes128-gcm@openssh.com": (16, 12),
    "aes256-gcm@openssh.com": (32, 12),
    "aes128-ctr": (16, 16),
    "aes256-ctr": (32, 16),
}
CIPHERS = tuple(_KEY_SIZES)
MACS = ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-256")


def is_aead(cipher: str) -> bool:
    return not cipher.endswith("-ctr")


@dataclass
class Secrets:
    """What one key exchange yields; derives keys as RFC 4253 section 7.2 says."""

    shared: bytes  # K as it is hashed: an mpint, or for hybrid exchanges a string
    exchange_hash: bytes
    session_id: bytes

    def derive(self, letter: bytes, size: int) -> bytes:
        head = self.shared + self.exchange_hash
        out = hashlib.sha256(head + letter + self.session_id).digest()
        while len(out) < size:
            out += hashlib.sha256(head + out).digest()
        return out[:size]

    def cipher(self, cipher: str, mac: str, *, to_client: bool) -> PacketCipher:
        key_size, iv_size = _KEY_SIZES[cipher]
        iv_letter, key_letter, mac_letter = (b"B", b"D", b"F") if to_client else (b"A", b"C", b"E")
        key, iv = self.derive(key_letter, key_size), self.derive(iv_letter, iv_size)
        if cipher.startswith("chacha20"):
            return ChaChaPoly(key)
        if is_aead(cipher):
            return Gcm(key, iv)
        return CtrHmac(key, iv, self.derive(mac_letter, 32), etm="-etm@" in mac)


_Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class HostKey:
    """A host key that lives in memory; `kind` is ed25519, ecdsa or rsa (of so many `bits`)."""

    def __init__(self, kind: str = "ed25519", bits: int = 2048) -> None:
        self.kind = kind
        self._key: _Private
        if kind == "ed25519":
            self._key = ed25519.Ed25519PrivateKey.generate()
            self.algorithms: tuple[str, ...] = ("ssh-ed25519",)
        elif kind == "ecdsa":
            self._key = ec.generate_private_key(ec.SECP256R1())
            self.algorithms = ("ecdsa-sha2-nistp256",)
        elif kind == "rsa":
            self._key = rsa.generate_private_key(65537, bits)
            self.algorithms = ("rsa-sha2-512", "rsa-sha2-256")
        else:
            raise ValueError(f"no such kind of host key: {kind}")
        line = self._key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        self.public_line = line.decode()
        self.blob = base64.b64decode(line.split()[1])

    def sign(self, algorithm: str, data: bytes) -> bytes:
        """The signature blob: algorithm name and signature."""
        if isinstance(self._key, ed25519.Ed25519PrivateKey):
            raw = self._key.sign(data)
        elif isinstance(self._key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self._key.sign(data, ec.ECDSA(hashes.SHA256())))
            raw = mpint(r) + mpint(s)
        else:
            digest = hashes.SHA512() if algorithm == "rsa-sha2-512" else hashes.SHA256()
            raw = self._key.sign(data, padding.PKCS1v15(), digest)
        return string(algorithm) + string(raw)

    def known_hosts_line(self, host: str, port: int = 22) -> str:
        return f"{host if port == 22 else f'[{host}]:{port}'} {self.public_line}\n"

    @property
    def fingerprint(self) -> str:
        digest = base64.b64encode(hashlib.sha256(self.blob).digest()).decode()
        return "SHA256:" + digest.rstrip("=")


@functools.cache
def host_key(kind: str = "ed25519") -> HostKey:
    """One key of each kind per test run: making an RSA key is slow."""
    return HostKey(kind)


_SHA: dict[str, type[hashes.HashAlgorithm]] = {
    "ssh-rsa": hashes.SHA1,
    "rsa-sha2-256": hashes.SHA256,
    "rsa-sha2-512": hashes.SHA512,
    "ecdsa-sha2-nistp256": hashes.SHA256,
    "ecdsa-sha2-nistp384": hashes.SHA384,
    "ecdsa-sha2-nistp521": hashes.SHA512,
}


def verify(blob: bytes, signature: bytes, data: bytes) -> str | None:
    """Why the client's signature is not good, or None if it is; certificates count as keys."""
    fields = Fields(signature)
    algorithm, raw = fields.text(), fields.string()
    line = string_name(blob) + b" " + base64.b64encode(blob)
    identity = serialization.load_ssh_public_identity(line)
    key = identity.public_key() if isinstance(identity, serialization.SSHCertificate) else identity
    try:
        if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == "ssh-ed25519":
            key.verify(raw, data)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm.startswith("ecdsa-"):
            pair = Fields(raw)
            r, s = (int.from_bytes(pair.string(), "big") for _ in range(2))
            key.verify(encode_dss_signature(r, s), data, ec.ECDSA(_SHA[algorithm]()))
        elif isinstance(key, rsa.RSAPublicKey) and "rsa" in algorithm:
            key.verify(raw, data, padding.PKCS1v15(), _SHA[algorithm]())
        else:
            return f"signature algorithm {algorithm} does not fit the key"
    except InvalidSignature:
        return f"wrong {algorithm} signature"
    return None


def string_name(blob: bytes) -> bytes:
    """The type name at the start of a public key blob."""
    return Fields(blob).string()
