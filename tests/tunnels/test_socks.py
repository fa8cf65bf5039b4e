"""The SOCKS parser without I/O: what it takes, what it refuses, and that no input breaks it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hussh._policy.forwarding import Address
from hussh._protocol.socks import LONGEST, SocksRequest

GREETING = b"\5\1\0"
CONNECT_5 = {
    b"\5\1\0\1\x7f\0\0\1\0\x50": Address("127.0.0.1", 80),
    b"\5\1\0\3\x07db.home\x15\x38": Address("db.home", 5432),
    b"\5\1\0\4" + bytes(15) + b"\1\0\x16": Address("::1", 22),
}
CONNECT_4 = {
    b"\4\1\0\x50\x7f\0\0\1me\0": Address("127.0.0.1", 80),
    b"\4\1\x15\x38\0\0\0\1\0db.home\0": Address("db.home", 5432),
}


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_requests(size: int) -> None:
    """Version 4, 4a and 5, with names, IPv4 and IPv6, in pieces of any size, and what follows."""
    for request, target in {**CONNECT_5, **CONNECT_4}.items():
        is_5 = request[0] == 5
        whole = (GREETING if is_5 else b"") + request + b"rest"
        parser, answers = SocksRequest(), b""
        for start in range(0, len(whole), size):
            answers += parser.feed(whole[start : start + size])
        assert parser.target == target
        assert parser.rest == b"rest"
        assert answers == (b"\5\0" if is_5 else b"")
        assert parser.make_granted()[:2] == (b"\5\0" if is_5 else b"\0\x5a")
        assert parser.make_failed(2)[:2] == (b"\5\5" if is_5 else b"\0\x5b")
        assert parser.make_failed(1)[:2] == (b"\5\2" if is_5 else b"\0\x5b")


@pytest.mark.parametrize(
    ("request_bytes", "answer"),
    [
        (GREETING + b"\5\2\0\1\x7f\0\0\1\0\x50", b"\5\0\5\7\0\1" + bytes(6)),  # BIND
        (GREETING + b"\5\3\0\1\x7f\0\0\1\0\x50", b"\5\0\5\7\0\1" + bytes(6)),  # UDP ASSOCIATE
        (GREETING + b"\5\1\0\2\x7f\0\0\1\0\x50", b"\5\0\5\x08\0\1" + bytes(6)),  # no such type
        (GREETING + b"\5\1\0\3\x02-x\0\x50", b"\5\0\5\1\0\1" + bytes(6)),  # no name
        (GREETING + b"\5\1\0\1\x7f\0\0\1\0\0", b"\5\0\5\1\0\1" + bytes(6)),  # port 0
        (b"\5\1\2", b"\5\xff"),  # a password only
        (b"\4\2\0\x50\x7f\0\0\1\0", b"\0\x5b" + bytes(6)),  # BIND of version 4
        (b"\4\1\0\x50\0\0\0\1\0" + b"a" * LONGEST, b"\0\x5b" + bytes(6)),  # endless
        (b"GET / HTTP/1.1\r\n", b""),
    ],
)
def test_refused(request_bytes: bytes, answer: bytes) -> None:
    """What is no CONNECT without a password is refused, in the client's version."""
    parser = SocksRequest()
    assert parser.feed(request_bytes) == answer
    assert parser.is_over
    assert parser.target is None


@given(
    st.sampled_from([b"", GREETING, GREETING + b"\5\1\0\3", b"\4\1\0\x50\0\0\0\1"]),
    st.lists(st.binary(max_size=400), max_size=8),
)
def test_any_input(start: bytes, parts: list[bytes]) -> None:
    """No input raises; the buffer is bounded; a target is a name or an address with a port."""
    parser = SocksRequest()
    for part in [start, *parts]:
        assert len(parser.feed(part)) <= 14
        assert len(parser._buffer) <= LONGEST + 400 or parser.is_over
    if parser.target is not None:
        assert parser.is_over
        assert 0 < parser.target.port < 65536
        assert parser.target.host.isprintable()
