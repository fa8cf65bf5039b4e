"""Makes the source distribution and the wheels of this tree: what scripts/wheels runs.

Usage: python -m release.wheels [--out FOLDER] [TARGET ...]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from release.source import make_sdist
from release.static_libraries import build
from release.targets import TARGETS
from release.wheel import build_wheel

__all__ = ["find_zig", "main"]


def find_zig() -> Path:
    """Return the program of the package ziglang."""
    found = importlib.util.find_spec("ziglang")
    if found is None or found.origin is None:
        raise SystemExit(
            "release: the package ziglang is not installed; scripts/wheels installs it"
        )
    return Path(found.origin).parent / "zig"


def main(arguments: list[str] | None = None) -> None:
    """Make them, and print their paths."""
    parser = argparse.ArgumentParser(prog="scripts/wheels", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="where to put them")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}")
    options = parser.parse_args(arguments)
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"unknown target {sorted(unknown)[0]}; known are {', '.join(TARGETS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    zig = find_zig()
    compiler = f"ziglang=={importlib.metadata.version('ziglang')}"
    with tempfile.TemporaryDirectory(prefix="hussh-release-") as name:
        scratch = Path(name)
        sdist = make_sdist(scratch / "sdist", options.out)
        print(sdist, flush=True)
        for target in options.targets or TARGETS:
            static = build(TARGETS[target], zig, compiler)
            source = scratch / target
            with tarfile.open(sdist) as tar:
                tar.extractall(source)
            (top,) = source.iterdir()
            work = scratch / f"{target}-work"
            work.mkdir()
            print(build_wheel(top, static, TARGETS[target], zig, options.out, work), flush=True)
            shutil.rmtree(work)


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"release: {error}")
