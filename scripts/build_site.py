"""Build the site of docs/ into build/site/html; every warning is an error.

For scripts/check and scripts/site, with the environment's Python. A second run reads only the pages
that have changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["SITE", "build"]

TOP = Path(__file__).resolve().parent.parent
#: The folder of the pages.
SITE = TOP / "build/site/html"


def build() -> bool:
    """Build it, and tell whether that went without a warning."""
    work = SITE.parent
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html",
               "-d", str(work / "doctrees"), "docs", str(SITE)]  # fmt: skip
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(command, cwd=TOP, env=environment, check=False)
    if done.returncode:
        # Sphinx warns of a page when it reads it, so the next run must read all again.
        shutil.rmtree(work, ignore_errors=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(not build())
