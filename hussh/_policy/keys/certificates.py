"""Reads the certificate beside a key file: ``KEY-cert.pub``, as ssh(1) finds it.

`file_cache.py` of `_policy` and the login (`_protocol/auth.py`) use it. The format is OpenSSH's
(PROTOCOL.certkeys): the type, a nonce, then the fields of the plain public key, then what a server
checks. Apart from reading that file nothing here has an effect.
"""

from __future__ import annotations

import os

from ...errors import KeyUnreadable, ProtocolError
from ..wire import Reader
from .key_files import parse_public_key, read_private_key
from .public_key import CERTIFICATE, PublicKey

__all__ = [
    "belongs_to",
    "read_certificate",
    "is_certificate_text",
    "load_certificate",
    "get_plain_algorithm",
]


def get_plain_algorithm(algorithm: str) -> str:
    """Return the algorithm that a signature names, also if the key is a certificate."""
    name = algorithm.removesuffix(CERTIFICATE)
    if name != algorithm and name.startswith("sk-"):
        return f"{name}@openssh.com"  # PROTOCOL.u2f: the vendor's suffix is said once
    return name


def read_certificate(path: str | os.PathLike[str], public: PublicKey) -> PublicKey | None:
    """Return the certificate of the key at `path`, from ``path-cert.pub``.

    It is None if there is no such file, or if the file is no certificate of this key: a stale
    certificate must not keep a good key from being used.

    Raises:
        ConnectError: the process has no descriptor left to read it.
    """
    try:
        certificate = parse_public_key(read_private_key(f"{os.fspath(path)}-cert.pub"))
    except KeyUnreadable:
        return None
    if certificate is None or not belongs_to(certificate, public):
        return None
    return certificate


def belongs_to(certificate: PublicKey, public: PublicKey) -> bool:
    """Tell whether this is a certificate of this plain key."""
    if certificate.algorithm != get_certificate_type(public.algorithm):
        return False
    own, reader = Reader(public.blob), Reader(certificate.blob)
    try:
        own.string()
        reader.string()
        reader.string()  # the nonce
    except ProtocolError:
        return False
    return reader.rest.startswith(own.rest)


def get_certificate_type(algorithm: str) -> str:
    """Return the type of the certificates of this type of key."""
    return algorithm.removesuffix("@openssh.com") + CERTIFICATE


def load_certificate(given: str | bytes | os.PathLike[str]) -> PublicKey:
    """Return the certificate of the argument ``certificate=``: the path of a file, or its text.

    Raises:
        KeyUnreadable: the file cannot be read, or it holds no user certificate.
        ConnectError: the process has no descriptor left to read it.
    """
    text = is_certificate_text(given)
    name = "that was given as text" if text else os.fsdecode(given)
    if text:
        data = given.encode() if isinstance(given, str) else bytes(given)  # type: ignore[arg-type]
    else:
        try:
            data = read_private_key(os.fsdecode(given))
        except KeyUnreadable as error:
            words = error.text.replace("private key", "certificate", 1)
            raise KeyUnreadable(words) from error.__cause__
    certificate = parse_public_key(data)
    if certificate is None or CERTIFICATE not in certificate.algorithm:
        raise KeyUnreadable(f"certificate {name} holds no certificate, which begins with its type")
    return certificate


def is_certificate_text(given: object) -> bool:
    """Tell whether ``certificate=`` is the content of a file and not its path."""
    words = given.split() if isinstance(given, str | bytes) else []
    mark = CERTIFICATE.encode() if isinstance(given, bytes) else CERTIFICATE
    return len(words) > 1 and words[0].endswith(mark)  # type: ignore[arg-type]
