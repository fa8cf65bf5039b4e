"""The state machine and the transfers beside servers of every kind, in memory."""

from __future__ import annotations

import copy
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from hussh._policy.sftp import SFTPLimits
from hussh._protocol.core import DeadlineExceeded
from hussh._protocol.sftp import ops, wire
from hussh._protocol.sftp.local_file import FileSink, MemorySink, MemorySource
from hussh._protocol.sftp.machine import Machine
from hussh._protocol.sftp.resume import ResumedSink
from hussh._protocol.sftp.transfer import MOST_FLIGHT, Flight, download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh.errors import SFTPError, SFTPTimeout
from tests.sftp.fake import Bench, FakePipe, FakeServer, packet, text

KIB = 1024


def get(bench: Bench, path: bytes = b"f") -> bytes:
    """Download a file."""
    sink = MemorySink()
    context = TransferContext("read", path, None, "")
    bench.run(download(bench.sftp, path, sink, context, bench.clock, None))
    return sink.data


def put(bench: Bench, data: bytes, path: bytes = b"f") -> int:
    """Upload a file."""
    context = TransferContext("write", None, path, "")
    source = MemorySource(data)
    return bench.run(upload(bench.sftp, lambda: source, path, context, bench.clock, None))


def sizes(bench: Bench, kind: int) -> set[int]:
    """Return the sizes of all READ or WRITE requests so far."""
    found = set()
    for seen, body in bench.server.seen:
        if seen == kind:
            _, at = wire.take_string(body, 4)
            found.add(wire.RANGE.unpack_from(body, at)[1])
    return found


@pytest.mark.parametrize("limit", [1, 7, 1000, 1 << 30])
def test_any_split_of_the_stream(limit: int) -> None:
    """Bytes that come and go in pieces of any size make the same messages."""
    data = os.urandom(3000 if limit < 10 else 700_000)
    bench = Bench(FakeServer(), limit)
    assert put(bench, data) == len(data)
    assert bytes(bench.server.files[b"f"]) == data
    assert get(bench) == data
    bench.run(ops.stat(bench.sftp, b"f"))  # takes along the CLOSE that nobody waits for
    assert bench.server.handles == {}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [1 << 30, 100 * KIB, 5000])
def test_any_order_and_short_reads(seed: int, most: int) -> None:
    """Replies in any order, shorter than asked for, still make the whole file."""
    data = os.urandom(2_000_000 if most > 5000 else 200_000)
    server = FakeServer(shuffle=random.Random(seed), most=most)
    bench = Bench(server, 300_000)
    put(bench, data)
    assert bytes(server.files[b"f"]) == data
    assert get(bench) == data


def test_servers_without_extensions() -> None:
    """A server that offers nothing gets requests of 32 KiB, and no extended ones."""
    bench = Bench(FakeServer(extensions={}))
    data = os.urandom(500_000)
    put(bench, data)
    assert get(bench) == data
    assert max(sizes(bench, wire.READ) | sizes(bench, wire.WRITE)) == 32 * KIB
    assert wire.EXTENDED not in {kind for kind, _ in bench.server.seen}


@pytest.mark.parametrize(
    ("limits", "read", "write"),
    [
        ((262144, 261120, 261120, 0), 261120, 261120),
        ((34000, 0, 0, 0), 32 * KIB, 32 * KIB),
        ((8192, 4096, 100_000, 0), 4096, 7168),
        ((1 << 40, 1 << 40, 1 << 40, 1 << 40), 256 * KIB, 256 * KIB),
        ((1, 1, 1, 1), 512, 512),
    ],
)
def test_limits(limits: tuple[int, int, int, int], read: int, write: int) -> None:
    """No request is larger than the server allows, or than is of use."""
    bench = Bench(FakeServer(limits=limits))
    data = os.urandom(600_000)
    put(bench, data)
    assert get(bench) == data
    assert max(sizes(bench, wire.WRITE)) == write
    assert max(sizes(bench, wire.READ)) == read


def test_a_server_that_answers_little_is_asked_for_little() -> None:
    """After a short answer the requests shrink to what the server gives."""
    bench = Bench(FakeServer(most=32 * KIB))
    bench.server.files[b"f"] = bytearray(os.urandom(8_000_000))
    assert get(bench) == bytes(bench.server.files[b"f"])
    reads = sum(kind == wire.READ for kind, _ in bench.server.seen)
    assert reads < 3 * 8_000_000 / (32 * KIB)


def test_a_file_that_shrinks_or_grows() -> None:
    """What is read ends where the server says EOF, though it had told another size."""
    for reported in (10, 5_000_000):
        server = FakeServer(files={b"f": bytearray(b"x" * 1_000_000)})

        def twist(kind: int, request: bytes, reply: bytes, reported: int = reported) -> bytes:
            if kind == wire.FSTAT:
                return packet(wire.ATTRS, request[:4], wire.encode_setting(size=reported))
            return reply

        server.twist = twist
        assert get(Bench(server)) == b"x" * 1_000_000


def test_a_full_disk() -> None:
    """A write that fails says how much is there, and why, as far as statvfs knows."""
    bench = Bench(FakeServer(full_at=600_000))
    with pytest.raises(SFTPError, match="No space left on device") as caught:
        put(bench, bytes(2_000_000))
    assert caught.value.transferred == 522_240
    assert len(bench.server.files[b"f"]) >= 522_240
    assert bench.server.handles == {}


@pytest.mark.parametrize(
    ("context", "done", "left", "transferred"),
    [
        (
            TransferContext("download", b"f", b"g", ""),
            7,
            "; 7 bytes had been transferred and are kept",
            7,
        ),
        (
            TransferContext("write", None, b"g", ""),
            7,
            "; 7 bytes had been transferred and are kept",
            7,
        ),
        (TransferContext("read", b"f", None, ""), 7, "; 7 bytes had been transferred", None),
        (TransferContext("download", b"f", b"g", ""), 0, "", 0),
        (TransferContext("download", b"f", b"g", ""), None, "", None),
    ],
)
@pytest.mark.parametrize("error", [DeadlineExceeded(), OSError(28, "full"), SFTPError("no")])
def test_what_is_left_of_a_transfer(
    error: Exception, context: TransferContext, done: int | None, left: str, transferred: int | None
) -> None:
    """Only what is in a file is said to be kept, and nothing is said of no bytes."""
    reported = context.explain_failure(copy.copy(error), done)
    assert isinstance(reported, SFTPError)
    assert reported.text.partition(";")[1:] == left.partition(";")[1:]
    assert reported.transferred == transferred


def test_abandoned_requests() -> None:
    """Replies to abandoned requests are thrown away, and a handle among them is closed."""
    server = FakeServer(files={b"f": bytearray(b"abc"), b"g": bytearray(b"other")})
    bench = Bench(server)
    bench.run(ops.stat(bench.sftp, b"f"))
    op = ops.open_handle(bench.sftp, b"f", wire.FXF_READ)
    next(op)
    with pytest.raises(DeadlineExceeded):
        op.throw(DeadlineExceeded())
    bench.pipes[-1].move()  # else it counts as stuck, and another one is opened
    assert get(bench, b"g") == b"other"
    bench.run(ops.stat(bench.sftp, b"f"))
    assert server.handles == {}
    session = bench.sftp._current
    assert session is not None
    assert session.machine.in_flight == 0


def test_a_deadline_in_mid_transfer() -> None:
    """A transfer that is stopped at any wait leaves a session that works, and no handle."""
    for stop in range(12):
        bench = Bench(FakeServer(files={b"f": bytearray(3_000_000)}), 50_000)
        context = TransferContext("read", b"f", None, " after 5 ms")
        op = download(bench.sftp, b"f", MemorySink(), context, bench.clock, None)
        need: object = next(op)
        for _ in range(stop):
            assert isinstance(need, FakePipe)
            bench.pipes[-1].move()
            need = next(op)
        with pytest.raises(SFTPTimeout, match="timed out after 5 ms"):
            op.throw(DeadlineExceeded())
        bench.pipes[-1].move()  # else it counts as stuck, and another one is opened
        assert len(get(bench)) == 3_000_000
        assert bench.server.handles == {}
        assert len(bench.pipes) == 1


def test_ids_wrap_around() -> None:
    """After 2**32 requests ids begin anew, without those that are in use."""
    machine = Machine()
    first = machine.request(wire.STAT, text(b"a"))
    machine._next = 0xFFFFFFFF
    last = machine.request(wire.STAT, text(b"b"))
    again = machine.request(wire.STAT, text(b"c"))
    assert (first.id, last.id, again.id) == (0, 0xFFFFFFFF, 1)


def test_flight_follows_the_way() -> None:
    """The bytes in flight grow to twice what the way holds, within their limits."""
    now = 0.0
    flight = Flight(lambda: now)
    least = flight.limit
    for _ in range(100):  # 100 MB/s, 50 ms
        now += 0.01
        flight.note_arrived(1_000_000, now - 0.05)
    assert 9_000_000 < flight.limit < 11_000_000
    for _ in range(100):  # 1 GB/s
        now += 0.01
        flight.note_arrived(10_000_000, now - 0.05)
    assert flight.limit == MOST_FLIGHT
    for _ in range(100):  # a slow one
        now += 0.1
        flight.note_arrived(100, now - 0.05)
    assert flight.limit == least


def test_limits_that_are_not_told() -> None:
    """Zero in a reply to limits@openssh.com means that the default stays."""
    limits = SFTPLimits()
    limits.learn(0, 0, 0, 0)
    assert (limits.read, limits.write, limits.open_handles) == (32 * KIB, 32 * KIB, 64)


def test_a_session_that_is_stuck_is_left() -> None:
    """Where nothing comes after a request was given up, the next operation asks another session."""
    bench = Bench(FakeServer(files={b"f": bytearray(b"abc")}))
    bench.run(ops.stat(bench.sftp, b"f"))
    op = ops.stat(bench.sftp, b"f")
    next(op)
    bench.server.waiting.clear()  # the answer never comes
    with pytest.raises(DeadlineExceeded):
        op.throw(DeadlineExceeded())
    assert get(bench) == b"abc"
    assert len(bench.pipes) == 2


def test_a_file_that_nobody_waited_for(tmp_path: Path) -> None:
    """Opened in a thread after its transfer was given up, it is closed at once."""
    before = os.listdir("/proc/self/fd")
    for kind in (FileSink, ResumedSink):
        sink = kind(os.fsencode(tmp_path / "file"))
        sink.end(0)
        with pytest.raises(InterruptedError):
            sink.have() if isinstance(sink, ResumedSink) else sink.begin()
    assert os.listdir("/proc/self/fd") == before


def test_memory_is_not_copied_at_the_end() -> None:
    """However much was fetched, no step handles all of it: the bytes are there already."""
    sink, part = MemorySink(), memoryview(bytes(1 << 20))
    for number in (1, 0, *range(2, 32)):
        sink.write([(number << 20, part)])
    tracemalloc.start()
    try:
        sink.end(31 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sink.data == bytes(31 << 20)
    assert peak <= 33 << 20
