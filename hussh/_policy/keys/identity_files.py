"""The keys that an ssh configuration names: IdentityFile, CertificateFile, their public halves.

The login (`_protocol/auth.py`) uses it for `config=`. It reads files, and asks nobody for a
passphrase. A file that is missing or broken is left out, as ssh(1) leaves it out.
"""

from __future__ import annotations

import os
from base64 import b64decode
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...errors import HusshError
from ..ssh_config.configured import Configured
from ..wire import Reader
from .key_files import list_default_key_paths, read_private_key
from .key_source import unarmour
from .public_key import CERTIFICATE, PublicKey, read_blob_type

__all__ = ["Identities", "read_identities"]

_MAGIC = b"openssh-key-v1\0"


class Identities(NamedTuple):
    """What there is of the configured keys.

    Attributes:
        files: of private keys, in order.
        public: blobs of public keys, in order, as far as they can be told without a passphrase.
        certificates: of CertificateFile.
    """

    files: tuple[str | os.PathLike[str], ...]
    public: tuple[bytes, ...]
    certificates: tuple[PublicKey, ...]

    def find_certificate(self, public: PublicKey) -> PublicKey | None:
        """Return the configured certificate of a key; None means that there is none."""
        own = Reader(public.blob)
        own.string()
        for certificate in self.certificates:
            reader = Reader(certificate.blob)
            kind = reader.text()
            reader.string()  # the nonce
            if kind == public.algorithm + CERTIFICATE and reader.rest.startswith(own.rest):
                return certificate
        return None

    def sort(self, of_agent: Sequence[PublicKey], *, only: bool) -> list[PublicKey]:
        """Return the agent's keys, first those that are named here; with `only` no others."""
        by_blob = {key.blob: key for key in of_agent}
        first = [by_blob[blob] for blob in self.public if blob in by_blob]
        named = {*self.public}
        return first if only else [*first, *(key for key in of_agent if key.blob not in named)]


def read_identities(configured: Configured) -> Identities:
    """Look for the keys of a configuration, or where it names none for the default ones."""
    named: Iterable[str | os.PathLike[str]] | None = configured.identity_files
    if named is None:
        named = list_default_key_paths(os.path.expanduser("~"))
    files: list[str | os.PathLike[str]] = []
    public: list[bytes] = []
    for path in named:
        text = _read(path)
        own = _parse_public_line(text)
        if text and own is None:
            files.append(path)
        found = own or _parse_public_line(_read(f"{os.fspath(path)}.pub"))
        blob = found.blob if found is not None else _find_public_half(text)
        if blob is not None:
            public.append(blob)
    certificates = [_parse_public_line(_read(path)) for path in configured.certificate_files]
    return Identities(
        tuple(files),
        tuple(dict.fromkeys(public)),
        tuple([one for one in certificates if one and one.algorithm.endswith(CERTIFICATE)]),
    )


def _read(path: str | os.PathLike[str]) -> bytes:
    """Return the file's text; it is empty if there is no such file.

    A word that is no key stands for a file that may not be read: the code that loads it says why.
    """
    try:
        return read_private_key(path)
    except HusshError:
        return b"?" if os.path.exists(path) else b""


def _parse_public_line(text: bytes) -> PublicKey | None:
    """Parse a line as in ``id.pub``: the type, the blob in base64, a comment."""
    words = text.split(None, 2)
    if len(words) < 2 or text.startswith(b"-----"):
        return None
    try:
        blob = b64decode(words[1], validate=True)
    except ValueError:
        return None
    kind = read_blob_type(blob)
    if kind is None or kind.encode() != words[0]:
        return None
    comment = words[2].decode("utf-8", "replace").strip() if len(words) > 2 else ""
    return PublicKey(kind, blob, comment)


def _find_public_half(text: bytes) -> bytes | None:
    """Return the public key in OpenSSH's format for private keys, which no passphrase protects."""
    try:
        body = unarmour(text)
        if not body.startswith(_MAGIC):
            return None
        reader = Reader(body, len(_MAGIC))
        for _ in range(3):  # cipher, key derivation and its options
            reader.string()
        reader.uint32()
        return reader.string()
    except (HusshError, ValueError):
        return None
