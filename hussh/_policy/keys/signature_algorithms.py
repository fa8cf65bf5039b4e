"""Chooses the signature algorithm of a login by what the server takes (RFC 8332).

The login (`_protocol/auth_methods.py`) uses it. It is pure: it asks no key and no server.
"""

from __future__ import annotations

from collections.abc import Sequence

from .public_key import CERTIFICATE

__all__ = ["choose_signature_algorithms"]


def choose_signature_algorithms(
    key_algorithm: str, server_sig_algs: Sequence[str] | None
) -> tuple[str, ...]:
    """Return what a key may sign with, best first; empty if the server takes none of it.

    Only RSA has a choice (RFC 8332 section 3.3), and ``ssh-rsa``, RSA with SHA-1, is not part of
    it. For the other kinds the server's list decides nothing: servers as common as OpenSSH 7.4 list
    the RSA algorithms alone, and accept Ed25519 and ECDSA all the same.

    Args:
        key_algorithm: that of the public key or certificate.
        server_sig_algs: the server's ``server-sig-algs`` (RFC 8308), or None if it sent none.
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
