"""Host keys that an ssh configuration names elsewhere than in known_hosts files.

RevokedHostKeys names a list of keys or a KRL (PROTOCOL.krl of OpenSSH), KnownHostsCommand prints
lines of known_hosts. `_api/configure_plan.py` reads them; the check of a host key treats them as
more lines. Pure.
"""

from __future__ import annotations

from base64 import b64decode

from ...errors import ConfigError, ProtocolError
from ..keys.public_key import read_blob_type
from ..ssh_config.configured import Configured
from ..wire import Reader
from .known_hosts import KnownHosts
from .known_hosts_line import REVOKED, Entry, make_lookup_name

__all__ = ["list_configured_entries", "parse_revoked"]

_KRL = b"SSHKRL\n\0"
_EXPLICIT_KEYS = 2


def list_configured_entries(configured: Configured, host: str, port: int) -> list[Entry]:
    """Return the lines that a configuration adds for this name."""
    found = []
    if configured.known_hosts_text:
        known = KnownHosts.parse(configured.known_hosts_text, "KnownHostsCommand")
        found += known.lookup(host, port)
    name, file = make_lookup_name(host, port), configured.revoked_host_keys or ""
    for number, blob in enumerate(configured.revoked_keys, 1):
        found.append(Entry(REVOKED, (name,), read_blob_type(blob) or "", blob, number, file))
    return found


def parse_revoked(data: bytes, path: str) -> tuple[bytes, ...]:
    """Return the keys in a file of RevokedHostKeys.

    Raises:
        ConfigError: it is no list of keys and no KRL, or revokes in a way that is not known here.
    """
    if data.startswith(_KRL):
        return _parse_krl(data, path)
    blobs = []
    for number, line in enumerate(data.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        blob = _find_blob(words)
        if blob is None:
            raise ConfigError(f"RevokedHostKeys {path}: line {number} is no public key")
        blobs.append(blob)
    return tuple(blobs)


def _find_blob(words: list[bytes]) -> bytes | None:
    for word in words[1:]:  # behind the type; options may stand before that
        try:
            blob = b64decode(word, validate=True)
        except ValueError:
            continue
        if read_blob_type(blob) is not None:
            return blob
    return None


def _parse_krl(data: bytes, path: str) -> tuple[bytes, ...]:
    try:
        reader = Reader(data, len(_KRL))
        version = reader.uint32()
        reader.take(3 * 8)  # the list's version, its date, flags
        reader.string()  # reserved
        reader.string()  # a comment
        blobs: list[bytes] = []
        while not reader.done:
            kind, section = reader.byte(), Reader(reader.string())
            if version != 1 or kind != _EXPLICIT_KEYS:
                raise ConfigError(
                    f"RevokedHostKeys {path} is a KRL that revokes certificates or hashes of keys, "
                    "which are not followed here; list the keys themselves (ssh-keygen -k with "
                    ".pub files)"
                )
            while not section.done:
                blobs.append(section.string())
    except ProtocolError as error:
        raise ConfigError(f"RevokedHostKeys {path} is a damaged KRL") from error
    return tuple(blobs)
