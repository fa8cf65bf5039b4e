"""Erlang's SFTP server as target: it gives the handle of an open file to another one."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from tests.support.erlang_ssh import PASSWORD, USER, ErlangSsh, erlang_ssh


@pytest.fixture
def erlang(tmp_path: Path) -> Iterator[ErlangSsh]:
    """Start a daemon whose files are the test's own."""
    (tmp_path / "erlang").mkdir()
    with erlang_ssh(tmp_path / "erlang") as server:
        yield server


def options(server: ErlangSsh) -> dict[str, Any]:
    return {
        "host": server.host,
        "port": server.port,
        "username": USER,
        "password": PASSWORD,
        "agent": False,
        "host_key_policy": "ignore",
    }


def make_files(folder: Path) -> dict[str, bytes]:
    """Make sixty files, the last of them a large one; return their contents by name."""
    contents = {f"file{n}": b"%d " % n * 700 for n in range(59)}
    contents["large"] = os.urandom(1 << 20)
    folder.mkdir()
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return contents


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_directories(erlang: ErlangSsh, tmp_path: Path) -> None:
    """Sixty files go there and come back as they were; none is done that is not."""
    contents = make_files(tmp_path / "source")
    with Connection(**options(erlang), timeout=60_000) as conn:
        up = str(erlang.files / "up")
        done, failed = conn.sftp_put_dir(tmp_path / "source", up, preserve_permissions=False)
        assert (len(done), failed) == (60, [])
        assert read_files(erlang.files / "up") == contents
    with Connection(**options(erlang), timeout=60_000) as conn:
        done, failed = conn.sftp_get_dir(up, tmp_path / "down")
        assert (len(done), failed) == (60, [])
        assert read_files(tmp_path / "down") == contents


def test_directories_of_a_task(erlang: ErlangSsh, tmp_path: Path) -> None:
    """The same with the async API."""
    contents = make_files(tmp_path / "source")

    async def main() -> None:
        async with AsyncConnection(**options(erlang), timeout=60) as conn:
            up = str(erlang.files / "up")
            done, failed = await conn.sftp_put_dir(
                tmp_path / "source", up, preserve_permissions=False
            )
            assert (len(done), failed) == (60, [])
        assert read_files(erlang.files / "up") == contents
        async with AsyncConnection(**options(erlang), timeout=60) as conn:
            done, failed = await conn.sftp_get_dir(up, tmp_path / "down")
            assert (len(done), failed) == (60, [])

    anyio.run(main)
    assert read_files(tmp_path / "down") == contents


def test_threads(erlang: ErlangSsh) -> None:
    """Transfers of eight threads do not write into one another's files."""
    faults: list[object] = []

    def transfer(conn: Connection, number: int) -> None:
        for turn in range(5):
            name, data = f"{number}-{turn}", os.urandom(100_000)
            conn.sftp_write_data(data, name)
            back = conn.sftp_read(name, encoding=None)
            if back != data or (erlang.files / name).read_bytes() != data:
                faults.append(name)

    def run(conn: Connection, number: int) -> None:
        try:
            transfer(conn, number)
        except Exception as error:
            faults.append(error)

    with Connection(**options(erlang), timeout=60_000) as conn:
        threads = [threading.Thread(target=run, args=(conn, number)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not faults
