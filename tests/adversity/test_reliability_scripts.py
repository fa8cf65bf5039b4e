"""`scripts/soak` and `scripts/chaos` still work: a few of their rounds find nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.processes import clean_environment

TOP = Path(__file__).parents[2]
LONG = os.environ.get("HUSSH_LONG") == "1"


def run(module: str, home: Path, *arguments: str) -> str:
    """Run one of them to its end; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.reliability.{module}", *arguments],
        cwd=TOP,
        env=clean_environment(HOME=str(home), TMPDIR=os.environ.get("TMPDIR", "/tmp")),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_soak(home: Path) -> None:
    """A round in each API: nothing is left afterwards."""
    arguments = ["1"] if LONG else ["0", "--only", "connect"]
    printed = run("soak", home, *arguments)
    assert "nothing grew" in printed
    assert ("sftp" in printed) is LONG


def test_chaos(home: Path) -> None:
    """Two drawn rounds over two and three hops, with what no answer may suffer from."""
    arguments = ["2", "--rounds", "40"] if LONG else ["1", "--round", "3", "--rounds", "2"]
    printed = run("chaos", home, *arguments, "--seed", "1166", "--lanes", "1")
    assert "nothing found" in printed
    assert LONG or "2 rounds in" in printed
