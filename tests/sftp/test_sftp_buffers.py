"""The buffered files of the async API against those of `io`, on a server in memory.

Random calls on both must give the same; the server answers in small pieces, so that lines and
characters are split. Operations are stepped by hand, and given up in the middle, too.
"""

from __future__ import annotations

import io
import random
from itertools import pairwise
from typing import Any

import pytest

from hussh._protocol.sftp.buffer import Buffered
from hussh._protocol.sftp.file import Mode, open_file
from hussh._protocol.sftp.text import Text
from tests.sftp.fake import Bench, FakeServer

WORDS = ["", "a", "zwölf\n", "\n", "漢字", "\r", "x" * 40, "\r\n", "🎈\n", "end"]


def opened(bench: Bench, mode: str, size: int) -> Buffered:
    """Open the one file of a bench."""
    return Buffered(bench.run(open_file(bench.sftp, "file", Mode.parse(mode))), size)


def both(ours: Any, theirs: Any, bench: Bench, name: str, *arguments: Any) -> None:
    """Call a method of both and compare."""
    expected = getattr(theirs, name)(*arguments)
    assert bench.run(getattr(ours, name)(*arguments)) == expected, (name, arguments)


@pytest.mark.parametrize("seed", range(8))
def test_bytes_as_io(seed: int) -> None:
    """Reads, lines, seeks and writes at random places give what `io.BytesIO` gives."""
    rng = random.Random(seed)
    data = "".join(rng.choices(WORDS, k=30)).encode()
    server = FakeServer(files={b"file": bytearray(data)}, most=rng.choice([3, 50, 10_000]))
    bench = Bench(server)
    ours = opened(bench, "r+b", rng.choice([0, 8, 100, 262_144]))
    theirs = io.BytesIO(data)
    for _ in range(80):
        match rng.randrange(6):
            case 0 if ours._size:  # else a read is one request, and may be short
                both(ours, theirs, bench, "read", rng.choice([-1, 0, 1, 5, 200]))
            case 1:
                both(ours, theirs, bench, "readline", rng.choice([-1, -1, 0, 3]))
            case 2:
                both(ours, theirs, bench, "seek", rng.randrange(len(data) + 3))
            case 3:
                both(ours, theirs, bench, "write", rng.randbytes(rng.choice([0, 1, 9, 300])))
            case 4:
                both(ours, theirs, bench, "seek", -rng.randrange(3), io.SEEK_END)
            case 5:
                both(ours, theirs, bench, "readlines", 20)
        assert ours.tell() == theirs.tell()
    bench.run(ours.close())
    assert bytes(server.files[b"file"]) == theirs.getvalue()
    assert server.handles == {}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "utf-16", "utf-8-sig"])
@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
def test_text_as_io(newline: str | None, encoding: str) -> None:
    """Characters and lines of every kind are those of `io.TextIOWrapper`."""
    for seed in range(3):
        rng = random.Random(seed)
        words = [word for word in WORDS if encoding != "latin-1" or word.isascii()]
        data = "".join(rng.choices(words, k=60)).encode(encoding)
        server = FakeServer(files={b"file": bytearray(data)}, most=rng.choice([1, 3, 10_000]))
        bench = Bench(server)
        ours = Text(opened(bench, "rb", rng.choice([8, 4096])), encoding, None, newline, False)
        theirs = io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline)
        for _ in range(40):
            name = rng.choice(["read", "readline", "readline"])
            both(ours, theirs, bench, name, rng.choice([-1, 0, 1, 5, 30]))
            if rng.random() < 0.1:
                both(ours, theirs, bench, "seek", 0)


@pytest.mark.parametrize("newline", [None, "\n", "\r", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_text_written_as_io(newline: str | None, encoding: str) -> None:
    """What is written and appended are the bytes that `io.TextIOWrapper` writes."""
    server = FakeServer()
    bench = Bench(server)
    plain = io.BytesIO()
    theirs = io.TextIOWrapper(plain, encoding, newline=newline)
    ours = Text(opened(bench, "wb", 16), encoding, None, newline, False)
    for word in WORDS:
        both(ours, theirs, bench, "write", word)
    theirs.flush()
    bench.run(ours.buffer.close())
    assert bytes(server.files[b"file"]) == plain.getvalue()
    more = Text(opened(bench, "ab", 16), encoding, None, newline, False)
    bench.run(more.write("more\n"))
    bench.run(more.buffer.close())
    theirs.write("more\n")
    theirs.flush()
    assert bytes(server.files[b"file"]) == plain.getvalue()


def test_places_in_text() -> None:
    """`seek` to what `tell` gave reads the same again, wherever that was."""
    text = "".join(random.Random(7).choices(WORDS, k=80))
    server = FakeServer(files={b"file": bytearray(text.encode())}, most=7)
    bench = Bench(server)
    ours = Text(opened(bench, "rb", 16), None, None, "\n", False)
    places: list[tuple[int, str]] = []
    while part := bench.run(ours.read(3)):
        places.append((ours.tell(), part))
    assert "".join(part for _, part in places) == text
    for (place, _), (_, part) in pairwise(places):
        assert bench.run(ours.seek(place)) == place
        assert bench.run(ours.read(3)) == part


def test_a_place_that_has_no_offset() -> None:
    """Where the decoder depends on what came before `tell` refuses, as seeking would go wrong."""
    server = FakeServer(files={b"file": bytearray(b"+AOk-x+AOkA6Q-y")})
    bench = Bench(server)
    ours = Text(opened(bench, "rb", 64), "utf-7", None, None, False)
    assert bench.run(ours.read(3)) == "éxé"
    with pytest.raises(OSError, match="no offset"):
        ours.tell()
    assert bench.run(ours.read()) == "éy"


def test_text_rewritten_in_place() -> None:
    """A write after a read goes to where the reader stood, not to where the buffer ended."""
    server = FakeServer(files={b"file": bytearray(b"one\ntwo\nthree\n")})
    bench = Bench(server)
    ours = Text(opened(bench, "r+b", 64), None, None, None, False)
    assert bench.run(ours.readline()) == "one\n"
    bench.run(ours.write("TWO"))
    assert bench.run(ours.readline()) == "\n"
    bench.run(ours.buffer.close())
    assert bytes(server.files[b"file"]) == b"one\nTWO\nthree\n"


@pytest.mark.parametrize("call", ["read", "readline"])
@pytest.mark.parametrize("text", [False, True])
def test_given_up_and_read_again(call: str, text: bool) -> None:
    """A read that is given up at any of its waits has taken nothing."""
    data = "grüße, ".encode() * 40 + b"\n" + b"rest"
    whole = data if call == "read" else data.partition(b"\n")[0] + b"\n"
    for stop in range(1, 40):
        bench = Bench(FakeServer(files={b"file": bytearray(data)}, most=50))
        ours: Any = opened(bench, "rb", 64)
        ours = Text(ours, None, None, None, False) if text else ours
        begun = bench.run(ours.read(2))
        if not _given_up(bench, getattr(ours, call)(), stop):
            break
        got = begun + bench.run(getattr(ours, call)())
        assert got == (whole.decode() if text else whole)
    assert stop > 3


def test_given_up_writes() -> None:
    """A write that is given up says by `tell` how much it took, and nothing is written twice."""
    data = random.Random(1).randbytes(300_000)
    for stop in range(1, 60):
        server = FakeServer(limits=(40_000, 32_768, 32_768, 1000))
        bench = Bench(server, limit=5000)
        ours = opened(bench, "wb", 1000)
        bench.run(ours.write(b"begin"))
        stopped = _given_up(bench, ours.write(data), stop)
        bench.run(ours.write(data[ours.tell() - 5 :]))
        bench.run(ours.close())
        assert bytes(server.files[b"file"]) == b"begin" + data
        if not stopped:
            break
    assert stop > 3


def _given_up(bench: Bench, op: Any, stop: int) -> bool:
    """Run an operation with an exception at its stop-th wait; whether it waited so often."""

    def stepping() -> Any:
        for _ in range(stop):
            try:
                need = next(op)
            except StopIteration:
                return False
            yield need
        with pytest.raises(KeyboardInterrupt):
            op.throw(KeyboardInterrupt())
        return True

    return bool(bench.run(stepping()))


@pytest.mark.parametrize("seed", range(4))
def test_lines_at_hand(seed: int) -> None:
    """Lines that need no operation come as those that do, in order, also between other calls."""
    rng = random.Random(seed)
    data = "".join(rng.choices(WORDS, k=60)).encode()
    bench = Bench(FakeServer(files={b"file": bytearray(data)}, most=50))
    for text in (False, True):
        newline = rng.choice([None, "", "\n", "\r", "\r\n"])
        raw = opened(bench, "rb", 262_144)
        ours: Any = Text(raw, "utf-8", None, newline, False) if text else raw
        theirs: Any = io.BytesIO(data)
        if text:
            theirs = io.TextIOWrapper(theirs, "utf-8", newline=newline)
        cached = 0
        while True:
            line = ours.get_cached_line()
            cached += line is not None
            if line is None:
                line = bench.run(ours.readline())
            assert line == theirs.readline()
            if rng.random() < 0.1:
                both(ours, theirs, bench, "read", 3)
            if not line:
                break
        assert cached
        bench.run(raw.close())


def test_no_line_at_hand_before_what_was_written() -> None:
    """After a write the buffered lines are not those that come next."""
    server = FakeServer(files={b"file": bytearray(b"one\ntwo\nthree\n")})
    bench = Bench(server)
    ours = opened(bench, "r+b", 100)
    assert bench.run(ours.readline()) == b"one\n"
    assert bench.run(ours.write(b"TWO")) == 3
    assert ours.get_cached_line() is None
    assert bench.run(ours.readline()) == b"\n"
    assert ours.get_cached_line() == b"three\n"
    bench.run(ours.close())
