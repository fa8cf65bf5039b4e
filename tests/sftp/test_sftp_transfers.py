"""Single files: progress, bounded memory, and failures that name both ends and what is kept."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from time import monotonic

import pytest

from hussh import Connection
from hussh.errors import SFTPError
from tests.conformance.memory import peak_kib, reset_peak
from tests.sftp.conftest import Connect
from tests.support.sshd import Sshd

MIB = 1 << 20
LONG = os.environ.get("HUSSH_LONG") == "1"
HUGE = (2048 if LONG else 128) * MIB


@pytest.fixture
def huge(target: Sshd, tmp_path: Path) -> Iterator[Path]:
    """Return a local file, of which the server has a copy, that takes no room."""
    for path in (tmp_path / "huge", target.alice.files / "huge"):
        with path.open("wb") as file:
            file.truncate(HUGE)
    yield tmp_path / "huge"
    (target.alice.files / "huge").unlink()


class Reports:
    """A progress callback that notes what it is told."""

    def __init__(self, *, fail: BaseException | None = None) -> None:
        """With `fail` it raises that at the first call."""
        self.calls: list[tuple[float, int, int | None]] = []
        self.fail = fail

    def __call__(self, done: int, total: int | None) -> None:
        """Be told."""
        self.calls.append((monotonic(), done, total))
        if self.fail is not None:
            raise self.fail

    def check(self, size: int) -> None:
        """Rising, at most every 100 ms but for the last, which says that all is done."""
        times, done, totals = zip(*self.calls, strict=True)
        assert list(done) == sorted(done)
        assert done[-1] == size
        assert set(totals) == {size}
        gaps = [after - before for before, after in pairwise(times[:-1])]
        assert all(gap >= 0.099 for gap in gaps)


def test_progress_and_memory(either: Connection, huge: Path) -> None:
    """Large files stream in less than 32 MiB, and tell how far they are."""
    either.sftp.stat("huge")
    for up in (False, True):
        reports = Reports()
        gc.collect()
        before, _ = peak_kib()
        reset_peak()
        if up:
            either.sftp_write(huge, "/dev/null", progress=reports)
        else:
            either.sftp_read("huge", "/dev/null", progress=reports)
        _, peak = peak_kib()
        assert peak - before < 32 * 1024
        reports.check(HUGE)


def test_progress_of_small_files(conn: Connection, tmp_path: Path) -> None:
    """A quick transfer reports once, at its end; an empty one does, too."""
    for size in (0, 5):
        (tmp_path / "file").write_bytes(bytes(size))
        reports = Reports()
        conn.sftp_write(tmp_path / "file", "small-progress", progress=reports)
        conn.sftp_read("small-progress", progress=reports)
        assert [call[1:] for call in reports.calls] == [(size, size)] * 2


@pytest.mark.parametrize("error", [KeyError("stop"), OSError(5, "mine"), KeyboardInterrupt()])
def test_progress_that_raises(
    conn: Connection, huge: Path, tmp_path: Path, target: Sshd, error: BaseException
) -> None:
    """What a callback raises ends the transfer at once and comes out as it is."""
    for up in (False, True):
        reports = Reports(fail=error)
        copy = conn.sftp.put if up else conn.sftp.get
        source, place = (huge, "part") if up else ("huge", tmp_path / "part")
        with pytest.raises(type(error)) as caught:
            copy(source, place, progress=reports)
        assert monotonic() - reports.calls[0][0] < 20
        assert caught.value is error
        assert len(reports.calls) == 1
        assert conn.sftp.stat("huge").st_size == HUGE
    kept = (tmp_path / "part").stat().st_size
    assert 0 < kept < HUGE
    (target.alice.files / "part").unlink()


def test_progress_must_be_callable(conn: Connection) -> None:
    """Another type is a TypeError before anything is sent."""
    with pytest.raises(TypeError, match="callable"):
        conn.sftp_read("x", progress=1)  # type: ignore[call-overload]


@pytest.mark.needs_root
def test_a_full_remote_disk(
    connect: Connect, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """ENOSPC there is an OSError with that errno; what fitted is kept and counted."""
    server = sshd_factory()
    conn = connect(server)
    conn.sftp.mkdir("disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size=1m,uid={server.alice.uid}", "tmpfs"]
    enter = ["nsenter", "--mount", "--target", str(server._pid)]
    subprocess.run([*enter, *mount, server.alice.path("disk")], check=True)
    # Sessions share the mounts of the daemon they came from, so this one sees it.
    (tmp_path / "file").write_bytes(bytes(3 * MIB))
    with pytest.raises(SFTPError, match="No space left on device") as caught:
        conn.sftp_write(tmp_path / "file", "disk/file")
    error = caught.value
    assert (error.errno, error.filename, error.filename2) == (
        errno.ENOSPC, str(tmp_path / "file"), "disk/file",
    )  # fmt: skip
    assert error.transferred is not None
    assert 0 < error.transferred <= conn.sftp.stat("disk/file").st_size <= MIB  # type: ignore[operator]
    assert f"{error.transferred} bytes" in str(error)


def test_a_full_local_disk(conn: Connection, huge: Path) -> None:
    """ENOSPC here is the same, and says on which side."""
    with pytest.raises(SFTPError, match="on this machine") as caught:
        conn.sftp_read("huge", "/dev/full")
    error = caught.value
    assert (error.errno, error.filename, error.filename2) == (errno.ENOSPC, "huge", "/dev/full")
    assert isinstance(error.__cause__, OSError)


def test_what_cannot_be_opened(conn: Connection, target: Sshd, tmp_path: Path) -> None:
    """Missing files, directories in place of files and closed folders name both ends."""
    home = target.alice.files
    (home / "folder").mkdir(exist_ok=True)
    (home / "closed").mkdir(mode=0o555, exist_ok=True)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x")
    conn.sftp_write_data("x", "file")
    here = str(tmp_path)
    downloads = [
        (FileNotFoundError, "none", f"{here}/new"),
        (IsADirectoryError, "folder", f"{here}/new"),
        (FileNotFoundError, "file", f"{here}/none/new"),
        (IsADirectoryError, "file", f"{here}/folder"),
        (NotADirectoryError, "file", f"{here}/file/new"),
    ]
    uploads = [
        (FileNotFoundError, f"{here}/none", "new"),
        (IsADirectoryError, f"{here}/folder", "new"),
        (FileNotFoundError, f"{here}/file", "none/new"),
        (IsADirectoryError, f"{here}/file", "folder"),
        (PermissionError, f"{here}/file", "closed/new"),
    ]
    for kind, source, place in downloads:
        with pytest.raises(kind) as caught:
            conn.sftp_read(source, place)
        assert (caught.value.filename, caught.value.filename2) == (source, place)
    for kind, source, place in uploads:
        with pytest.raises(kind) as caught:
            conn.sftp_write(source, place)
        assert (caught.value.filename, caught.value.filename2) == (source, place)
    assert not (tmp_path / "new").exists()
    assert not (home / "new").exists()
    for name in ("folder", "closed"):
        (home / name).rmdir()


def test_an_existing_file_survives_a_missing_source(conn: Connection, tmp_path: Path) -> None:
    """Neither end is emptied before the other is open."""
    (tmp_path / "file").write_text("keep")
    with pytest.raises(FileNotFoundError):
        conn.sftp_read("none", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "keep"
    conn.sftp_write_data("keep", "survivor")
    with pytest.raises(FileNotFoundError):
        conn.sftp_write(tmp_path / "none", "survivor")
    assert conn.sftp_read("survivor") == "keep"


def test_a_longer_file_is_cut(conn: Connection, tmp_path: Path) -> None:
    """A file that was longer before has no old end afterwards, either way."""
    conn.sftp_write_data(b"x" * 100_000, "cut")
    conn.sftp_write_data(b"y" * 10, "cut")
    (tmp_path / "cut").write_bytes(b"z" * 100_000)
    conn.sftp_read("cut", tmp_path / "cut")
    assert (tmp_path / "cut").read_bytes() == b"y" * 10


def test_pipes_as_local_ends(conn: Connection, target: Sshd) -> None:
    """A pipe can be read from and written to, as its size is not asked for."""
    data = os.urandom(300_000)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        assert cat.stdin is not None
        assert cat.stdout is not None
        conn.sftp_write_data(data[:60_000], "piped")
        conn.sftp_read("piped", f"/dev/fd/{cat.stdin.fileno()}")
        cat.stdin.close()
        conn.sftp_write(f"/dev/fd/{cat.stdout.fileno()}", "back")
    assert (target.alice.files / "back").read_bytes() == data[:60_000]
