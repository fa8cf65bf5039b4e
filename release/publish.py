"""Makes a release, but for the upload: what scripts/release runs.

Usage: python -m release.publish [--check] VERSION

The order is such that a failure leaves no tag: the changelog and the version are written and
committed, all is built twice and compared, verified, and only then tagged. With --check the commit
and the tag are left out, and the version has to be the one that the tree has. That also works
without git, in an unpacked source distribution.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from release import verify, wheels
from release.addresses import PLACEHOLDER, repository
from release.source import is_clone

__all__ = ["date_changelog", "main", "set_version"]

TOP = Path(__file__).resolve().parents[1]
CHANGELOG = TOP / "CHANGELOG.md"
VERSION = TOP / "hussh/_version.py"
#: What a version may be: a release, or a pre-release of PEP 440 in its normal form.
NUMBER = re.compile(r"\d+\.\d+\.\d+((a|b|rc)\d+|\.dev\d+)?")


def date_changelog(text: str, version: str, day: datetime.date) -> str:
    """Return the changelog with what is unreleased under the heading of a version.

    Raises ValueError: there is nothing unreleased, or that version is there already.
    """
    head, heading, rest = text.partition("## [Unreleased]\n")
    body, mark, older = rest.partition("\n## [")
    if not heading or not body.strip():
        raise ValueError("CHANGELOG.md has nothing under [Unreleased]")
    if f"## [{version}]" in text:
        raise ValueError(f"CHANGELOG.md has {version} already")
    return f"{head}{heading}\n## [{version}] - {day.isoformat()}\n{body.rstrip()}\n{mark}{older}"


def set_version(text: str, version: str) -> str:
    """Return the module `hussh._version` with another version.

    Raises ValueError: the version is not in its normal form (PEP 440).
    """
    if not NUMBER.fullmatch(version):
        raise ValueError(f"{version} is no version such as 0.4.0 or 0.4.0rc1")
    changed, found = re.subn(
        r'^__version__ = ".*"$', f'__version__ = "{version}"', text, flags=re.M
    )
    if found != 1:
        raise ValueError("hussh/_version.py has not one line with __version__")
    return changed


def main(arguments: list[str] | None = None) -> None:
    """Make it, and say what is left to do."""
    parser = argparse.ArgumentParser(prog="scripts/release", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change, commit and tag nothing")
    parser.add_argument("version")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="only these, with --check")
    options = parser.parse_args(arguments)
    if options.targets and not options.check:
        parser.error("a release has wheels for all targets; name some only with --check")
    if not options.check and repository((TOP / "pyproject.toml").read_text()) == PLACEHOLDER:
        raise SystemExit("release: nobody has said where the repository is: "
                         "scripts/repository-address https://HOST/PATH")  # fmt: skip
    tag = f"v{options.version}"
    if is_clone():
        if _git("status", "--porcelain"):
            raise SystemExit("release: commit or remove what git status names first")
        if _git("tag", "--list", tag):
            raise SystemExit(f"release: {tag} is tagged already")
    elif not options.check:
        raise SystemExit("release: this is no clone, so nothing can be tagged: use --check")
    try:
        version = set_version(VERSION.read_text(), options.version)
        if options.check and version != VERSION.read_text():
            raise ValueError(f"hussh/_version.py is not {options.version}")
        changelog = date_changelog(
            CHANGELOG.read_text(),
            options.version,
            datetime.datetime.now(datetime.timezone.utc).date(),
        )
    except ValueError as error:
        raise SystemExit(f"release: {error}") from None
    if not options.check:
        VERSION.write_text(version)
        CHANGELOG.write_text(changelog)
        _git("commit", "-qam", f"Release {options.version}")
    out = TOP / "dist" / options.version
    wheels.main(["--out", str(out), *options.targets])
    with tempfile.TemporaryDirectory(prefix="hussh-release-") as again:
        wheels.main(["--out", again, *options.targets])
        _compare(out, Path(again))
    if verify.main(out):
        raise SystemExit("release: nothing was tagged; mend that, and undo the commit")
    if not options.check:
        _git("tag", "-a", tag, "-m", f"hussh {options.version}")
        print(f"release: {tag} is tagged here; push it, and upload {out} with twine")


def _compare(one: Path, other: Path) -> None:
    for path in sorted(other.iterdir()):
        digests = {
            hashlib.sha256(each.read_bytes()).hexdigest() for each in (path, one / path.name)
        }
        if len(digests) != 1:
            raise SystemExit(f"release: {path.name} has other bytes when it is built again")
        print(f"{digests.pop()}  {path.name}")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=TOP, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"release: {error}")
