"""The demonstration, which README asks a stranger to run first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.accounts import OBSTACLE
from tests.support.processes import clean_environment

TOP = Path(__file__).resolve().parents[2]


def run(*prefix: str) -> str:
    """Return what the demonstration says."""
    done = subprocess.run(
        [*prefix, sys.executable, "scripts/demo.py"],
        cwd=TOP,
        env=clean_environment(PYTHONDONTWRITEBYTECODE="1"),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_demo_here() -> None:
    """It ends with a greeting from the target, and says what of it cannot be had here."""
    output = run()
    assert "hello from target, as alice" in output
    assert "The bastion's log: 1 login, forwarded to target.internal:" in output
    if OBSTACLE:
        assert "no namespaces: " in output


@pytest.mark.needs_root
def test_demo_in_a_container() -> None:
    """Where root may make no namespaces it says what unshare said, and goes on."""
    output = run("scripts/restricted", "container")
    assert "no namespaces: unshare: unshare failed: Operation not permitted." in output
    assert "hello from target, as alice" in output
