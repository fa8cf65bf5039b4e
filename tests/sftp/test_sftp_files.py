"""`conn.sftp` beside `os` on a real sshd: what the one does, the other sees."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hussh import Connection
from hussh._api.sftp import SFTP
from hussh.errors import SFTPError
from tests.support.sshd import Sshd

MIB = 1 << 20


@pytest.fixture
def files(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's, in which the server's relative paths are made."""
    folder = target.alice.files / "sftp"
    folder.mkdir()
    os.chown(folder, target.alice.uid, target.alice.gid)
    yield folder
    shutil.rmtree(folder)


def own(target: Sshd, path: Path) -> Path:
    """Give a file to alice; return it."""
    os.chown(path, target.alice.uid, target.alice.gid, follow_symlinks=False)
    return path


def test_read_and_write_whole_files(either: Connection, files: Path, tmp_path: Path) -> None:
    """Text and bytes arrive as they are, to and from memory and files."""
    either.sftp_write_data("grüße\n", "sftp/text")
    assert (files / "text").read_bytes() == "grüße\n".encode()
    assert either.sftp_read("sftp/text") == "grüße\n"
    data = os.urandom(3 * MIB + 5)
    either.sftp_write_data(data, "sftp/data")
    assert either.sftp_read("sftp/data", encoding=None) == data
    assert either.sftp_read("sftp/data", tmp_path / "copy") == "Ok"
    assert (tmp_path / "copy").read_bytes() == data
    (tmp_path / "short").write_bytes(data[:100])
    either.sftp_write(str(tmp_path / "short"), "sftp/data")
    assert (files / "data").read_bytes() == data[:100]


def test_sizes_around_the_limits(conn: Connection, files: Path) -> None:
    """Sizes at the edges of requests and windows survive both ways."""
    for size in (0, 1, 32768, 261119, 261120, 261121, 262144, 2 * MIB + 1):
        data = os.urandom(size)
        conn.sftp_write_data(data, "sftp/file")
        assert (files / "file").read_bytes() == data
        assert conn.sftp_read("sftp/file", encoding=None) == data


def test_default_remote_path(conn: Connection, target: Sshd, tmp_path: Path) -> None:
    """Without a remote path a file goes to the same path, here one that the server has not."""
    source = tmp_path / "only-here"
    source.write_text("x")
    with pytest.raises((FileNotFoundError, PermissionError)) as caught:
        conn.sftp_write(source)
    assert caught.value.filename == caught.value.filename2 == str(source)


def test_files_that_hide_their_size(conn: Connection) -> None:
    """A file of /proc says that it is empty and is read nevertheless."""
    assert "processor" in str(conn.sftp_read("/proc/cpuinfo"))


def test_not_text(conn: Connection, files: Path) -> None:
    """What is not UTF-8 is refused in words, never changed silently."""
    conn.sftp_write_data(b"ok\xff", "sftp/file")
    with pytest.raises(OSError, match="encoding=None") as caught:
        conn.sftp_read("sftp/file")
    assert isinstance(caught.value, ValueError)
    assert conn.sftp_read("sftp/file", encoding="latin-1") == "ok\xff"


def test_attributes(sftp: SFTP, files: Path, target: Sshd) -> None:
    """Stat, chmod, utime and truncate agree with the file system."""
    path = files / "file"
    sftp._connection.sftp_write_data("12345", "sftp/file")
    sftp.chmod("sftp/file", 0o640)
    sftp.utime("sftp/file", (1_000_000_000, 1_100_000_000.9))
    sftp.truncate("sftp/file", 3)
    sftp.utime("sftp/file", (1_000_000_000, 1_100_000_000.9))
    seen, told = path.stat(), sftp.stat("sftp/file")
    assert path.read_text() == "123"
    assert seen.st_mode == told.st_mode == stat.S_IFREG | 0o640
    assert (told.st_size, told.st_uid, told.st_gid) == (3, seen.st_uid, seen.st_gid)
    assert (told.st_atime, told.st_mtime) == (1_000_000_000, 1_100_000_000)
    assert int(seen.st_mtime) == 1_100_000_000
    sftp.utime("sftp/file")
    assert abs((sftp.stat("sftp/file").st_mtime or 0) - path.stat().st_mtime) <= 1
    with pytest.raises(ValueError, match="1970"):
        sftp.utime("sftp/file", (-1, 0))


def test_directories(sftp: SFTP, files: Path) -> None:
    """Mkdir, makedirs, listdir, scandir, walk, rename, remove and rmdir do as those of os."""
    sftp.mkdir("sftp/a", 0o700)
    assert stat.S_IMODE((files / "a").stat().st_mode) == 0o700
    sftp.makedirs("sftp/b/c/d")
    sftp.makedirs("sftp/b/c/d", exist_ok=True)
    with pytest.raises(FileExistsError):
        sftp.makedirs("sftp/b/c/d")
    sftp._connection.sftp_write_data("x", "sftp/b/file")
    sftp.symlink("file", "sftp/b/link")
    sftp.symlink("nowhere", "sftp/b/broken")
    assert sorted(sftp.listdir("sftp/b")) == ["broken", "c", "file", "link"]
    assert sorted(sftp.listdir(b"sftp/b")) == [b"broken", b"c", b"file", b"link"]
    with sftp.scandir("sftp/b") as entries:
        found = {entry.name: entry for entry in entries}
    assert found["c"].is_dir()
    assert found["file"].is_file()
    assert found["link"].is_symlink()
    assert found["link"].is_file()
    assert not found["link"].is_file(follow_symlinks=False)
    assert not found["broken"].is_file()
    assert found["file"].path == os.fspath(found["file"]) == "sftp/b/file"
    assert found["file"].stat().st_size == 1
    walked = {top: (sorted(dirs), sorted(names)) for top, dirs, names in sftp.walk("sftp")}
    assert walked["sftp/b"] == (["c"], ["broken", "file", "link"])
    assert set(walked) == {"sftp", "sftp/a", "sftp/b", "sftp/b/c", "sftp/b/c/d"}
    assert sftp.readlink("sftp/b/link") == "file"
    assert sftp.lstat("sftp/b/link").st_mode != sftp.stat("sftp/b/link").st_mode
    assert sftp.realpath("sftp/b/../b/link").endswith("sftp/b/file")
    sftp.rename("sftp/b/file", "sftp/a/other")
    sftp._connection.sftp_write_data("new", "sftp/b/file")
    sftp.replace("sftp/b/file", "sftp/a/other")
    assert (files / "a/other").read_text() == "new"
    sftp.remove("sftp/a/other")
    sftp.rmdir("sftp/a")
    assert not (files / "a").exists()
    assert not sftp.exists("sftp/a")
    assert sftp.exists("sftp/b")


def test_many_names(sftp: SFTP, files: Path) -> None:
    """A directory that takes many replies is listed in full."""
    names = {f"name-{number:05}" for number in range(3000)}
    for name in names:
        (files / name).touch()
    assert set(sftp.listdir("sftp")) == names
    assert {entry.name for entry in sftp.scandir("sftp")} == names


def test_names_of_any_bytes(sftp: SFTP, files: Path) -> None:
    """Names of any bytes come back, as bytes and as text with surrogates."""
    for name in (b"with space", b"new\nline", b"\xff\xfe", "ü€".encode(), b"-rf"):
        sftp._connection.sftp_write_data("x", b"sftp/" + name)
        assert os.listdir(os.fsencode(files)) == [name]
        assert sftp.listdir(b"sftp") == [name]
        (text,) = sftp.listdir("sftp")
        assert text == name.decode("utf-8", "surrogateescape")
        assert sftp.stat("sftp/" + text).st_size == 1
        sftp.remove("sftp/" + text)


def test_paths_that_cannot_be(sftp: SFTP) -> None:
    """A NUL and what is no path are refused before anything is sent."""
    with pytest.raises(ValueError, match="null"):
        sftp.stat("a\0b")
    with pytest.raises(TypeError):
        sftp.stat(5)  # type: ignore[arg-type]


@pytest.mark.needs_root
def test_errors_are_those_of_os(sftp: SFTP, files: Path, target: Sshd) -> None:
    """Each failure has the class and the errno that os would have raised, and names the path."""
    (files / "dir").mkdir()
    (files / "dir" / "full").touch()
    (files / "file").touch()
    (files / "closed").mkdir(mode=0o700)
    own(target, files / "dir")
    cases: list[tuple[type[OSError], int, Callable[[], object], str]] = [
        (FileNotFoundError, errno.ENOENT, lambda: sftp.stat("sftp/none"), "sftp/none"),
        (FileNotFoundError, errno.ENOENT, lambda: sftp.open("sftp/none"), "sftp/none"),
        (FileNotFoundError, errno.ENOENT, lambda: sftp.mkdir("sftp/n/n"), "sftp/n/n"),
        (FileExistsError, errno.EEXIST, lambda: sftp.mkdir("sftp/dir"), "sftp/dir"),
        (FileExistsError, errno.EEXIST, lambda: sftp.symlink("x", "sftp/file"), "x"),
        (FileExistsError, errno.EEXIST, lambda: sftp.open("sftp/dir/full", "x"), "sftp/dir/full"),
        (PermissionError, errno.EACCES, lambda: sftp.listdir("sftp/closed"), "sftp/closed"),
        (PermissionError, errno.EACCES, lambda: sftp.open("sftp/file", "w"), "sftp/file"),
        (IsADirectoryError, errno.EISDIR, lambda: sftp.open("sftp/dir", "w"), "sftp/dir"),
        (IsADirectoryError, errno.EISDIR, lambda: sftp.remove("sftp/dir"), "sftp/dir"),
        (NotADirectoryError, errno.ENOTDIR, lambda: sftp.listdir("sftp/file"), "sftp/file"),
        (OSError, errno.ENOTEMPTY, lambda: sftp.rmdir("sftp/dir"), "sftp/dir"),
        (OSError, errno.EINVAL, lambda: sftp.readlink("sftp/file"), "sftp/file"),
        (IsADirectoryError, errno.EISDIR, lambda: sftp.rename("sftp/file", "sftp/dir"),
         "sftp/file"),
    ]  # fmt: skip
    for kind, number, call, path in cases:
        with pytest.raises(kind) as caught:
            call()
        error = caught.value
        assert isinstance(error, SFTPError)
        assert isinstance(error, RuntimeError)
        assert (error.errno, error.filename) == (number, path), str(error)
        assert error.phase == "sftp"
        assert str(target.port) in str(error.hop)


def test_statvfs(sftp: SFTP, files: Path) -> None:
    """The file system's numbers are those that os gives."""
    told, seen = sftp.statvfs("sftp"), os.statvfs(files)
    assert (told.f_frsize, told.f_blocks, told.f_namemax) == (
        seen.f_frsize, seen.f_blocks, seen.f_namemax,
    )  # fmt: skip


# -- open files


def test_open_text(sftp: SFTP, files: Path) -> None:
    """Text files decode, iterate and append as local ones."""
    with sftp.open("sftp/text", "w") as file:
        file.write("eins\nzwei\n")
    with sftp.open("sftp/text", "a") as file:
        assert file.tell() > 0
        file.write("drü\n")
    with sftp.open("sftp/text") as file:
        assert list(file) == ["eins\n", "zwei\n", "drü\n"]
    assert (files / "text").read_bytes() == "eins\nzwei\ndrü\n".encode()


def test_open_with_shutil(either: Connection, files: Path) -> None:
    """`shutil.copyfileobj` copies in both directions, exactly."""
    data = os.urandom(5 * MIB + 3)
    with either.sftp.open("sftp/file", "wb") as target:
        shutil.copyfileobj(io.BytesIO(data), target)
    assert (files / "file").read_bytes() == data
    copy = io.BytesIO()
    with either.sftp.open("sftp/file", "rb") as source:
        shutil.copyfileobj(source, copy)
    assert copy.getvalue() == data


def test_open_raw_and_random_access(sftp: SFTP, files: Path) -> None:
    """Raw reads and writes at any place behave as those of a local file opened likewise."""
    data = bytearray(os.urandom(600_000))
    with sftp.open("sftp/file", "w+b", buffering=0) as raw:
        assert isinstance(raw, io.RawIOBase)
        assert raw.write(data) == len(data)
        for place in (0, 1, 299_999, 599_990):
            raw.seek(place)
            expected = bytes(data[place : place + 20])
            assert raw.read(20) == expected
        raw.seek(-10, io.SEEK_END)
        raw.write(b"0123456789abc")
        data[-10:] = b"0123456789abc"
        raw.seek(5)
        raw.write(b"#")
        data[5:6] = b"#"
        raw.seek(0)
        assert raw.readall() == bytes(data)
        assert raw.stat().st_size == len(data)  # type: ignore[attr-defined]
        raw.sync()  # type: ignore[attr-defined]
        raw.truncate(7)
        assert raw.seek(0, io.SEEK_END) == 7
    assert (files / "file").read_bytes() == bytes(data[:7])
    with pytest.raises(ValueError, match="closed"):
        raw.read()


def test_open_modes(sftp: SFTP, files: Path) -> None:
    """Modes that do not fit are errors, as for the built-in `open`."""
    for mode in ("", "rw", "rr", "q", "rbt"):
        with pytest.raises(ValueError, match="mode"):
            sftp.open("sftp/file", mode)
    with pytest.raises(ValueError, match="buffered"):
        sftp.open("sftp/file", "w", buffering=0)
    with sftp.open("sftp/file", "wb") as file, pytest.raises(io.UnsupportedOperation):
        file.read()
    with sftp.open("sftp/file", "rb") as file, pytest.raises(io.UnsupportedOperation):
        file.write(b"x")


def test_buffered_readers(sftp: SFTP, files: Path) -> None:
    """`io.BufferedReader` over the raw file reads lines and peeks."""
    (files / "file").write_bytes(b"one\ntwo\n" * 10_000)
    raw = sftp.open("sftp/file", "rb", buffering=0)
    with io.BufferedReader(raw) as reader:  # type: ignore[type-var]
        assert reader.peek(3)[:3] == b"one"
        assert sum(1 for _ in reader) == 20_000
