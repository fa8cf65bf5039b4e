"""One concept per file: what has grown beyond about 500 lines has two.

Reads the sources of the working copy; needs no server.
"""

from __future__ import annotations

from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
#: About 500; a file that is cut in two at 501 lines is not easier to read.
MOST = 520
SOURCES = ("hussh", "csrc", "tests", "scripts", "release", "zoo", "benchmarks", "vendor")


def test_lengths() -> None:
    """No file of Python or C has more than about 500 lines."""
    files = [
        file
        for folder in SOURCES
        for pattern in ("*.py", "*.c", "*.h")
        for file in (TOP / folder).rglob(pattern)
    ]
    assert len(files) > 600
    lengths = {str(file.relative_to(TOP)): file.read_text().count("\n") for file in files}
    assert {name: length for name, length in lengths.items() if length > MOST} == {}
