"""Runs a step of a build whose output is of interest only when it fails."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["run"]

SHOWN = 8000  # characters, from the end


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> None:
    """Run the command there.

    Raises:
        subprocess.CalledProcessError: it failed; the end of its output has been printed.
    """
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        print(done.stdout[-SHOWN:])
        done.check_returncode()
