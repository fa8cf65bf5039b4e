"""Which algorithms a hop offers (RFC 4253 section 7.1); pure data.

`connection_options` takes the defaults from it, `_api/check_options.py` checks the names of a user,
`_protocol/handshake.py` offers them. Nothing here knows what the compiled libssh2 supports.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

__all__ = ["CIPHERS", "HOST_KEYS", "HYBRID", "KEY_EXCHANGE", "MACS", "REQUIRED_RSA_SIZE",
           "Algorithms", "HopAlgorithms", "is_post_quantum", "order_ciphers"]  # fmt: skip

#: Bits that an RSA host key must have, unless the caller says otherwise.
REQUIRED_RSA_SIZE = 2048

#: Withstands quantum computers, too; it is offered where a library computes ML-KEM.
HYBRID = "mlkem768x25519-sha256"
#: Best first: post-quantum; elliptic curves, which are quick, and which nearly every server of
#: the last ten years has; finite fields, for servers that were hardened without curves.
KEY_EXCHANGE = (
    HYBRID,
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group-exchange-sha256",
)
HOST_KEYS = (
    # Certificates are offered only where the known hosts name an authority for the host.
    "ssh-ed25519-cert-v01@openssh.com",
    "ecdsa-sha2-nistp256-cert-v01@openssh.com",
    "ecdsa-sha2-nistp384-cert-v01@openssh.com",
    "ecdsa-sha2-nistp521-cert-v01@openssh.com",
    "rsa-sha2-512-cert-v01@openssh.com",
    "rsa-sha2-256-cert-v01@openssh.com",
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
)
#: Best first where the processor has no instructions for AES.
CIPHERS = (
    "chacha20-poly1305@openssh.com",
    "aes256-gcm@openssh.com",
    "aes128-gcm@openssh.com",
    "aes256-ctr",
    "aes192-ctr",
    "aes128-ctr",
)


def order_ciphers(*, fast_aes: bool) -> tuple[str, ...]:
    """Return CIPHERS in the order for this processor.

    Where it has instructions for AES-GCM, that cipher costs both ends least: sshd's
    ChaCha20-Poly1305 takes up to three times as long.
    """
    gcm = tuple(name for name in CIPHERS if "-gcm@" in name)
    return (*gcm, *(name for name in CIPHERS if name not in gcm)) if fast_aes else CIPHERS


#: For the CTR ciphers; the others authenticate by themselves.
MACS = (
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
)


@dataclass(frozen=True)
class Algorithms:
    """Names to offer, best first (RFC 4253 section 7.1)."""

    key_exchange: tuple[str, ...] = KEY_EXCHANGE
    host_keys: tuple[str, ...] = HOST_KEYS
    ciphers: tuple[str, ...] = CIPHERS
    macs: tuple[str, ...] = MACS
    compression: bool = False

    @cached_property
    def lists(self) -> tuple[bytes, bytes, bytes]:
        """Key exchange, ciphers and MACs as one name-list each (RFC 4251 section 5)."""
        # Cached, because a batch offers them to every host.
        offered = self.key_exchange, self.ciphers, self.macs
        key_exchange, ciphers, macs = (",".join(names).encode("ascii") for names in offered)
        return key_exchange, ciphers, macs

    @cached_property
    def without_mlkem(self) -> Algorithms:
        """Where nothing computes ML-KEM: the same without it, and maybe without key exchanges."""
        names = tuple(name for name in self.key_exchange if name != HYBRID)
        return replace(self, key_exchange=names)


#: What the names of key exchanges have in common that also withstand quantum computers.
_POST_QUANTUM = ("mlkem", "sntrup", "kyber")


def is_post_quantum(key_exchange: str) -> bool:
    """Whether a recording of the session is safe from quantum computers to come."""
    return any(name in key_exchange for name in _POST_QUANTUM)


@dataclass(frozen=True)
class HopAlgorithms:
    """What one hop and its server agreed on; the names are those of their standards.

    Attributes:
        hop: ``user@host:port``.
        key_exchange, host_key: of the last key exchange.
        cipher: the same both ways.
        mac: "" where the cipher authenticates by itself.
        compression: "" where there is none.
    """

    hop: str
    key_exchange: str
    host_key: str
    cipher: str
    mac: str = ""
    compression: str = ""

    @property
    def post_quantum(self) -> bool:
        """Whether a recording of the session is safe from quantum computers to come."""
        return is_post_quantum(self.key_exchange)
