"""Which algorithms a hop offers (RFC 4253 section 7.1); pure data.

`connection_options` takes the defaults from it, `_api/check_options.py` checks the names of a user,
`_protocol/handshake.py` offers them. Nothing here knows what the compiled libssh2 supports.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

__all__ = ["CIPHERS", "HOST_KEYS", "KEY_EXCHANGE", "MACS", "Algorithms", "preferred_ciphers"]

#: Elliptic curves only: they are quick, and every server of the last ten years has one of them.
KEY_EXCHANGE = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
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


def preferred_ciphers(*, fast_aes: bool) -> tuple[str, ...]:
    """Return CIPHERS in the order for this processor.

    Where it has instructions for AES-GCM, that cipher costs both ends least: sshd's
    ChaCha20-Poly1305 takes up to three times as long.
    """
    gcm = tuple(name for name in CIPHERS if "-gcm@" in name)
    return (*gcm, *(name for name in CIPHERS if name not in gcm)) if fast_aes else CIPHERS


#: For the CTR ciphers; the -etm variants went through too much unchecked code in libssh2.
MACS = ("hmac-sha2-256", "hmac-sha2-512")


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
