"""Makes the source distribution: setuptools' own, packed so that its bytes depend on nothing else.

What is committed is packed, whatever else lies in the folder.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
import tarfile
from pathlib import Path

from release.wheel import SOURCE_DATE

__all__ = ["make_sdist", "pack"]

TOP = Path(__file__).resolve().parents[1]


def make_sdist(scratch: Path, folder: Path) -> Path:
    """Make it of the last commit.

    Args:
        scratch: a folder that this makes and fills.
        folder: gets the file.

    Returns:
        The file.
    """
    tree = scratch / "tree"
    tree.mkdir(parents=True)
    archive = subprocess.run(
        ["git", "archive", "HEAD"], cwd=TOP, check=True, stdout=subprocess.PIPE
    )
    subprocess.run(["tar", "-x"], cwd=tree, input=archive.stdout, check=True)
    command = [sys.executable, "setup.py", "-q", "sdist", "--dist-dir", str(scratch)]
    subprocess.run(command, cwd=tree, check=True, stdout=subprocess.DEVNULL)
    (made,) = scratch.glob("*.tar.gz")
    packed = folder / made.name
    packed.write_bytes(pack(made.read_bytes()))
    return packed


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
