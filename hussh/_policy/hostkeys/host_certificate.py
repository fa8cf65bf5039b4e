"""Reads host certificates (openssh PROTOCOL.certkeys), and says why one is not valid.

`known_hosts.py` uses it, which knows the authorities and what is revoked. It reads bytes only. C
checks that the server holds the key in the certificate, with the signature of the key exchange.
"""

from __future__ import annotations

from typing import NamedTuple

from ...errors import ProtocolError
from ..keys.public_key import CERTIFICATE, count_fields, read_blob_type
from ..keys.verify import is_signed_by
from ..wire import Reader, string

__all__ = ["HostCertificate", "read_certificate"]

HOST = 2  # the other type is 1, for users
FOREVER = (1 << 64) - 1


class HostCertificate(NamedTuple):
    """The content of a certificate; nothing of it is proven before `find_objection` is empty.

    Attributes:
        key_blob: the plain key that it certifies.
        kind: 1 for users, 2 for hosts.
        key_id: the authority's name for it, for people.
        principals: the host names; without any it is for every host.
        valid_after, valid_before: seconds since 1970; the second is the first moment after.
        critical_options: their names; OpenSSH defines none for hosts.
        authority: the public key that has signed it.
    """

    key_blob: bytes
    kind: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: tuple[str, ...]
    authority: bytes
    signed: bytes
    signature: bytes

    def find_objection(self, host: str, now: float) -> str:
        """Return why it does not vouch for this host name now; "" if it does.

        It decides as ssh(1): no wildcards in principals, and upper case is lower in `host` only.
        """
        if self.kind != HOST:
            return "the certificate is not one for hosts"
        if self.critical_options:
            return f"the certificate has unknown critical options ({self.critical_options[0]})"
        if now < self.valid_after:
            return f"the certificate is not valid before {_show_date(self.valid_after)}"
        if now >= self.valid_before:
            return f"the certificate has expired at {_show_date(self.valid_before)}"
        if self.principals and host.lower() not in self.principals:
            return f"the certificate is for {', '.join(self.principals)[:200]} and not for {host}"
        if not is_signed_by(self.authority, self.signed, self.signature):
            return "the certificate's signature is not one of its authority"
        return ""


def read_certificate(blob: bytes) -> HostCertificate | None:
    """Return the certificate in a key blob; None if it is malformed."""
    try:
        reader = Reader(blob)
        kind = reader.string().decode("ascii")
        plain_kind = kind.removesuffix(CERTIFICATE)
        reader.string()  # the nonce
        fields = [reader.string() for _ in range(count_fields(plain_kind))]
        reader.take(8)  # the serial number
        type_ = reader.uint32()
        key_id = reader.text()
        principals = _split_strings(reader.string())
        after, before = (int.from_bytes(reader.take(8), "big") for _ in range(2))
        critical = _split_strings(reader.string())[::2]
        reader.string()  # extensions; hosts have none
        reader.string()  # reserved
        authority = reader.string()
        signed = blob[: len(blob) - len(reader.rest)]
        signature = reader.string()
    except (ProtocolError, UnicodeDecodeError):
        return None
    plain = string(plain_kind.encode()) + b"".join(map(string, fields))
    is_whole = reader.done and plain_kind != kind and read_blob_type(plain) == plain_kind
    authority_kind = read_blob_type(authority)
    if not is_whole or authority_kind is None or authority_kind.endswith(CERTIFICATE):
        return None
    return HostCertificate(
        plain, type_, key_id, principals, after, before, critical, authority, signed, signature
    )


def _split_strings(data: bytes) -> tuple[str, ...]:
    reader, found = Reader(data), []
    while not reader.done:
        found.append(reader.text())
    return tuple(found)


def _show_date(seconds: int) -> str:
    from datetime import datetime, timezone  # for an error only

    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (ValueError, OverflowError, OSError):
        return "the end of time" if seconds == FOREVER else f"{seconds} s after 1970"
