"""Reads the certificate beside a key file: ``KEY-cert.pub``, as ssh(1) finds it.

The format is OpenSSH's (PROTOCOL.certkeys): the type, a nonce, then the fields of the plain public
key, then what a server checks. Apart from reading that file nothing here has an effect.
"""

from __future__ import annotations

import os
from base64 import b64decode

from ...errors import KeyUnreadable, ProtocolError
from ..wire import Reader
from .key_files import read_private_key
from .public_key import CERTIFICATE, PublicKey

__all__ = ["certificate_for", "plain"]


def plain(algorithm: str) -> str:
    """Return the algorithm that a signature names, also if the key is a certificate."""
    name = algorithm.removesuffix(CERTIFICATE)
    if name != algorithm and name.startswith("sk-"):
        return f"{name}@openssh.com"  # PROTOCOL.u2f: the vendor's suffix is said once
    return name


def certificate_for(path: str | os.PathLike[str], public: PublicKey) -> PublicKey | None:
    """Return the certificate of the key at `path`, from ``path-cert.pub``.

    It is None if there is no such file, or if the file is no certificate of this key: a stale
    certificate must not keep a good key from being used.

    Raises:
        ConnectError: the process has no descriptor left to read it.
    """
    try:
        words = read_private_key(f"{os.fspath(path)}-cert.pub").split(None, 2)
        blob = b64decode(words[1], validate=True)
        reader = Reader(blob)
        kind = reader.text()
        reader.string()  # the nonce
    except (KeyUnreadable, ValueError, IndexError, ProtocolError):
        return None
    own = Reader(public.blob)
    own.string()
    if kind != public.algorithm + CERTIFICATE or not reader.rest.startswith(own.rest):
        return None
    comment = words[2].decode("utf-8", "replace").strip() if len(words) > 2 else ""
    return PublicKey(kind, blob, comment)
