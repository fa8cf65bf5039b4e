"""Which signature algorithm a login uses with a key, by what the server takes (RFC 8332).

For the login.  Pure: no key and no server is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from .public_key import CERTIFICATE

__all__ = ["signature_algorithms"]


def signature_algorithms(
    key_algorithm: str, server_sig_algs: Sequence[str] | None
) -> tuple[str, ...]:
    """What a key may sign with, best first; empty when the server takes none of it.

    Only RSA has a choice (RFC 8332 section 3.3), in which ``ssh-rsa``, RSA with
    SHA-1, is none.  For the other kinds the server's list decides nothing: servers
    as common as OpenSSH 7.4 list the RSA algorithms alone and accept Ed25519 and
    ECDSA all the same.

    Args:
        key_algorithm: of the public key or certificate.
        server_sig_algs: the server's ``server-sig-algs`` (RFC 8308); None when it sent none.
    """
    kind = key_algorithm.removesuffix(CERTIFICATE)
    if kind == "ssh-dss":
        return ()
    if kind != "ssh-rsa":
        return (key_algorithm,)
    suffix = key_algorithm[len(kind) :]
    # OpenSSH lists the plain names for certificates as well.
    return tuple(
        name + suffix
        for name in ("rsa-sha2-512", "rsa-sha2-256")
        if server_sig_algs is None or name in server_sig_algs or name + suffix in server_sig_algs
    )
