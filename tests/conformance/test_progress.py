"""The progress of directory transfers: numbers for a callback, bars for a person, in every API."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import redirect_stderr
from functools import partial
from pathlib import Path

import pytest

from hussh._api.transfer_bars import show_bars
from hussh._protocol.sftp.transfer_context import Meter
from tests.conformance.client import Client
from tests.conformance.conftest import THREE
from tests.support.sshd import Sshd
from tests.support.terminal import Terminal

pytestmark = pytest.mark.parametrize("client", THREE, indirect=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a folder with small files, a large one and a link."""
    top = tmp_path / "source"
    (top / "a/b").mkdir(parents=True)
    for number in range(20):
        (top / f"a/b/{number}").write_bytes(bytes(1000))
    (top / "large").write_bytes(bytes(600_000))
    (top / "a/link").symlink_to("b/1")
    return top


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


async def test_numbers(
    client: Client, there: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes only grow, the total is that of all files once it is known, and the end is told."""
    conn = client.awaited
    for module in ("tree", "transfer"):  # every step is told, not only some in a second
        monkeypatch.setattr(f"hussh._protocol.sftp.{module}.Meter", partial(Meter, every=0.0))
    for follow, total in ((True, 621_000), (False, 620_000)):
        for way in ("put", "get"):
            seen: list[tuple[int, int | None]] = []
            paths = (
                (source, f"there/{total}")
                if way == "put"
                else (f"there/{total}", tmp_path / f"{total}")
            )
            call = conn.sftp_put_dir if way == "put" else conn.sftp_get_dir
            result = await call(*paths, follow, progress=lambda *n, to=seen: to.append(n))
            assert (len(result.transferred), result.failed) == (22, [])
            assert seen[-1] == (total, total)
            assert seen == sorted(seen, key=lambda one: one[0])
            assert {known for _, known in seen} <= {total, None}


async def test_what_it_raises(client: Client, there: Path, source: Path, tmp_path: Path) -> None:
    """What the callback raises comes out as it is, also from the middle of a large file."""
    conn = client.awaited
    error = PermissionError(13, "not a file's")

    def refuse(done: int, total: int | None) -> None:
        raise error

    await conn.sftp_put_dir(source, "there/x")
    for call, paths in (
        (conn.sftp_put_dir, (source, "there/y")),
        (conn.sftp_get_dir, ("there/x", tmp_path / "back")),
    ):
        with pytest.raises(PermissionError) as caught:
            await call(*paths, progress=refuse)
        assert caught.value is error
    with pytest.raises(TypeError, match="progress must be callable"):
        await conn.sftp_put_dir(source, "there/y", progress=7)


async def test_bars(
    client: Client,
    there: Path,
    source: Path,
    tmp_path: Path,
    terminal: Terminal,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With True a terminal sees bytes and files, and other outputs nothing."""
    conn = client.awaited
    with redirect_stderr(terminal):
        await conn.sftp_put_dir(source, "there/x", progress=True)
        await conn.sftp_get_dir("there/x", tmp_path / "back", progress=True)
        await conn.sftp_write(source / "large", "there/large", progress=True)
    shown = terminal.getvalue()
    assert "upload" in shown
    assert "download" in shown
    assert shown.count("22/22") >= 2
    assert shown.count("621.0 kB of 621.0 kB") >= 2
    assert "600.0 kB of 600.0 kB" in shown
    with redirect_stderr(terminal), show_bars(True, "title"):
        print("what the program prints")
    assert "title" in terminal.getvalue()
    assert "prints" not in terminal.getvalue()
    assert capsys.readouterr().out == "what the program prints\n"  # its stdout is no terminal
    quiet = io.StringIO()
    with redirect_stderr(quiet):
        await conn.sftp_read("there/large", os.devnull, progress=True)
        await conn.sftp_put_dir(source, "there/x", progress=False)
    assert quiet.getvalue() == ""
