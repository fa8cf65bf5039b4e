"""docs/servers.md, which scripts/zoo writes, has what the zoo tries today."""

from __future__ import annotations

from pathlib import Path

from zoo.checks import all_checks
from zoo.report import FAILED, FAULT, WORKS, Cell, page
from zoo.servers.catalogue import SERVERS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "servers.md"


def rows(text: str) -> list[list[str]]:
    """Return the cells of each line of the table."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_page() -> None:
    """A row for each check, a column for each server, and a reason for what does not work."""
    cells = {("a", "one"): Cell(WORKS), ("b", "one"): Cell(FAULT, "it cannot")}
    text = page({"a": "a 1.0", "b": "b 2.0"}, ["one", "two"], cells)
    assert rows(text) == [
        ["", "a", "b"],
        ["---"] * 3,
        ["one", "works", "fault"],
        ["two", "not here", "not here"],
    ]
    assert "- b, one: it cannot\n" in text
    assert "- a: a 1.0\n" in text


def test_what_is_tried_today() -> None:
    """The page in docs is of these servers and checks, and nothing on it has failed."""
    found = rows(PAGE.read_text())
    assert found[0][1:] == [server.name for server in SERVERS]
    assert [row[0] for row in found[2:]] == list(all_checks())
    assert FAILED not in {cell for row in found[2:] for cell in row}


def test_reasons_are_of_checks() -> None:
    """What a server lacks or does wrong is said of checks that there are."""
    for server in SERVERS:
        assert {*server.none, *server.faults} <= set(all_checks())
