"""Sizes, names and errors on a real sshd, and the file objects of `io`.

What every API has is in `tests/conformance/test_files.py`.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from hussh._api.sftp import SFTP
from hussh.errors import SFTPError
from tests.support.relay import Relay
from tests.support.sshd import Sshd

MIB = 1 << 20


@pytest.fixture
def files(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's, in which the server's relative paths are made."""
    with target.alice.folder("sftp") as folder:
        yield folder


def own(target: Sshd, path: Path) -> Path:
    """Give a file to alice; return it."""
    os.chown(path, target.alice.uid, target.alice.gid, follow_symlinks=False)
    return path


def test_sizes_around_the_limits(conn: Connection, files: Path) -> None:
    """Sizes at the edges of requests and windows survive both ways."""
    for size in (0, 1, 32768, 261119, 261120, 261121, 262144, 2 * MIB + 1):
        data = os.urandom(size)
        conn.sftp_write_data(data, "sftp/file")
        assert (files / "file").read_bytes() == data
        assert conn.sftp_read("sftp/file", encoding=None) == data


def test_default_remote_path(conn: Connection, target: Sshd, tmp_path: Path) -> None:
    """Without a remote path a file goes to the same path, here one that it may not write to."""
    source = tmp_path / "only-here"
    source.write_text("x")
    source.chmod(0o400)  # where the server has our files and our user
    with pytest.raises((FileNotFoundError, PermissionError)) as caught:
        conn.sftp_write(source)
    assert caught.value.filename == caught.value.filename2 == str(source)


def test_files_that_hide_their_size(conn: Connection) -> None:
    """A file of /proc says that it is empty and is read nevertheless."""
    assert "processor" in str(conn.sftp_read("/proc/cpuinfo"))


def test_many_names(sftp: SFTP, files: Path) -> None:
    """A directory that takes many replies is listed in full."""
    names = {f"name-{number:05}" for number in range(3000)}
    for name in names:
        (files / name).touch()
    assert set(sftp.listdir("sftp")) == names
    assert {entry.name for entry in sftp.scandir("sftp")} == names


def test_names_of_any_bytes(conn: Connection, sftp: SFTP, files: Path) -> None:
    """Names of any bytes come back, as bytes and as text with surrogates."""
    for name in (b"with space", b"new\nline", b"\xff\xfe", "ü€".encode(), b"-rf"):
        conn.sftp_write_data("x", b"sftp/" + name)
        assert os.listdir(os.fsencode(files)) == [name]
        assert sftp.listdir(b"sftp") == [name]
        (text,) = sftp.listdir("sftp")
        assert text == name.decode("utf-8", "surrogateescape")
        assert sftp.stat("sftp/" + text).st_size == 1
        sftp.remove("sftp/" + text)


def test_errors_are_those_of_os(sftp: SFTP, files: Path, target: Sshd) -> None:
    """Each failure has the class and the errno that os would have raised, and names the path."""
    (files / "dir").mkdir()
    (files / "dir" / "full").touch()
    (files / "file").touch(mode=0o444)
    (files / "closed").mkdir(mode=0)
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


# -- open files


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


def test_buffered_readers(sftp: SFTP, files: Path) -> None:
    """`io.BufferedReader` over the raw file reads lines and peeks."""
    (files / "file").write_bytes(b"one\ntwo\n" * 10_000)
    raw = sftp.open("sftp/file", "rb", buffering=0)
    with io.BufferedReader(raw) as reader:  # type: ignore[type-var]
        assert reader.peek(3)[:3] == b"one"
        assert sum(1 for _ in reader) == 20_000


def drop_in_time(held: list[Any]) -> bool:
    """Drop what a list holds, in a thread; whether that was done without anybody's answer."""
    thread = threading.Thread(target=held.clear)
    thread.start()
    thread.join(20)
    return not thread.is_alive()


@pytest.mark.parametrize("mode", ["rb", "r", "wb", "w", "r+b"])
def test_dropped_while_the_server_is_mute(
    mode: str, target: Sshd, files: Path, relay_factory: Callable[..., Relay]
) -> None:
    """The finalizer of a file with nothing left to write asks nobody and waits for nobody."""
    relay = relay_factory(target)
    with Connection(
        relay.host, relay.port, target.alice.name,
        private_key=target.alice.key.path, host_key_policy="ignore",
    ) as connection:  # fmt: skip
        connection.sftp_write_data("abc", "sftp/file")
        held: list[Any] = [connection.sftp.open("sftp/file", mode)]
        if mode[0] == "w":
            held[0].write("x" if mode == "w" else b"x")
            held[0].flush()
        else:
            assert held[0].read(1)
        handle = getattr(held[0], "buffer", held[0]).raw._file.stream.handle
        relay.freeze()
        done = drop_in_time(held)
        relay.thaw()
        assert done
        assert connection.sftp.exists("sftp/file")
        assert handle.closed


@pytest.mark.parametrize("mode", ["wb", "w"])
def test_dropped_with_something_to_write(mode: str, sftp: SFTP, files: Path) -> None:
    """As of any file, what its buffer holds is written when it is dropped."""
    sftp.open("sftp/file", mode).write("abc" if mode == "w" else b"abc")
    assert (files / "file").read_text() == "abc"
