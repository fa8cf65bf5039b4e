"""Which variants a normal run leaves out: every column keeps a share of the tests.

`test_skipped_table.py` shows what a run says of them.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance.conftest import COLUMNS, FOUR, NINE, THREE
from tests.support import selection

NAMES = [f"tests/conformance/test_file.py::test_{number}" for number in range(100)]


class _Item:
    """An item of pytest's, as far as ``columns`` looks; unlike a namespace it can be hashed."""

    def __init__(self, nodeid: str, callspec: SimpleNamespace) -> None:
        """Take its parts."""
        self.nodeid, self.callspec = nodeid, callspec


def _columns(parameters: list[object]) -> list[selection.Column]:
    values = [parameter.values[0] for parameter in parameters]  # type: ignore[attr-defined]
    return [(api.name, transport) for api, transport in values]


@pytest.mark.parametrize("parameters", [COLUMNS, NINE], ids=["columns", "nine"])
def test_many_columns(parameters: list[object]) -> None:
    """A test with many columns keeps one for each API, and each column has a share of the tests."""
    columns = _columns(parameters)
    shares = Counter[selection.Column]()
    for name in NAMES:
        chosen = selection.spread(name, columns)
        assert sorted(api for api, _ in chosen) == sorted({api for api, _ in columns})
        shares.update(chosen)
    assert shares.keys() == set(columns)
    assert min(shares.values()) >= len(NAMES) / 10


@pytest.mark.parametrize("parameters", [FOUR, THREE], ids=["four", "three"])
def test_few_columns(parameters: list[object]) -> None:
    """A test with few columns keeps the blocking API and one loop, and each column has a share."""
    columns = _columns(parameters)
    shares = Counter[selection.Column]()
    for name in NAMES:
        chosen = selection.spread(name, columns)
        assert len(chosen) == (2 if len(columns) <= selection.FEW else 3)
        shares.update(chosen)
    assert shares.keys() == set(columns)
    assert min(shares.values()) >= len(NAMES) / 10


def test_a_single_column() -> None:
    """A test of one API keeps it."""
    assert selection.spread("test", [("trio", "socket")]) == {("trio", "socket")}


@pytest.mark.parametrize(
    ("long", "argument", "left"),
    [(False, "tests", ["a"]), (True, "tests", ["a", "b"]), (False, "t.py::b[1]", ["a", "b"])],
    ids=["normal", "long", "named"],
)
def test_what_is_never_left_out(
    monkeypatch: pytest.MonkeyPatch, long: bool, argument: str, left: list[str]
) -> None:
    """A long run has all variants, and so has a command line that names one."""
    monkeypatch.setattr(selection, "LONG", long)
    hook = SimpleNamespace(pytest_deselected=lambda items: deselected.extend(items))
    config: Any = SimpleNamespace(args=[argument], stash=pytest.Stash(), hook=hook)
    deselected: list[Any] = []
    items: list[Any] = ["a", "b"]
    selection.leave_out(config, items, {items[1]})
    assert items == left
    assert [*left, *deselected] == ["a", "b"]
    assert selection.summary(config) == (
        "1 more variants of tests run with HUSSH_LONG=1" if deselected else ""
    )


def test_variants_of_one_test() -> None:
    """The first parameters of a test have the spread of columns, each of the others one column."""
    columns = _columns(THREE)
    items: list[Any] = [
        _Item(
            f"tests/test_file.py::test_odd[{api}-{transport}-{size}]",
            SimpleNamespace(
                params={"client": (SimpleNamespace(name=api), transport), "size": size},
                id=f"{api}-{transport}-{size}",
            ),
        )
        for size in range(4)
        for api, transport in columns
    ]
    left_out = selection.columns(items)
    kept = [item for item in items if item not in left_out]
    sizes = Counter(item.callspec.params["size"] for item in kept)
    assert sizes == {0: 2, 1: 1, 2: 1, 3: 1}
    assert len({item.callspec.params["client"][0].name for item in kept}) == len(columns)
