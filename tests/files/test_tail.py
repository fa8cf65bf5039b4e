"""`Connection.tail`: new content only, across truncation and rotation, never half a character."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hussh import Connection
from tests.support.sshd import Sshd


@pytest.fixture
def log(target: Sshd) -> Path:
    """Return a file on the server with something in it from before."""
    path = target.alice.files / "app.log"
    path.write_text("old\n")
    path.chmod(0o644)
    return path


def add(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_only_what_is_new(connection: Connection, target: Sshd, log: Path) -> None:
    """Reads give what was added since; `contents` has all of it after the block."""
    with connection.tail(target.alice.path("app.log")) as tail:
        assert tail.last_pos == 4
        assert tail.read() == ""
        add(log, b"one\n")
        assert tail.read() == "one\n"
        add(log, b"two\n")
        assert tail.read() == "two\n"
        assert tail.last_pos == 12
        add(log, b"three\n")
        assert tail.contents == ""
    assert tail.contents == "one\ntwo\nthree\n"
    assert tail.remote_file == target.alice.path("app.log")


def test_from_a_position(jumped: Connection, target: Sshd, log: Path) -> None:
    """`from_pos` reads from there, and the next read goes on behind it."""
    with jumped.tail(target.alice.path("app.log")) as tail:
        add(log, b"new\n")
        assert tail.read(from_pos=0) == "old\nnew\n"
        assert tail.read() == ""
        assert tail.read(from_pos=2) == "d\nnew\n"
        add(log, b"x")
        tail.seek_end()
        assert tail.read() == ""
    assert tail.contents == "new\nx"


def test_split_characters(connection: Connection, target: Sshd, log: Path) -> None:
    """A character whose bytes come in two writes is read whole, once."""
    encoded = "aé漢🎈z".encode()
    with connection.tail(target.alice.path("app.log")) as tail:
        read = ""
        for byte in encoded:
            add(log, bytes([byte]))
            read += tail.read()
    assert read == "aé漢🎈z"
    assert tail.contents == "aé漢🎈z"


def test_truncated(connection: Connection, target: Sshd, log: Path) -> None:
    """A file that was emptied and written anew is read from its beginning."""
    with connection.tail(target.alice.path("app.log")) as tail:
        add(log, b"a long line before it was cut\n")
        assert tail.read() == "a long line before it was cut\n"
        os.truncate(log, 0)
        add(log, b"short\n")
        assert tail.read() == "short\n"
        add(log, b"more\n")
        assert tail.read() == "more\n"


def test_rotated(connection: Connection, target: Sshd, log: Path) -> None:
    """After a rotation the rest of the old file comes first, then the new one, nothing twice."""
    with connection.tail(target.alice.path("app.log")) as tail:
        add(log, b"one\n")
        assert tail.read() == "one\n"
        add(log, b"last of the old\n")
        log.rename(log.with_suffix(".1"))
        assert tail.read() == "last of the old\n"
        log.write_bytes(b"first of a new file that is longer than the old one was\n")
        log.chmod(0o644)
        assert tail.read() == "first of a new file that is longer than the old one was\n"
        add(log, b"end\n")
        assert tail.read() == "end\n"
    assert tail.contents == (
        "one\nlast of the old\nfirst of a new file that is longer than the old one was\nend\n"
    )


def test_missing(connection: Connection, target: Sshd) -> None:
    """A file that is not there is FileNotFoundError on entering."""
    with (
        pytest.raises(FileNotFoundError),
        connection.tail(target.alice.path("none")),
    ):
        pass


def test_binary_garbage(connection: Connection, target: Sshd, log: Path) -> None:
    """Bytes that are no text are replaced, not an error."""
    with connection.tail(target.alice.path("app.log")) as tail:
        add(log, b"\xff\xfeok")
        assert tail.read() == "\ufffd\ufffdok"
