"""The name under which hussh is distributed: one setting, and no text that says another one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
EXTRA = re.compile(r"([\w-]+)\\?\[(progress|gssapi|fsspec)\\?\]")


def setting(top: Path) -> str:
    """Return what pyproject.toml says."""
    found = re.search(r'^name = "(.+)"$', (top / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def named(top: Path) -> dict[str, set[str]]:
    """Return each name that a text gives with an extra, to the files that have it."""
    found: dict[str, set[str]] = {}
    files = [top / "README.md", top / "CHANGELOG.md"]
    for folder, kind in (("docs", "*.md"), ("hussh", "*.py"), ("tests", "*.py")):
        files += (top / folder).rglob(kind)
    for path in files:
        for match in EXTRA.finditer(path.read_text()):
            found.setdefault(match[1], set()).add(str(path.relative_to(top)))
    return found


def test_texts_have_the_name_of_the_setting() -> None:
    """Docs, errors and docstrings tell people to install the extras of this distribution."""
    assert set(named(TOP)) == {setting(TOP)}


def test_another_name(tmp_path: Path) -> None:
    """One command gives another name, and every text follows."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    for name in ("docs", "hussh", "scripts", "tests"):
        shutil.copytree(TOP / name, tmp_path / name, ignore=ignored)
    for name in ("README.md", "CHANGELOG.md", "pyproject.toml"):
        shutil.copy(TOP / name, tmp_path)
    before = named(tmp_path)[setting(TOP)]
    subprocess.run([tmp_path / "scripts/distribution-name", "hussh-two"], check=True)
    assert setting(tmp_path) == "hussh-two"
    assert named(tmp_path) == {"hussh-two": before}


@pytest.mark.parametrize("name", ["Two", "a b", "-a", "a/b", ""])
def test_name_that_is_none(name: str) -> None:
    """A name that a registry would not take is refused, and nothing is changed."""
    before = (TOP / "pyproject.toml").read_text()
    done = subprocess.run([TOP / "scripts/distribution-name", name], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"distribution-name: '{name}' is no name")
    assert (TOP / "pyproject.toml").read_text() == before
