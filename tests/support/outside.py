"""Finding what a test wrote outside its own folder: in the user's home, or in the working copy.

For ``tests/conftest.py`` (a hook around every test). It only compares names, because a whole
machine cannot be watched: a server that starts in the user's real home instead of one of its own
makes files there, and a test that uses a relative path makes them in the working copy. Hidden names
belong to the programs that the user runs meanwhile, but for ``.ssh``. A stricter way to ask the
same question is ``scripts/restricted container``, where all other folders are read-only.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
# In the working copy.
_MADE_BY_SCRIPTS = {"build"}


def _watched_folders() -> list[Path]:
    homes = {Path(os.environ.get("HOME", "/"))}
    with contextlib.suppress(KeyError):  # a uid without an account
        homes.add(Path(pwd.getpwuid(os.getuid()).pw_dir))
    return [*homes, *(home / ".ssh" for home in homes), TOP]


#: The folders in which a test may make nothing. They are asked for before a test has its own HOME.
WATCHED = _watched_folders()


def names_in(folders: Iterable[Path]) -> set[Path]:
    """Return what is in these folders now."""
    found = set()
    for folder in folders:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder):
                if name not in _MADE_BY_SCRIPTS and not name.startswith("."):
                    found.add(folder / name)
    return found
