"""`tail` in every API: new content only, across truncation and rotation, no half characters."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, NINE, THREE
from tests.support.sshd import Sshd


@pytest.fixture
def log(target: Sshd) -> Iterator[Path]:
    """Return a file on the server with something in it from before."""
    path = target.alice.files / "app.log"
    path.write_text("old\n")
    path.chmod(0o644)
    yield path
    path.unlink()
    path.with_suffix(".1").unlink(missing_ok=True)


def add(path: Path, data: bytes) -> None:
    """Append to a file."""
    with path.open("ab") as file:
        file.write(data)


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_only_what_is_new(client: Client, log: Path) -> None:
    """Reads give what was added since, or from a position on; `contents` has it all at the end."""
    async with client.awaited.tail("app.log") as tail:
        assert tail.last_pos == 4
        assert await tail.read() == ""
        add(log, b"one\n")
        assert await tail.read() == "one\n"
        add(log, b"two\n")
        assert await tail.read(from_pos=2) == "d\none\ntwo\n"
        assert await tail.read() == ""
        assert tail.last_pos == 12
        add(log, b"three\n")
        assert await tail.seek_end() == 18
        assert await tail.read() == ""
        add(log, b"\xff\xfeok")
        assert await tail.read() == "\ufffd\ufffdok"
        assert tail.contents is None
    assert tail.contents == "one\ntwo\nthree\n\ufffd\ufffdok"
    assert tail.last_pos == 22
    assert tail.remote_file == "app.log"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_no_position(client: Client, log: Path) -> None:
    """What is no offset in a file is refused, and the tail goes on."""
    async with client.awaited.tail("app.log") as tail:
        for position, error in ((-1, ValueError), (1 << 63, ValueError), ("1", TypeError)):
            with pytest.raises(error, match="a position in a file"):
                await tail.read(position)
        assert await tail.read(0) == "old\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_position_beyond_the_end(client: Client, log: Path) -> None:
    """There is nothing yet beyond the end, as in a local file; what was old stays old."""
    async with client.awaited.tail("app.log") as tail:
        assert await tail.read(from_pos=9) == ""
        assert tail.last_pos == 9
        add(log, b"one\n")
        assert await tail.read() == ""
        add(log, b"two\n")
        assert await tail.read() == "wo\n"
        assert await tail.read(from_pos=100) == ""
    assert tail.contents == "one\ntwo\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_after_it_was_closed(client: Client, log: Path) -> None:
    """Reading goes on where it was, also after the block; `contents` is what came in the block."""
    async with client.awaited.tail("app.log") as tail:
        add(log, b"one\n")
        await tail.close()
        assert await tail.read() == "one\n"
        await tail.close()
        add(log, b"two\n")
    assert tail.contents == "one\ntwo\n"
    add(log, b"three\n")
    assert await tail.read() == "three\n"
    async with tail:
        add(log, b"four\n")
    assert tail.contents == "four\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_split_characters(client: Client, log: Path) -> None:
    """A character whose bytes come in two writes is read whole, once."""
    async with client.awaited.tail("app.log") as tail:
        read = ""
        for byte in "aé漢🎈z".encode():
            add(log, bytes([byte]))
            read += await tail.read()
    assert read == tail.contents == "aé漢🎈z"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_truncated(client: Client, log: Path) -> None:
    """A file that was emptied and written anew is read from its beginning."""
    async with client.awaited.tail("app.log") as tail:
        add(log, b"a long line before it was cut\n")
        assert await tail.read() == "a long line before it was cut\n"
        os.truncate(log, 0)
        add(log, b"short\n")
        assert await tail.read() == "short\n"
        add(log, b"more\n")
        assert await tail.read() == "more\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_cut_to_more_than_where_it_began(client: Client, log: Path) -> None:
    """Of a file that was cut and has grown past where the block began, all is new."""
    async with client.awaited.tail("app.log") as tail:
        add(log, b"a long line before it was cut\n")
        assert await tail.read() == "a long line before it was cut\n"
        log.write_bytes(b"written anew\n")
        assert await tail.read(from_pos=8) == "anew\n"
    assert tail.contents == "written anew\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_rotated(client: Client, log: Path) -> None:
    """After a rotation the rest of the old file comes first, then the new one, nothing twice."""
    async with client.awaited.tail("app.log") as tail:
        add(log, b"one\n")
        assert await tail.read() == "one\n"
        add(log, b"last of the old\n")
        log.rename(log.with_suffix(".1"))
        assert await tail.read() == "last of the old\n"
        log.write_bytes(b"first of a new file that is longer than the old one was\n")
        log.chmod(0o644)
        assert await tail.read() == "first of a new file that is longer than the old one was\n"
        add(log, b"end\n")
        assert await tail.read() == "end\n"
    assert tail.contents == (
        "one\nlast of the old\nfirst of a new file that is longer than the old one was\nend\n"
    )


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_directory_in_its_place(client: Client, log: Path) -> None:
    """While a directory has the name, the old file is read on; then the file that comes next."""
    async with client.awaited.tail("app.log") as tail:
        moved = log.rename(log.with_suffix(".1"))
        log.mkdir()
        add(moved, b"still\n")
        assert await tail.read() == "still\n"
        log.rmdir()
        log.write_bytes(b"a new file\n")
        log.chmod(0o644)
        assert await tail.read() == "a new file\n"
    assert tail.contents == "still\na new file\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_blocks_that_fail(client: Client, log: Path) -> None:
    """A missing file is FileNotFoundError on entering; an error in the block comes out as it is."""
    with pytest.raises(FileNotFoundError) as missing:
        await client.awaited.tail("none").__aenter__()
    assert missing.value.filename == "none"
    tail = client.awaited.tail("app.log")
    with pytest.raises(ZeroDivisionError):
        async with tail:
            raise ZeroDivisionError
    held = "ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c 'app.log$'"
    while (await client.execute(held)).stdout != "0\n":
        pass
