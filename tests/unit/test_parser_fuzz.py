"""Parsers of what others have written take any bytes; `scripts/fuzz-python` goes on for longer."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.parser_targets import TARGETS

EXAMPLES = 5000 if os.environ.get("HUSSH_LONG") == "1" else 60
#: Numbers where a length is expected: none, a little, too much.
LENGTHS = [b"\0\0\0\0", b"\0\0\0\1", b"\0\1\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff"]


@st.composite
def damaged(draw: st.DrawFn, inputs: tuple[bytes, ...]) -> bytes:
    """Cut, double, overwrite and add to a right input, a few times."""
    data = bytearray(draw(st.sampled_from(inputs)))
    for _ in range(draw(st.integers(0, 4))):
        at, size = draw(st.integers(0, len(data))), draw(st.integers(0, 12))
        part = draw(st.sampled_from(LENGTHS) | st.binary(max_size=12))
        how = draw(st.sampled_from(["cut", "end", "twice", "over", "into"]))
        if how == "cut":
            del data[at : at + size]
        elif how == "end":
            del data[at:]
        elif how == "twice":
            data[at:at] = data[at : at + size * 8]
        elif how == "over":
            data[at : at + len(part)] = part
        else:
            data[at:at] = part
    return bytes(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_right_inputs(name: str) -> None:
    """Every input that the others are made of is taken."""
    for content in TARGETS[name].inputs:
        TARGETS[name].run(content)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_damaged_inputs(name: str) -> None:
    """A parser returns or raises the error that its callers expect, whatever it is given."""
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(damaged(target.inputs) | st.binary(max_size=300))
    def try_one(data: bytes) -> None:
        target.run(data)

    try_one()
