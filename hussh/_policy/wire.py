"""The data types of SSH messages (RFC 4251 section 5); pure.

`_protocol`, `keys` and `hostkeys` make messages and blobs of them. `Reader` walks over one message
and never reads past its end: a hostile length raises a `ProtocolError`, not an IndexError.
"""

from __future__ import annotations

from struct import Struct

from ..errors import ProtocolError

_UINT32 = Struct(">I")


def uint32(value: int) -> bytes:
    return _UINT32.pack(value)


def string(value: bytes) -> bytes:
    return _UINT32.pack(len(value)) + value


def boolean(value: bool) -> bytes:
    return b"\1" if value else b"\0"


def mpint(value: int) -> bytes:
    """Encode a non-negative integer in two's complement, in its shortest form."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b"")


#: A global request that every server answers (RFC 4254 section 4), with "failure" if it must.
KEEPALIVE = bytes((80,)) + string(b"keepalive@openssh.com") + boolean(True)


class Reader:
    """Reads the fields of one message in order."""

    __slots__ = ("_data", "_at")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._data):
            raise ProtocolError(f"message of {len(self._data)} bytes ends within a field")
        value = self._data[self._at : end]
        self._at = end
        return value

    def byte(self) -> int:
        return self.take(1)[0]

    def boolean(self) -> bool:
        return self.byte() != 0

    def uint32(self) -> int:
        return int(_UINT32.unpack(self.take(4))[0])

    def string(self) -> bytes:
        return self.take(self.uint32())

    def text(self) -> str:
        """Read a string for people; bytes that are not UTF-8 become U+FFFD."""
        return self.string().decode("utf-8", "replace")

    def name_list(self) -> tuple[str, ...]:
        """Read comma-separated names (ASCII); an empty string is an empty list."""
        text = self.string().decode("ascii", "replace")
        return tuple(text.split(",")) if text else ()

    def mpint(self) -> int:
        return int.from_bytes(self.string(), "big", signed=True)

    @property
    def rest(self) -> bytes:
        return self._data[self._at :]

    @property
    def done(self) -> bool:
        return self._at >= len(self._data)
