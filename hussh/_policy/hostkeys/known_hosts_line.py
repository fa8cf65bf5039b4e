"""Parses and makes one line of a known_hosts file (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

`known_hosts.py` finds the lines of a host, `known_hosts_record.py` adds some. It opens no file and
decides about no key.

It is stricter than ssh(1) in one point: a tab may follow a marker. ssh drops such a line, and a
revocation with it.
"""

from __future__ import annotations

import hmac
import os
import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import NamedTuple

from ..keys.public_key import RSA_NAMES, fingerprint, read_blob_type

__all__ = [
    "CERT_AUTHORITY",
    "REVOKED",
    "Entry",
    "Line",
    "encode",
    "make_known_hosts_line",
    "make_lookup_name",
    "parse_hash",
    "parse_line",
]

REVOKED = "revoked"
CERT_AUTHORITY = "cert-authority"
_BLANK = b" \t"
_MARKERS = {b"@revoked": REVOKED, b"@cert-authority": CERT_AUTHORITY}
_SHA1_SIZE = 20
# What may stand in a line as it is: nothing that splits, comments, negates or matches more names.
_PLAIN_NAME = rb"[A-Za-z0-9_.:%\[\]\x80-\xff-]+"


class Entry(NamedTuple):
    """One usable line.

    Attributes:
        marker: "", "revoked" or "cert-authority".
        patterns: names as they stand in the file; a hashed name is one pattern.
        key_type: as the blob itself says, such as "ssh-rsa".
        line_number: counted from 1 within `file`; 0: it is remembered, and in no file.
    """

    marker: str
    patterns: tuple[str, ...]
    key_type: str
    key_blob: bytes
    line_number: int
    file: str

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key_blob)

    @property
    def place(self) -> str:
        if not self.line_number:
            return "the memory of this process, where accept-new could not record it"
        return f"{self.file}:{self.line_number}"


class Line(NamedTuple):
    """A line whose names were parsed but not its key, because most lines are for other hosts."""

    marker: str
    names: bytes
    key: bytes
    number: int
    file: str

    def parse_entry(self) -> Entry | None:
        """Parse the key; return None if it is broken."""
        words = self.key.translate(None, b"\r\v\f").split(None, 2)
        blob = _decode_base64(words[1]) if len(words) > 1 else None
        key_type = read_blob_type(blob) if blob else None
        if blob is None or key_type is None:
            return None
        named = words[0].decode("ascii", "replace")
        if named != key_type and not (named in RSA_NAMES and key_type in RSA_NAMES):
            return None
        names = self.names.decode("utf-8", "surrogateescape")
        patterns = tuple(names.split(",")) if names[0] != "|" else (names,)
        return Entry(self.marker, patterns, key_type, blob, self.number, self.file)


def make_lookup_name(host: str, port: int = 22) -> str:
    """Return the name under which a host is recorded; an alias is given verbatim with port 22."""
    return host if port == 22 else f"[{host}]:{port}"


def make_known_hosts_line(host: str, port: int, key_blob: bytes, *, hashed: bool = False) -> bytes:
    """Return the line, with its newline, that records the key for the host.

    A name with characters that have a meaning in the file is always hashed.

    Raises:
        ValueError: `key_blob` is not a public key, or the host is empty.
    """
    key_type = read_blob_type(key_blob)
    name = encode(make_lookup_name(host, port))
    if key_type is None or not host:
        raise ValueError("not a host name and a public key")
    if hashed or not re.fullmatch(_PLAIN_NAME, name):
        salt = os.urandom(_SHA1_SIZE)
        name = b"|1|%b|%b" % (b64encode(salt), b64encode(hmac.digest(salt, name, "sha1")))
    return b"%b %b %b\n" % (name, key_type.encode("ascii"), b64encode(key_blob))


def parse_line(text: bytes, number: int, file: str) -> Line | None:
    """Split a line into marker, names and key; return None for comments and unusable lines."""
    # C strings end at a NUL, so OpenSSH does not see what follows one.
    text = text.partition(b"\0")[0].lstrip(_BLANK)
    if not text or text.startswith(b"#"):
        return None
    marker = ""
    if text.startswith(b"@"):
        word, text = _split_word(text)
        if word not in _MARKERS or text.startswith(b"@"):
            return None
        marker = _MARKERS[word]
    names, key = _split_word(text)
    return Line(marker, names, key, number, file) if names and key else None


def _split_word(text: bytes) -> tuple[bytes, bytes]:
    end = re.search(rb"[ \t]", text)
    if end is None:
        return text, b""
    return text[: end.start()], text[end.end() :].lstrip(_BLANK)


def parse_hash(names: bytes) -> tuple[bytes, bytes] | None:
    """Return salt and HMAC-SHA1 of ``|1|salt|hash``."""
    parts = names.split(b"|")
    if len(parts) != 4 or parts[1] != b"1":
        return None
    salt, digest = _decode_base64(parts[2]), _decode_base64(parts[3])
    if salt is None or digest is None or not len(salt) == len(digest) == _SHA1_SIZE:
        return None
    return salt, digest


def encode(name: str) -> bytes:
    """Return a name as it is compared: in the bytes of the file, upper case as lower."""
    return name.encode("utf-8", "surrogateescape").lower()


def _decode_base64(text: bytes) -> bytes | None:
    try:
        data = b64decode(text, validate=True)
    except (Base64Error, ValueError):
        return None
    return data if b64encode(data) == text else None
