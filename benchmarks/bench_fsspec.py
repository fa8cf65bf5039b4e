"""`hussh.fsspec` beside `sshfs`, the file system of asyncssh, in one run; writes a page in docs/.

Both work in one process, in the loop of fsspec, in turn, repetition by repetition. What is copied
is compared with its source. Run it through scripts/bench --fsspec.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from sshfs import SSHFileSystem  # noqa: E402

from hussh.fsspec import HusshFileSystem  # noqa: E402
from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

NAMES = 10_000
SMALL = 200
Work = Callable[[Any, str, Path], int]


def upload(fs: Any, top: str, here: Path) -> int:
    """Put one large file."""
    fs.put_file(str(here / "large"), f"{top}/up")
    return 0


def download(fs: Any, top: str, here: Path) -> int:
    """Get one large file."""
    fs.get_file(f"{top}/large", str(here / "down"))
    return (here / "down").stat().st_size


def write(fs: Any, top: str, here: Path) -> int:
    """Write one large file by `open`, in pieces of 1 MiB."""
    piece = bytes(1 << 20)
    with fs.open(f"{top}/written", "wb") as file:
        for _ in range((here / "large").stat().st_size >> 20):
            file.write(piece)
    return 0


def read(fs: Any, top: str, here: Path) -> int:
    """Read one large file by `open`, in pieces of 1 MiB."""
    count = 0
    with fs.open(f"{top}/large", "rb") as file:
        while part := file.read(1 << 20):
            count += len(part)
    return count


def listing(fs: Any, top: str, here: Path) -> int:
    """List a directory of many names with their details."""
    return len(fs.ls(f"{top}/many", detail=True))


def small(fs: Any, top: str, here: Path) -> int:
    """Fetch the contents of small files in one call."""
    found = fs.cat([f"{top}/many/{number:05}" for number in range(SMALL)])
    return len(found)


ROWS: dict[str, Work] = {
    "put_file": upload, "get_file": download, "open(…, 'wb')": write, "open(…, 'rb')": read,
    f"ls of {NAMES} names": listing, f"cat of {SMALL} small files": small,
}  # fmt: skip


def measure(repetitions: int, size: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each client for each row."""
    found: dict[str, dict[str, list[float]]] = {row: {} for row in ROWS}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        (base / "keys").mkdir()
        with Sshd(base / "sshd", Keys(base / "keys"), name="target") as server:
            alice = server.alice
            top, here = alice.path("bench"), base / "here"
            (alice.files / "bench/many").mkdir(parents=True)
            here.mkdir()
            for number in range(NAMES):
                (alice.files / f"bench/many/{number:05}").write_bytes(b"x" * 100)
            for path in (here / "large", alice.files / "bench/large"):
                path.write_bytes(os.urandom(1 << 20) * (size >> 20))
            for name in ("bench", "bench/many", "bench/large"):
                os.chown(alice.files / name, alice.uid, alice.gid)
            clients = {
                "hussh": HusshFileSystem(
                    server.host, port=server.port, username=alice.name,
                    private_key=str(alice.key.path),
                ),
                "sshfs": SSHFileSystem(
                    server.host, port=server.port, username=alice.name,
                    client_keys=[str(alice.key.path)],
                ),
            }  # fmt: skip
            expected = {
                "get_file": size, "open(…, 'rb')": size, f"ls of {NAMES} names": NAMES,
                f"cat of {SMALL} small files": SMALL,
            }  # fmt: skip
            for turn in range(repetitions + 1):  # the first warms up
                for row, work in ROWS.items():
                    for name, fs in clients.items():
                        start = time.perf_counter()
                        count = work(fs, top, here)
                        seconds = time.perf_counter() - start
                        if count != expected.get(row, 0):
                            raise RuntimeError(f"{row}: {name} has {count}")
                        if turn:
                            found[row].setdefault(name, []).append(seconds)
            if (alice.files / "bench/up").read_bytes() != (here / "large").read_bytes():
                raise RuntimeError("the upload is not what was sent")
            clients["hussh"].close()
    return found


def report(found: dict[str, dict[str, list[float]]], size: int, count: int) -> str:
    """Return the page."""
    major, minor = openssh_version()
    told = (
        f"One run of `scripts/bench --fsspec`: {count} repetitions in turn, medians of both, a file"
        f" of {size >> 20} MiB, sshd and client on one machine ({os.cpu_count()} cores, load"
        f" {os.getloadavg()[0]:.0f} at the end, {platform.machine()}, OpenSSH {major}.{minor},"
        f" Python {platform.python_version()}). The number says how many times the time of"
        " `hussh.fsspec.HusshFileSystem` the package `sshfs` takes."
    )
    lines = [
        "# fsspec, measured",
        "",
        told,
        "",
        "| | sshfs / hussh |",
        "|---|---|",
    ]
    for row, times in found.items():
        ratio = statistics.median(times["sshfs"]) / statistics.median(times["hussh"])
        lines.append(f"| `{row}` | {ratio:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=64)
    parser.add_argument("--output", type=Path, default=TOP / "docs/benchmarks-fsspec.md")
    given = parser.parse_args()
    size = given.megabytes << 20
    page = report(measure(given.repetitions, size), size, given.repetitions)
    given.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
