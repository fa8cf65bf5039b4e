"""The server's half of SOCKS 4, 4a and 5 (RFC 1928) without I/O: bytes in, bytes out.

`_connect.forwarding` feeds it.  It takes CONNECT without authentication; whatever else a client
asks for is refused in that client's own version of the protocol.  No input makes it raise.
"""

from __future__ import annotations

from .._policy.forwarding import Address
from .._policy.route import check_host

__all__ = ["SocksRequest"]

#: Most bytes of a request: of SOCKS 4a a user's name and a host's, whatever their lengths.
LONGEST = 1024

NO_AUTHENTICATION, NONE_ACCEPTABLE = 0x00, 0xFF
CONNECT = 1
# Replies of version 5 (RFC 1928 section 6).
GRANTED, FAILED, NOT_ALLOWED, REFUSED, NO_SUCH_COMMAND, NO_SUCH_ADDRESS = 0, 1, 2, 5, 7, 8
#: What version 5 says for a reason of RFC 4254 section 5.1.
_BY_REASON = {1: NOT_ALLOWED, 2: REFUSED}


class SocksRequest:
    """One client's request, from its first byte on.

    Attributes:
        target: where the client wants to go, once that is known.
        is_over: whether nothing more is read: either `target` is known, or the client was
            refused.
        rest: what the client has sent after its request.
    """

    def __init__(self) -> None:
        self.target: Address | None = None
        self.is_over = False
        self.rest = b""
        self._buffer = bytearray()
        self._version = 0
        self._greeted = False

    def feed(self, data: bytes) -> bytes:
        """Take what the client has sent; return what to answer at once, which may be empty."""
        if self.is_over:
            self.rest += data
            return b""
        self._buffer += data
        answer = b""
        try:
            answer = self._greet()
            if not self.is_over:
                answer += self._read()
        except _Refused as refused:
            answer += self._end(refused.code)
        except _TooShort:
            if len(self._buffer) > LONGEST:
                answer += self._end(FAILED)
        if self.target is not None:
            self.rest = bytes(self._buffer)
        return answer

    def make_granted(self) -> bytes:
        """Return the answer for a target that was reached."""
        return self._make_reply(GRANTED)

    def make_failed(self, reason: int) -> bytes:
        """Return the answer for a target that was not, for a reason of RFC 4254 section 5.1."""
        return self._make_reply(_BY_REASON.get(reason, FAILED))

    def _make_reply(self, code: int) -> bytes:
        if self._version == 5:
            return bytes((5, code, 0, 1)) + bytes(6)  # from 0.0.0.0 port 0: it is not known
        return bytes((0, 0x5A if code == GRANTED else 0x5B)) + bytes(6)

    def _end(self, code: int) -> bytes:
        self.is_over = True
        return self._make_reply(code) if self._version else b""

    def _greet(self) -> bytes:
        """Read the version; for 5 also the choice of an authentication (RFC 1928 section 3)."""
        if not self._version:
            version = self._peek(1)[0]
            if version not in (4, 5):
                self.is_over = True  # no answer would be understood
                return b""
            self._version = version
        if self._version == 4 or self._greeted:
            return b""
        count = self._peek(2)[1]
        methods = self._peek(2 + count)[2:]
        del self._buffer[: 2 + count]
        self._greeted = True
        if NO_AUTHENTICATION not in methods:
            self.is_over = True
            return bytes((5, NONE_ACCEPTABLE))
        return bytes((5, NO_AUTHENTICATION))

    def _read(self) -> bytes:
        host, port = self._read_4() if self._version == 4 else self._read_5()
        try:
            self.target = Address(check_host(host), port)
        except ValueError:
            raise _Refused(FAILED) from None
        if not port:
            self.target = None
            raise _Refused(FAILED)
        self.is_over = True
        return b""

    def _read_4(self) -> tuple[str, int]:
        head = self._peek(8)
        if head[1] != CONNECT:
            raise _Refused(NO_SUCH_COMMAND)
        end = self._find_zero(8)
        if head[4:7] == b"\0\0\0" and head[7]:  # version 4a: a name follows
            end, start = self._find_zero(end), end
            host = _decode_text(bytes(self._buffer[start : end - 1]))
        else:
            host = format_address(head[4:8])
        del self._buffer[:end]
        return host, int.from_bytes(head[2:4], "big")

    def _read_5(self) -> tuple[str, int]:
        head = self._peek(5)
        if head[0] != 5:
            raise _Refused(FAILED)
        if head[1] != CONNECT:
            raise _Refused(NO_SUCH_COMMAND)
        sizes = {1: 4, 3: head[4] + 1, 4: 16}
        if head[3] not in sizes:
            raise _Refused(NO_SUCH_ADDRESS)
        end = 4 + sizes[head[3]]
        whole = self._peek(end + 2)
        raw = whole[4:end]
        host = _decode_text(raw[1:]) if head[3] == 3 else format_address(raw)
        del self._buffer[: end + 2]
        return host, int.from_bytes(whole[end:], "big")

    def _peek(self, size: int) -> bytes:
        if len(self._buffer) < size:
            raise _TooShort
        return bytes(self._buffer[:size])

    def _find_zero(self, start: int) -> int:
        """Return where the text that begins here has ended, after its NUL."""
        end = self._buffer.find(b"\0", start, LONGEST)
        if end < 0:
            raise _TooShort
        return end + 1


def format_address(raw: bytes) -> str:
    """Return an address of 4 or 16 bytes as text."""
    from ipaddress import ip_address  # here, because most programs do without

    return str(ip_address(raw))


def _decode_text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _Refused(FAILED) from None


class _TooShort(Exception):
    """Raised while more has to come."""


class _Refused(Exception):
    """The client asks for what is not given; `code` is the reply of version 5."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code
