"""What a run says at its end about tests that were skipped or left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import clean_environment

TOP = Path(__file__).resolve().parents[2]
INNER = '''
import pytest

@pytest.mark.parametrize("number", range(3))
def test_skipped(number):
    """Skip thrice."""
    pytest.skip("needs a thing")

@pytest.mark.skip(reason="needs another")
def test_marked():
    """Skip once."""

@pytest.mark.parametrize("number", [1, *(pytest.param(n, marks=pytest.mark.long) for n in (2, 3))])
def test_passed(number):
    """Pass; thrice in a long run."""
'''


def test_reasons_are_counted(tmp_path: Path) -> None:
    """One table has each reason with its count, and the line that is read by CI comes last.

    What a normal run leaves out is no skip: a line of its own counts it, with workers, too.
    """
    (tmp_path / "test_inner.py").write_text(INNER)
    environment = clean_environment(PYTHONDONTWRITEBYTECODE="1")
    environment.pop("HUSSH_LONG", None)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "-p", "tests.conftest",
         "-p", "no:cacheprovider", "-n", "1", tmp_path / "test_inner.py"],
        cwd=TOP,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line]
    (start,) = (n for n, line in enumerate(lines) if " 4 skipped: 80.0 % " in line)
    assert lines[start + 1 : start + 3] == ["    3  needs a thing", "    1  needs another"]
    assert "2 more variants of tests run with HUSSH_LONG=1" in done.stdout
    assert "1 passed, 4 skipped" in lines[-1]
    assert done.returncode == 0, done.stderr
