"""Print the requirements of hussh, one per line, for pip: run time, build and named groups.

For scripts/lib.sh. The pip of Debian 12 knows no dependency groups (PEP 735) yet, so this reads
them from pyproject.toml. Usage: requirements.py [GROUP ...]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:  # every pip carries a copy of what later became tomllib
    from pip._vendor import tomli as tomllib


def main(groups: list[str]) -> None:
    """Print the list."""
    path = Path(__file__).resolve().parent.parent / "pyproject.toml"
    project: dict[str, Any] = tomllib.loads(path.read_text())
    found = [*project["build-system"]["requires"], *project["project"]["dependencies"]]
    for group in groups:
        found += project["dependency-groups"][group]
    print("\n".join(dict.fromkeys(found)))


if __name__ == "__main__":
    main(sys.argv[1:])
