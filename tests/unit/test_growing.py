"""`hussh._protocol.growing`: bytes that are collected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hussh._protocol import growing
from hussh._protocol.growing import GrowingBytes

PARTS = st.lists(st.tuples(st.integers(0, 300), st.binary(max_size=100)), max_size=30)


@given(parts=PARTS, large=st.integers(1, 200))
def test_like_a_bytearray(parts: list[tuple[int, bytes]], large: int) -> None:
    """Whatever is written where, gaps are zeros and later bytes win, in either kind of block."""
    expected = bytearray()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(growing, "LARGE", large)
        patched.setattr(growing, "RESERVE", 256)
        collected = GrowingBytes()
        for offset, part in parts:
            collected.write_at(offset, part)
            if part:
                expected.extend(bytes(max(0, offset + len(part) - len(expected))))
                expected[offset : offset + len(part)] = part
        assert collected.take() == expected
        assert collected.take(10) == expected[:10]
        assert GrowingBytes().take() == b""


@given(parts=st.lists(st.binary(max_size=100), max_size=30))
def test_appending(parts: list[bytes]) -> None:
    """Parts that are appended come out joined."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(growing, "LARGE", 50)
        patched.setattr(growing, "RESERVE", 256)
        collected = GrowingBytes()
        for part in parts:
            collected.append(part)
        assert collected.size == len(b"".join(parts))
        assert collected.take() == b"".join(parts)


def test_without_the_memory_for_a_large_block(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the large block cannot be had, what was collected goes on growing."""
    monkeypatch.setattr(growing, "LARGE", 10)
    monkeypatch.setattr(growing, "RESERVE", 1 << 62)
    collected = GrowingBytes()
    for _ in range(10):
        collected.append(b"abcdef")
    assert collected.take() == b"abcdef" * 10
