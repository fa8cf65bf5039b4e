"""Messages of SFTP version 3 (draft-ietf-secsh-filexfer-02) and OpenSSH's additions to it.

It makes requests and takes replies apart, for `machine.py`. It checks every length that a server
sends before it uses it; what does not fit raises `Malformed`. It knows no ids and no order.
"""

from __future__ import annotations

from struct import Struct
from typing import Any

from ..._policy.sftp import SFTPAttributes

__all__ = ["Malformed", "Name", "parse_attributes", "parse_limits", "name_list",
           "encode_setting", "parse_statvfs",
           "parse_status", "string", "take_string", "parse_version"]  # fmt: skip

INIT, VERSION, OPEN, CLOSE, READ, WRITE, LSTAT, FSTAT, SETSTAT, FSETSTAT = range(1, 11)
OPENDIR, READDIR, REMOVE, MKDIR, RMDIR, REALPATH, STAT, RENAME, READLINK, SYMLINK = range(11, 21)
STATUS, HANDLE, DATA, NAME, ATTRS = range(101, 106)
EXTENDED, EXTENDED_REPLY = 200, 201

#: Flags of OPEN (section 6.3).
FXF_READ, FXF_WRITE, FXF_APPEND, FXF_CREAT, FXF_TRUNC, FXF_EXCL = 1, 2, 4, 8, 16, 32

#: Which attributes are there (section 5).
_SIZE, _UIDGID, _PERMISSIONS, _ACMODTIME, _EXTENDED = 1, 2, 4, 8, 0x80000000

U32 = Struct(">I")
U64 = Struct(">Q")
_TWO = Struct(">II")
HEAD = Struct(">IBI")  # length, type, id
RANGE = Struct(">QI")  # offset and length of READ and WRITE
_STATVFS = Struct(">11Q")
_LIMITS = Struct(">4Q")


class Malformed(Exception):
    """The server sent something that is no SFTP; the text says what, for an error."""


class Name:
    """One entry of a NAME reply."""

    __slots__ = ("name", "longname", "attributes")

    def __init__(self, name: bytes, longname: bytes, attributes: SFTPAttributes) -> None:
        self.name: bytes = name
        self.longname: bytes = longname
        self.attributes: SFTPAttributes = attributes


def string(value: bytes) -> bytes:
    return U32.pack(len(value)) + value


def take_string(body: bytes, at: int) -> tuple[bytes, int]:
    """Return a string and the position after it."""
    end = at + 4
    if end > len(body):
        raise Malformed("a reply that ends within a field")
    end += U32.unpack_from(body, at)[0]
    if end > len(body):
        raise Malformed("a reply that ends within a string")
    return body[at + 4 : end], end


def _unpack_fields(layout: Struct, body: bytes, at: int) -> tuple[tuple[Any, ...], int]:
    end = at + layout.size
    if end > len(body):
        raise Malformed("a reply that ends within a field")
    return layout.unpack_from(body, at), end


def parse_status(body: bytes) -> tuple[int, str]:
    """Return code and text; old servers leave the text out."""
    (code,), at = _unpack_fields(U32, body, 0)
    if at == len(body):
        return code, ""
    text, _ = take_string(body, at)
    return code, text.decode("utf-8", "replace")


def parse_attributes(body: bytes, at: int = 0) -> tuple[SFTPAttributes, int]:
    """Return a file's attributes (section 5) and the position after them."""
    (flags,), at = _unpack_fields(U32, body, at)
    found = SFTPAttributes()
    if flags & _SIZE:
        (found.st_size,), at = _unpack_fields(U64, body, at)
    if flags & _UIDGID:
        (found.st_uid, found.st_gid), at = _unpack_fields(_TWO, body, at)
    if flags & _PERMISSIONS:
        (found.st_mode,), at = _unpack_fields(U32, body, at)
    if flags & _ACMODTIME:
        (found.st_atime, found.st_mtime), at = _unpack_fields(_TWO, body, at)
    if flags & _EXTENDED:
        (count,), at = _unpack_fields(U32, body, at)
        pairs = []
        for _ in range(count):  # each takes 8 bytes at least, so the body's end ends this
            kind, at = take_string(body, at)
            value, at = take_string(body, at)
            pairs.append((kind, value))
        found.extended = tuple(pairs)
    return found, at


def encode_setting(
    *,
    size: int | None = None,
    owner: tuple[int, int] | None = None,
    mode: int | None = None,
    times: tuple[int, int] | None = None,
) -> bytes:
    """Encode attributes to be set (section 5); None leaves one as it is."""
    flags, parts = 0, []
    if size is not None:
        flags |= _SIZE
        parts.append(U64.pack(size))
    if owner is not None:
        flags |= _UIDGID
        parts.append(_TWO.pack(*owner))
    if mode is not None:
        flags |= _PERMISSIONS
        parts.append(U32.pack(mode))
    if times is not None:
        flags |= _ACMODTIME
        parts.append(_TWO.pack(*times))
    return U32.pack(flags) + b"".join(parts)


def name_list(body: bytes) -> list[Name]:
    (count,), at = _unpack_fields(U32, body, 0)
    if count * 12 > len(body) - at:  # the least an entry takes
        raise Malformed(f"a list of {count} names in {len(body)} bytes")
    names = []
    for _ in range(count):
        name, at = take_string(body, at)
        longname, at = take_string(body, at)
        attrs, at = parse_attributes(body, at)
        names.append(Name(name, longname, attrs))
    return names


def parse_version(body: bytes) -> tuple[int, dict[bytes, bytes]]:
    """Return number and extensions of a VERSION message (section 4)."""
    (number,), at = _unpack_fields(U32, body, 0)
    extensions = {}
    while at < len(body):
        name, at = take_string(body, at)
        extensions[name], at = take_string(body, at)
    return number, extensions


def parse_statvfs(body: bytes) -> tuple[int, ...]:
    """Return the reply to statvfs@openssh.com, in its order."""
    return _unpack_fields(_STATVFS, body, 0)[0]


def parse_limits(body: bytes) -> tuple[int, int, int, int]:
    """Return the reply to limits@openssh.com: packet, read and write length, open handles."""
    packet, read, write, handles = _unpack_fields(_LIMITS, body, 0)[0]
    return packet, read, write, handles
