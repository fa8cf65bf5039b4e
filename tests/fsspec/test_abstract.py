"""fsspec's own suite for file systems passes, over a real sshd."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.sshd import Sshd

ROOT = Path(__file__).parents[2]
#: Without HUSSH_LONG=1 few of its many variants of patterns.
CHOSEN = [] if os.environ.get("HUSSH_LONG") == "1" else ["-k", "not edge_cases or expected7"]


@pytest.mark.skipif(importlib.util.find_spec("fsspec") is None, reason="fsspec is not installed")
def test_suite(target: Sshd, tmp_path: Path) -> None:
    """All tests of the suite pass with one file system, which logs in once."""
    options = {
        "host": target.host, "port": target.port, "username": target.alice.name,
        "private_key": str(target.alice.key.path),
    }  # fmt: skip
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    with target.alice.folder("abstract"):
        given = json.dumps([options, target.alice.path("abstract")])
        ran = subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist",
                "-c", tmp_path / "pytest.ini", "--noconftest", "--import-mode=importlib",
                f"--basetemp={tmp_path}/inner", *CHOSEN, ROOT / "tests/fsspec/abstract_suite.py",
            ],
            capture_output=True, text=True, cwd=ROOT,
            env={**os.environ, "HUSSH_ABSTRACT": given, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr
    counted = re.search(r"^(\d+) passed(, \d+ deselected)? in", ran.stdout, re.MULTILINE)
    assert counted is not None, ran.stdout[-400:]
    assert int(counted[1]) > (40 if CHOSEN else 130)
    assert len(target.authentications()) == 1
