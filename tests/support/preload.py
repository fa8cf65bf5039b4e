"""The library that gives an SSH server accounts of its own where namespaces cannot be made.

For ``tests/support/sshd.py`` and fixtures of other servers. It is compiled from
``sshd_preload.c``, which tells how it works, once in each process that needs it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import pytest

from .processes import clean_environment

_SOURCE = Path(__file__).with_name("sshd_preload.c")
# The first is asked for before a test session has one of its own.
_TEMPORARY = (tempfile.gettempdir(), "/tmp", "/var/tmp")


def with_accounts(etc: Path, *command: str) -> list[str]:
    """Return the command that runs another one with the accounts and names of the folder ``etc``.

    Orphans of all that the other one starts become its children. Skips the test where the library
    cannot be compiled.
    """
    library = _compile()
    if isinstance(library, str):
        pytest.skip(library)
    variables = [f"LD_PRELOAD={library}", f"HUSSH_TEST_ETC={etc}", "HUSSH_TEST_ADOPTS=1"]
    return ["env", *variables, *command]


@cache
def open_folder() -> Path:
    """Return a folder that lasts as long as this process and that other users may pass through.

    For root without namespaces: the accounts of its servers cannot enter the tests' own folders.
    """
    open_to_all = [place for place in _TEMPORARY if _may_be_passed(Path(place))]
    folder = Path(tempfile.mkdtemp(prefix="hussh-", dir=(open_to_all or _TEMPORARY)[0]))
    folder.chmod(0o711)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _may_be_passed(folder: Path) -> bool:
    real = folder.resolve()
    return all(part.is_dir() and part.stat().st_mode & 0o001 for part in (real, *real.parents))


@cache
def _compile() -> Path | str:
    # Return the library, or why there is none.
    if _compiler() is None:
        return "needs a C compiler: without namespaces it makes the accounts of the servers"
    return compile_library(_SOURCE, open_folder() / "sshd_preload.so")


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "cc").split()[0])


def compile_library(source: Path, library: Path) -> Path:
    """Compile a library to be preloaded; returns ``library``. Raises ``OSError``."""
    compiler = _compiler()
    if compiler is None:
        raise OSError(f"no C compiler for {source.name}")
    # fmt: off
    done = subprocess.run(
        [compiler, "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared",
         "-o", library, source, "-ldl"],
        capture_output=True, text=True, env=clean_environment(),
    )
    # fmt: on
    if done.returncode != 0:
        raise OSError(f"cannot compile {source.name}: {done.stderr.strip()}")
    return library
