"""What the scripts share, tried in a small tree of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]


def test_a_changed_source_is_noticed(tmp_path: Path) -> None:
    """The library is built again when a source has changed, whatever else is not to be had.

    A header that is looked for in two places exists in one; here `cat` says so always.
    """
    (tmp_path / "scripts").mkdir()
    (tmp_path / "csrc").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(TOP / "scripts/lib.sh", tmp_path / "scripts")
    tell = tmp_path / "scripts/tell"
    tell.write_text('. "$(dirname "$0")/lib.sh"\nfingerprint\n')
    source = tmp_path / "csrc/some.c"
    cat = tmp_path / "bin/cat"
    cat.write_text('#!/bin/sh\n/bin/cat "$@"\nexit 1\n')
    cat.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def fingerprint() -> str:
        return subprocess.run(
            ["sh", tell],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    source.write_text("int one;\n")
    first = fingerprint()
    assert fingerprint() == first
    source.write_text("int two;\n")
    assert fingerprint() != first
