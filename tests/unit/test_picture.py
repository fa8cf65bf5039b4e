"""The picture at the top of README: what it shows is what docs/benchmarks.md says."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks.picture import FIGURES, PICTURE, draw, read_row

TOP = Path(__file__).resolve().parents[2]


def test_it_shows_the_figures() -> None:
    """The file is what the program draws of the page of figures, each client with its own."""
    figures = read_row(FIGURES.read_text())
    assert set(figures) >= {"hussh", "asyncssh", "OpenSSH"}
    assert PICTURE.read_text() == draw(figures)
    shown = ["".join(each.itertext()) for each in ElementTree.parse(PICTURE).iter()]
    for name, value in figures.items():
        assert name in shown
        assert f"{value:.0f}" in shown


def test_it_stands_alone() -> None:
    """It fetches nothing, has colours for a dark screen, and README has a text for it."""
    text = PICTURE.read_text()
    assert not re.search(r"(href|src|url\(|@import)", text)
    assert "prefers-color-scheme: dark" in text
    found = re.search(r"!\[([^\]]{40,})\]\(docs/overview\.svg\)", (TOP / "README.md").read_text())
    assert found is not None


def test_row_that_is_missing() -> None:
    """A page without the row is refused; a client without a figure has no bar."""
    with pytest.raises(ValueError, match="no row"):
        read_row("| median, ms | hussh |\n")
    page = "| median, ms | hussh | OpenSSH |\n|---|---:|---:|\n| a | **1.50** | – |\n"
    assert read_row(page, "a") == {"hussh": 1.5}
