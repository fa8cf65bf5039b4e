"""Which variants a normal run leaves out: every column keeps a share of the tests."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conformance.conftest import COLUMNS, FOUR, NINE, THREE
from tests.support import selection
from tests.support.processes import clean_environment

TOP = Path(__file__).resolve().parents[2]
NAMES = [f"tests/conformance/test_file.py::test_{number}" for number in range(100)]
INNER = '''
import pytest

@pytest.mark.parametrize("number", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))])
def test_numbers(number):
    """Run with each number."""
'''


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


def test_what_runs(tmp_path: Path) -> None:
    """A normal run leaves out the variants that are long, and says how many, with workers, too."""
    (tmp_path / "test_inner.py").write_text(INNER)
    clean = clean_environment(PYTHONDONTWRITEBYTECODE="1")
    clean.pop("HUSSH_LONG", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest",
         "-p", "no:cacheprovider", "-n", "1", tmp_path / "test_inner.py"],
        cwd=TOP, env=clean, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "1 passed" in done.stdout.splitlines()[-1], done.stdout + done.stderr
    assert "2 more variants of tests run with HUSSH_LONG=1" in done.stdout


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
