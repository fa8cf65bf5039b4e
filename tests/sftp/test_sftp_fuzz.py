"""Hostile SFTP servers: an error or a right answer, never a hang, a crash or memory without end."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import tempfile
from collections.abc import Callable, Iterator
from struct import pack, unpack_from
from time import monotonic
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hussh._protocol.core import Op
from hussh._protocol.sftp import ops, wire
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.local_file import MemorySink, MemorySource
from hussh._protocol.sftp.machine import LONGEST, STAGE, Machine
from hussh._protocol.sftp.makedirs import make_directories
from hussh._protocol.sftp.stream import Stream
from hussh._protocol.sftp.transfer import download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh._protocol.sftp.tree import TreeOptions
from hussh._protocol.sftp.wire import Malformed
from hussh._results.transfer_result import FailedPath
from hussh.errors import SFTPError, SFTPUnavailable
from tests.sftp.fake import Bench, FakeServer, Stuck, packet, text

LONG = os.environ.get("HUSSH_LONG") == "1"
EXAMPLES = 3000 if LONG else 80
fuzz = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
Reply = bytes | None


def _get(bench: Bench) -> Op[Any]:
    context = TransferContext("read", b"f", None, "")
    return download(bench.sftp, b"f", MemorySink(), context, bench.clock, None)


def _put(bench: Bench) -> Op[Any]:
    context = TransferContext("write", None, b"f", "")
    return upload(bench.sftp, lambda: MemorySource(bytes(90_000)), b"f", context, bench.clock, None)


def _read(bench: Bench) -> Op[Any]:
    handle = yield from ops.open_handle(bench.sftp, b"f", wire.FXF_READ)
    stream = Stream(handle)
    room = memoryview(bytearray(10_000))
    at = 0
    for _ in range(30):
        count = yield from stream.read_into(at, room)
        at += count
        if not count:
            break
    yield from stream.write(at, bytes(room))
    yield from stream.close()


OPERATIONS: dict[str, Callable[[Bench], Op[Any]]] = {
    "get": _get,
    "put": _put,
    "stream": _read,
    "stat": lambda bench: ops.stat(bench.sftp, b"f"),
    "list": lambda bench: ops.list_names(bench.sftp, b"d", lambda name: name.name),
    "realpath": lambda bench: ops.resolve_path(bench.sftp, b"d"),
    "statvfs": lambda bench: ops.statvfs(bench.sftp, b"d"),
    "rename": lambda bench: ops.rename(bench.sftp, b"f", b"g"),
    "makedirs": lambda bench: make_directories(bench.sftp, b"a/b/c", 0o777, False),
}


def server() -> FakeServer:
    """Return a server with a file and a folder."""
    return FakeServer(
        files={b"f": bytearray(100_000)},
        folders={b"d": [(b"x", stat.S_IFREG | 0o644), (b"y", stat.S_IFDIR | 0o755)]},
    )


def survive(name: str, bench: Bench) -> None:
    """Run an operation: it ends, with a result or with an OSError, and lets go of its requests."""
    try:
        bench.run(OPERATIONS[name](bench), steps=20_000)
    except SFTPError:
        pass
    except Stuck:
        # A server that owes an answer is waited for: that is what time limits are for.
        assert any(pipe.server.silent for pipe in bench.pipes)  # type: ignore[attr-defined]


@fuzz
@given(
    st.sampled_from(sorted(OPERATIONS)),
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from(
            ["drop", "id", "type", "cut", "bits", "longer", "huge", "twice", "status", "empty"]
        )),
        min_size=1, max_size=4,
    ),
    st.integers(1, 70_000),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_replies_gone_wrong(
    name: str, wrongs: list[tuple[int, str]], limit: int, source: random.Random
) -> None:
    """Any reply may be missing, doubled, cut, stretched, of another type, or for another id."""
    fake = server()
    fake.silent = False  # type: ignore[attr-defined]
    plan = dict(wrongs)
    count = iter(range(1 << 30))

    def twist(kind: int, request: bytes, reply: bytes) -> Reply:
        return _spoiled(plan.get(next(count)), request, reply, source, fake)

    fake.twist = twist
    survive(name, Bench(fake, max(limit, 50)))


def _spoiled(
    how: str | None, request: bytes, reply: bytes, source: random.Random, fake: Any
) -> Reply:
    body = bytearray(reply[4:])
    if how is None:
        return reply
    if how in ("drop", "cut", "longer", "huge", "bits", "type"):
        fake.silent = True  # what follows may be taken for the middle of a message
    if how == "drop":
        return None
    if how == "id" and len(body) >= 5:
        body[1:5] = pack(">I", source.choice([0, 1, 2, 0xFFFFFFFF, source.getrandbits(32)]))
    elif how == "type":
        body[0] = source.choice([0, 2, 101, 102, 103, 104, 105, 201, source.getrandbits(8)])
    elif how == "cut":
        del body[source.randrange(len(body)) :]
    elif how == "bits":
        for _ in range(3):
            body[source.randrange(len(body))] ^= 1 << source.randrange(8)
    elif how == "longer":
        body += source.randbytes(source.randrange(1, 50))
    elif how == "huge":
        return pack(">I", source.choice([LONGEST, LONGEST + 1, 0x7FFFFFFF, 0xFFFFFFFF])) + body
    elif how == "twice":
        return reply + reply
    elif how == "status":
        code = source.choice([0, 1, 2, 3, 4, 5, 8, 31, 0xFFFFFFFF])
        return fake.status(request[:4], code)  # type: ignore[no-any-return]
    elif how == "empty":
        return pack(">I", 0)
    return pack(">I", len(body)) + bytes(body)


@fuzz
@given(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 400), st.integers(20, 300))
def test_the_end_at_any_byte(name: str, end: int, limit: int) -> None:
    """EOF after any number of bytes, in mid-packet or between two, is an error at once."""
    fake = server()
    fake.silent = False  # type: ignore[attr-defined]
    bench = Bench(fake, limit)
    pipes: list[Any] = bench.pipes
    drain, left = fake.drain, [end]

    def ending() -> bytes:
        request = drain()
        part, left[0] = request[: left[0]], max(0, left[0] - len(request))
        if len(part) < len(request):
            pipes[-1].eof = True
        return part

    fake.drain = ending  # type: ignore[method-assign]
    for _ in range(2):
        if not any(pipe.eof for pipe in pipes):
            survive(name, bench)


@fuzz
@given(st.binary(max_size=400), st.integers(1, 100), st.booleans())
def test_any_bytes(data: bytes, size: int, greeted: bool) -> None:
    """The machine takes any bytes in any pieces; it holds no more memory than it was sent."""
    machine = Machine()
    requests = []
    hello = packet(wire.VERSION, pack(">I", 3)) if greeted else b""
    if greeted:
        kinds = (wire.OPEN, wire.READDIR, wire.STAT, wire.REMOVE)
        requests = [machine.request(kind, text(b"x")) for kind in kinds]
        requests.append(machine.read(b"h", 0, 1000))
    try:
        for piece in _pieces(hello + data, size):
            view = machine.get_buffer()
            count = min(len(view), len(piece))
            assert count == len(piece)
            view[:count] = piece
            machine.take_received(count)
        machine.note_end()
    except Malformed:
        pass
    assert machine._direct is None or len(machine._direct) <= LONGEST
    assert len(machine._stage) == STAGE
    assert all(request.value is None or request.done for request in requests)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


@fuzz
@given(st.binary(max_size=200))
def test_any_body(body: bytes) -> None:
    """Every parser of replies takes any body: a value or Malformed."""
    for parse in (
        wire.parse_status, wire.parse_attributes, wire.name_list, wire.parse_version,
        wire.parse_statvfs,
        wire.parse_limits,
    ):  # fmt: skip
        try:
            parse(body)
        except Malformed:
            continue


@fuzz
@given(
    st.lists(
        st.tuples(
            st.binary(max_size=20) | st.sampled_from([b"..", b".", b"", b"a/b", b"/etc/x", b"ok"]),
            st.sampled_from([0, stat.S_IFREG, stat.S_IFDIR | 0o700, stat.S_IFLNK, stat.S_IFIFO]),
        ),
        max_size=8,
    ),
    st.sampled_from([b"..", b"/tmp", b"x", b"\0"]),
    st.booleans(),
)
def test_trees_of_a_hostile_server(
    tmp_path_factory: pytest.TempPathFactory,
    entries: list[tuple[bytes, int]],
    link: bytes,
    follow: bool,
) -> None:
    """Whatever a server lists, every path that is made lies below the target."""
    top = tmp_path_factory.mktemp("fuzz")
    (top / "outside").mkdir()

    class Everywhere(dict[bytes, Any]):
        def __missing__(self, key: bytes) -> Any:
            return entries if key.count(b"/") < 3 else []

        def __contains__(self, key: object) -> bool:
            return isinstance(key, bytes) and key.count(b"/") < 4 and not key.endswith(b"ok")

    class Links(dict[bytes, bytes]):
        def get(self, key: bytes, default: Any = None) -> Any:
            return link

    fake = FakeServer(folders=Everywhere(), links=Links(), most=10)
    bench = Bench(fake)
    options = TreeOptions(follow, True, True, False, "", monotonic)
    with contextlib.suppress(SFTPError):
        bench.run(get_tree(bench.sftp, b"top", os.fsencode(top / "in"), options), steps=20_000)
    assert sorted(os.listdir(top)) in (["in", "outside"], ["outside"])
    assert os.listdir(top / "outside") == []
    for at, _, _ in os.walk(os.fsencode(top / "in")):
        assert os.path.realpath(at).startswith(os.fsencode(top / "in"))


# -- one by one, what the issue names


def _answering(change: Callable[[int, bytes, bytes], Reply]) -> Bench:
    fake = server()
    fake.twist = change
    return Bench(fake)


def test_a_length_that_is_a_lie() -> None:
    """A message of 4 GiB is refused by its length alone."""
    bench = _answering(lambda kind, _, reply: b"\xff\xff\xff\xff" if kind == wire.STAT else reply)
    with pytest.raises(SFTPError, match="4294967295 bytes"):
        bench.run(ops.stat(bench.sftp, b"f"))
    with pytest.raises(SFTPError):
        bench.run(ops.stat(bench.sftp, b"f"))
    assert len(bench.pipes) == 2


def test_a_wrong_id() -> None:
    """A reply to what nobody asked breaks the session, for everybody in it."""
    bench = _answering(
        lambda kind, request, reply: (
            packet(wire.STATUS, pack(">I", 99), pack(">I", 0), text(b""), text(b""))
            if kind == wire.STAT
            else reply
        )
    )
    with pytest.raises(SFTPError, match="request 99"):
        bench.run(ops.stat(bench.sftp, b"f"))
    assert bench.pipes[0].closed


def test_more_data_than_asked_for() -> None:
    """Data beyond the length of the READ is never stored."""

    def more(kind: int, request: bytes, reply: bytes) -> bytes:
        if kind != wire.READ:
            return reply
        _, at = wire.take_string(request, 4)
        (size,) = unpack_from(">I", request, at + 8)
        return packet(wire.DATA, request[:4], text(bytes(size + 1)))

    bench = _answering(more)
    with pytest.raises(SFTPError, match="were asked for"):
        bench.run(_get(bench))


@pytest.mark.parametrize("entries", [[], [(b".", 0)], [(b"x", 0)]], ids=["empty", "dot", "names"])
def test_a_listing_without_end(
    entries: list[tuple[bytes, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """READDIR that never ends is an error, not a hang."""
    monkeypatch.setattr(ops, "MOST_NAMES", 1000)
    fake = server()
    fake.twist = lambda kind, request, reply: (
        fake.names(request[:4], entries) if kind == wire.READDIR else reply
    )
    bench = Bench(fake)
    with pytest.raises(SFTPError, match=r"does not end|more than"):
        bench.run(ops.list_names(bench.sftp, b"d", lambda name: name))


def test_long_names_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a listing may take is a matter of bytes, too: few names can be long ones."""
    monkeypatch.setattr(ops, "MOST_LISTED", 1 << 20)
    monkeypatch.setattr("hussh._protocol.sftp.get_tree.MOST_LISTED", 1 << 20)
    lists = 0

    def twist(kind: int, request: bytes, reply: bytes) -> bytes:
        nonlocal lists
        lists += kind == wire.READDIR
        assert lists < 40
        entries = [(b"x" * 50_000, stat.S_IFREG | 0o644)]
        return fake.names(request[:4], entries) if kind == wire.READDIR else reply

    fake = server()
    fake.twist = twist
    bench = Bench(fake)
    with pytest.raises(SFTPError, match="more than 1048576 bytes"):
        bench.run(ops.list_names(bench.sftp, b"d", lambda name: name))
    lists = 0
    options = TreeOptions(True, True, True, False, "", bench.clock)
    with tempfile.TemporaryDirectory() as folder:
        done, failed = bench.run(get_tree(bench.sftp, b"d", folder.encode(), options))
    errors = [str(path.error) for path in failed if isinstance(path, FailedPath)]
    assert (done, len(errors)) == ([], len(failed))
    assert sum("does not end" in error for error in errors) == 1
    assert max(map(len, errors)) < 3000


def test_another_version() -> None:
    """A server of version 2, or of none, is unavailable."""
    for reply in (packet(wire.VERSION, pack(">I", 2)), packet(wire.STATUS, bytes(8))):
        bench = _answering(lambda kind, _, right, reply=reply: reply)  # type: ignore[misc]
        with pytest.raises(SFTPUnavailable):
            bench.run(ops.stat(bench.sftp, b"f"))
