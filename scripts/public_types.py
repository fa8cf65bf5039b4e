"""Check with pyright what type checkers know of the public interface; `scripts/check` calls it.

A program of a user's (tests/typing/program.py) must be without fault, and the type of every public
name must be known (``pyright --verifytypes``). Names of `hussh.fsspec` are excepted: their classes
are derived from fsspec's, which has no types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
PROGRAM = "tests/typing/program.py"
EXCEPTED = ("hussh.fsspec.", "hussh._fsspec.")


def pyright(*arguments: str) -> dict[str, Any]:
    """Return what pyright reports, with the packages of this interpreter."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(TOP),
    }
    command = [sys.executable, "-m", "pyright", "--outputjson", *arguments]
    done = subprocess.run(
        command, cwd=TOP, env=environment, capture_output=True, text=True, check=False
    )
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"pyright failed:\n{done.stdout}{done.stderr}") from None
    return report


def main() -> int:
    """Print what is wrong; return the exit status."""
    faults = [
        f"{PROGRAM}:{fault['range']['start']['line'] + 1}: {fault['message']}"
        for fault in pyright(PROGRAM)["generalDiagnostics"]
    ]
    known = 0
    for symbol in pyright("--verifytypes", "hussh", "--ignoreexternal")["typeCompleteness"][
        "symbols"
    ]:
        if symbol["isTypeKnown"]:
            known += 1
        elif not symbol["name"].startswith(EXCEPTED):
            reasons = [item["message"] for item in symbol["diagnostics"]] or ["of another one"]
            faults.append(f"{symbol['name']}: {reasons[0]}")
    if known < 1000:
        faults.append(f"only {known} names were found")
    print("\n".join(faults) or f"{known} names have known types")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
