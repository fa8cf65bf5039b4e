"""Bounds that a user sets for SFTP: bytes read into memory, requests and open files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import OutputLimitExceeded
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.sshd import Sshd


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_max_output(client: Client, there: Path, tmp_path: Path) -> None:
    """A file that is larger than `max_output` is an error that has its first bytes."""
    conn = client.awaited
    data = os.urandom(2_000_000)
    (there / "data").write_bytes(data)
    for most in (0, 1, 100_000, len(data) - 1):
        with pytest.raises(OutputLimitExceeded, match=f"more than {most} bytes") as caught:
            await conn.sftp_read("there/data", encoding=None, max_output=most)
        result = pickle.loads(pickle.dumps(caught.value)).result
        assert (result.stdout_bytes, result.truncated) == (data[:most], True)
        assert caught.value.phase == "sftp"
    for enough in (len(data), len(data) + 1, 1 << 40):
        assert await conn.sftp_read("there/data", encoding=None, max_output=enough) == data
    assert await conn.sftp.get_bytes("there/data", max_output=len(data)) == data
    with pytest.raises(OutputLimitExceeded):
        await conn.sftp.get_bytes("there/data", max_output=10)
    with pytest.raises(OutputLimitExceeded):  # it says that it is empty
        await conn.sftp_read("/proc/self/maps", max_output=10)
    with pytest.raises(ValueError, match="max_output= is for reading into memory"):
        await conn.sftp_read("there/data", tmp_path / "data", max_output=10)
    with pytest.raises(ValueError, match="must not be negative"):
        await conn.sftp_read("there/data", max_output=-1)
    assert await conn.sftp_read("there/data", encoding=None) == data


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_ceilings_are_checked(client: Client) -> None:
    """What is no number from 1 on is refused before anything is opened."""
    wrong: list[tuple[Any, type[Exception]]] = [
        (0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError), (2.5, TypeError),
    ]  # fmt: skip
    for name in ("sftp_requests", "sftp_open_files"):
        for value, error in wrong:
            with pytest.raises(error, match=name):
                await client.connect_to(client.server, **{name: value})


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_ceilings(client: Client, there: Path, tmp_path: Path) -> None:
    """With one request and one open file at a time everything still arrives."""
    session = await client.connect_to(client.server, sftp_requests=1, sftp_open_files=1)
    conn = Awaited(session.real)
    source = tmp_path / "source"
    source.mkdir()
    contents = {f"file{number}": os.urandom(number * 9_000) for number in range(12)}
    for name, data in contents.items():
        (source / name).write_bytes(data)
    done, failed = await conn.sftp_put_dir(source, "there/up")
    assert (len(done), failed) == (12, [])
    done, failed = await conn.sftp_get_dir("there/up", tmp_path / "down")
    assert (len(done), failed) == (12, [])
    back = {path.name: path.read_bytes() for path in (tmp_path / "down").iterdir()}
    assert back == contents
