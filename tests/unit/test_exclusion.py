"""The patterns of a mirror's ``exclude=``: what a hostile server's names cost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from hussh._policy.glob_pattern import Exclusion

WORK = """
from hussh._policy.glob_pattern import Exclusion
names = [b"a" * 60_000, b"ab" * 30_000, b"/".join([b"b"] * 10_000), b"/".join([b"a"] * 10_000)]
for pattern in ("*a*a*a*c", "a*a*a*c*a", "*[ab]*a?*c", "a/**/b/**/b/**/c", "**/**/**/a/c"):
    assert not any(Exclusion(pattern)(name, False) for name in names)
"""


def test_names_that_almost_match() -> None:
    """Long names that match nearly all of a pattern are seen through in seconds, not in years."""
    subprocess.run([sys.executable, "-c", WORK], check=True, timeout=60)


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("a*b*c", ["abc", "aXbYbZc", "x/abcbc"], ["ab", "abcd", "abc/x"]),
        ("*a", ["a", "ba", "aa"], ["ab"]),
        ("a**b", ["ab", "axb"], ["a/b"]),
        ("**", ["a", "a/b"], []),
        ("/x/**", ["x/a", "x/a/b"], ["x", "y/x/a"]),
        ("x/**/y", ["x/y", "x/a/y", "z/x/a/b/y"], ["x/a", "y"]),
        ("/**/x", ["x", "a/x"], ["a"]),
        ("[!a-c]?", ["dd", "x/d\n"], ["ad", "d"]),
        ("[]x]\\", ["]\\", "x\\"], ["\\", "a\\"]),
        ("[a", ["[a"], ["a"]),
    ],
)
def test_what_is_left_out(pattern: str, yes: list[str], no: list[str]) -> None:
    """Stars stay within a name, ``**`` stands for directories, and the whole end has to match."""
    exclude = Exclusion(pattern)
    assert [name for name in yes if not exclude(name.encode(), False)] == []
    assert [name for name in no if exclude(name.encode(), False)] == []
