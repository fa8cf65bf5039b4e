"""asyncssh's server in every API: links that it would make the wrong way round, and the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.asyncssh_server import PASSWORD, asyncssh_server

pytestmark = pytest.mark.parametrize("client", THREE, indirect=True)


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """Return the folder in which sessions start."""
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.fixture
def port(there: Path) -> Iterator[int]:
    """Start the server; return its port."""
    with asyncssh_server(there) as port:
        yield port


async def test_links_and_homes(client: Client, there: Path, port: int, tmp_path: Path) -> None:
    """Links lead where they shall, ``~`` is where the session starts, and directories travel."""
    session = await client.connect("127.0.0.1", port, username="alice", password=PASSWORD)
    conn: Any = Awaited(session.real)
    await conn.sftp_write_data("x", "~/file")
    assert (there / "file").read_text() == "x"
    await conn.sftp.symlink("file", "link")
    assert os.readlink(there / "link") == "file"
    await conn.sftp.symlink(f"{there}/none", "~/to-none")
    assert os.readlink(there / "to-none") == f"{there}/none"
    here = tmp_path / "here"
    (here / "a").mkdir(parents=True)
    (here / "a/file").write_text("y")
    for number in range(5):
        (here / f"a/link{number}").symlink_to("file")
    for _ in range(2):
        result = await conn.sftp_put_dir(here, "~/copy", follow_symlinks=False)
        assert (len(result.transferred), result.failed, result.warnings) == (6, [], ())
    assert {os.readlink(there / f"copy/a/link{number}") for number in range(5)} == {"file"}
    result = await conn.sftp_get_dir("copy", tmp_path / "back", follow_symlinks=False)
    assert (len(result.transferred), result.failed) == (6, [])
    assert sorted(os.listdir(there)) == ["copy", "file", "link", "to-none"]
