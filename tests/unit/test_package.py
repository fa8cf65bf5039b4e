"""What an installation gets of this folder, besides the compiled module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import hussh
from hussh._command_line.main import main
from release.addresses import repository, revision

TOP = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package as it goes into a wheel."""
    folder = tmp_path_factory.mktemp("package")
    # The compiler is not asked to do anything, so this takes half a second.
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(folder),
               "build_py", "--build-lib", str(folder)]  # fmt: skip
    built = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return folder / "hussh"


def test_every_module_and_its_types(package: Path) -> None:
    """No module is missing, nor what tells type checkers that there are types."""
    here = TOP / "hussh"
    wanted = {path.relative_to(here) for kind in ("*.py", "*.pyi") for path in here.rglob(kind)}
    wanted.add(Path("py.typed"))
    found = {path.relative_to(package) for path in package.rglob("*") if path.is_file()}
    assert found - {Path("_native/LICENSE.libssh2")} == wanted


def test_licence_of_libssh2(package: Path) -> None:
    """The licence of the code inside the compiled module comes with it, as it demands."""
    words = " ".join((package / "_native/LICENSE.libssh2").read_text().replace("*", " ").split())
    assert "Daniel Stenberg" in words
    assert "Redistributions in binary form must reproduce the above copyright notice" in words
    assert os.stat(package / "_native/LICENSE.libssh2").st_mode & 0o444 == 0o444


def test_version(package: Path) -> None:
    """What the build records as the version is what the package says of itself."""
    (recorded,) = package.parent.glob("*.egg-info/PKG-INFO")
    assert f"\nVersion: {hussh.__version__}\n" in recorded.read_text()


def test_links_work_elsewhere(package: Path) -> None:
    """What a package index shows of README has absolute links, to files that are here."""
    (recorded,) = package.parent.glob("*.egg-info/PKG-INFO")
    text = recorded.read_text()
    address = repository((TOP / "pyproject.toml").read_text())
    assert "\nDescription-Content-Type: text/markdown\n" in text
    assert f"\nProject-URL: Source, {address}\n" in text
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert len(links) > 25
    for link in links:
        assert link.startswith("https://"), link
        if link.startswith(address):
            file = link.removeprefix(address).partition("#")[0].split("/", 3)[3]
            assert (TOP / file).is_file(), link
    assert f"{address}/raw/{revision(hussh.__version__)}/docs/overview.svg" in links


def test_program(package: Path) -> None:
    """The installed program is the command line of ``python -m hussh``."""
    (entries,) = package.parent.glob("*.egg-info/entry_points.txt")
    assert "hussh = hussh._command_line.main:main\n" in entries.read_text()
    assert callable(main)
