"""Makes the source distribution: setuptools' own, packed so that its bytes depend on nothing else.

In a clone, what is committed is packed, whatever else lies in the folder. Elsewhere, as in an
unpacked source distribution, it is what lies there; then the result has the same bytes again.
"""

from __future__ import annotations

import gzip
import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from release.wheel import SOURCE_DATE

__all__ = ["is_clone", "make_sdist", "pack"]

TOP = Path(__file__).resolve().parents[1]
#: What builds and tests put into a folder.
_MADE = shutil.ignore_patterns(
    "*.egg-info", "*.so", ".*_cache", ".hypothesis", ".venv", "__pycache__"
)
_MADE_HERE = {"PKG-INFO", "build", "dist", "setup.cfg"}


def is_clone() -> bool:
    """Tell whether this folder is a clone; it may lie in that of something else, too."""
    return (TOP / ".git").exists()


def make_sdist(scratch: Path, folder: Path) -> Path:
    """Make it of the last commit, or of the folder where that is no clone.

    Args:
        scratch: a folder that this makes and fills.
        folder: gets the file.

    Returns:
        The file.
    """
    tree = scratch / "tree"
    scratch.mkdir(parents=True)
    if is_clone():
        tree.mkdir()
        archive = subprocess.run(
            ["git", "archive", "HEAD"], cwd=TOP, check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    else:
        shutil.copytree(TOP, tree, ignore=_is_made)
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(scratch)]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (made,) = scratch.glob("*.tar.gz")
    packed = folder / made.name
    packed.write_bytes(pack(made.read_bytes()))
    return packed


def _is_made(folder: str, names: list[str]) -> set[str]:
    """Return which files of a folder are not source."""
    return _MADE(folder, names) | (_MADE_HERE if Path(folder) == TOP else set())


def pack(archive: bytes) -> bytes:
    """Return an archive with the same files, without owners and times, in the order of names."""
    result = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive)) as given,
        gzip.GzipFile(filename="", fileobj=result, mode="wb", mtime=SOURCE_DATE) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as made,
    ):
        for member in sorted(given.getmembers(), key=lambda each: each.name):
            if not member.isfile():
                continue
            plain = tarfile.TarInfo(member.name)
            plain.size = member.size
            plain.mtime = SOURCE_DATE
            plain.mode = 0o755 if member.mode & 0o100 else 0o644
            made.addfile(plain, given.extractfile(member))
    return result.getvalue()
