"""Files of the package hussh 0.3.3 in the same folder: nothing is imported that is half of each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from tests.support.processes import clean_environment

PACKAGE = Path(__file__).resolve().parents[2] / "hussh"


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Return a folder with this package, into which the older one put its compiled module."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    folder = Path(shutil.copytree(PACKAGE, tmp_path / "hussh", ignore=ignored))
    for module in (PACKAGE / "_native").glob("*.so"):
        os.symlink(module, folder / "_native" / module.name)
    (folder / f"hussh{EXTENSION_SUFFIXES[0]}").touch()
    return tmp_path


def import_there(folder: Path, module: str) -> str:
    """Return what an import prints."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", f"import {module}; print('imported')"],
        cwd=folder, env=clean_environment(), capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout or done.stderr


def test_older_package_came_first(mixed: Path) -> None:
    """With our __init__.py the import says what is there twice, and what to do."""
    said = import_there(mixed, "hussh")
    assert "ImportError: " in said
    assert f"{mixed}/hussh has the files of two packages" in said
    assert "pip uninstall" in said


def test_older_package_came_last(mixed: Path) -> None:
    """With the __init__.py of the older package our modules refuse to be its submodules."""
    (mixed / "hussh/__init__.py").write_text("# from .hussh import *\n")
    for module in ("hussh.aio", "hussh.multi_conn", "hussh.errors", "hussh.fsspec"):
        assert "ImportError: " in import_there(mixed, module)
        assert "files of two packages" in import_there(mixed, module)


def test_nothing_is_refused_alone(mixed: Path) -> None:
    """Without that file the same folder is imported."""
    (mixed / f"hussh/hussh{EXTENSION_SUFFIXES[0]}").unlink()
    assert import_there(mixed, "hussh") == "imported\n"
