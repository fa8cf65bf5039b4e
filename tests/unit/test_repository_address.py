"""The address of the repository: one setting, and the links that are made with it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from release import publish
from release.addresses import (
    PLACEHOLDER,
    absolute_links,
    file_address,
    map_links,
    repository,
    revision,
)

TOP = Path(__file__).resolve().parents[2]
SCRIPT = TOP / "scripts/repository-address"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder with what the script reads and changes."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    shutil.copy(TOP / "pyproject.toml", tmp_path)
    return tmp_path


def test_another_address(tree: Path) -> None:
    """One command gives another address, all links begin with it, and nothing else changes."""
    old = subprocess.run([SCRIPT], capture_output=True, text=True, check=True).stdout.strip()
    new = "https://git.example/some-one/hussh"
    subprocess.run([tree / "scripts/repository-address", new], check=True)
    before, after = (path / "pyproject.toml" for path in (TOP, tree))
    assert repository(before.read_text()) == old
    assert repository(after.read_text()) == new
    assert after.read_text() == before.read_text().replace(f'"{old}', f'"{new}')
    assert after.read_text().count(f'"{new}') == 4


@pytest.mark.parametrize(
    "address",
    ["", "hussh", "http://a/b", "https://a", "https://a/b/", "https://a/b|c", "https:///a"],
)
def test_address_that_is_none(tree: Path, address: str) -> None:
    """What is no address of a repository is refused, and nothing is changed."""
    done = subprocess.run(
        [tree / "scripts/repository-address", address], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"repository-address: '{address}' ")
    assert (tree / "pyproject.toml").read_text() == (TOP / "pyproject.toml").read_text()


def test_links() -> None:
    """Relative links become those of the repository; anchors and other links stay."""
    text = "[a](docs/a.md#b) [c](#d) [e](https://f/g) ![h](docs/i.svg) [j](mailto:k)\n"
    assert absolute_links(text, "https://x/y", "v1") == (
        "[a](https://x/y/blob/v1/docs/a.md#b) [c](#d) [e](https://f/g) "
        "![h](https://x/y/raw/v1/docs/i.svg) [j](mailto:k)\n"
    )
    assert map_links("x[0] (y) [z](a.md)", str.upper) == "x[0] (y) [z](A.MD)"
    assert file_address("https://x/y", "main", "LICENSE") == "https://x/y/blob/main/LICENSE"
    assert [revision("0.4.0"), revision("0.4.0.dev0")] == ["v0.4.0", "main"]


def test_no_release_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A release is refused while the address leads nowhere, before anything is made."""
    asked: list[tuple[str, ...]] = []

    def git(*words: str) -> str:
        asked.append(words)
        return ""

    monkeypatch.setattr(publish, "_git", git)
    monkeypatch.setattr(publish, "repository", lambda text: PLACEHOLDER)
    with pytest.raises(SystemExit, match="scripts/repository-address"):
        publish.main(["9.9.9"])
    assert not asked
