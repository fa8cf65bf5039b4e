"""`resume=`: going on behind what is there, if that is a beginning of the source."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from struct import unpack_from
from time import monotonic

import anyio
import pytest

from hussh import Connection
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.local_file import FileSource
from hussh._protocol.sftp.resume import ResumedSink
from hussh._protocol.sftp.transfer import download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh.aio import AsyncConnection
from hussh.errors import SFTPError
from tests.sftp.fake import Bench, FakeServer
from tests.support.sshd import Sshd

TAIL = 1000
DATA = bytes(range(256)) * 40  # 10,240 bytes
CHANGED = DATA[:4000] + b"\0" + DATA[4001:5000]
CONTEXT = TransferContext("copy", b"source", b"target", "")


@pytest.fixture(autouse=True)
def short_tail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare so little that tests see a difference."""
    monkeypatch.setattr("hussh._protocol.sftp.resume.TAIL", TAIL)


def offsets(server: FakeServer, kind: int) -> list[int]:
    """Return where the READs or WRITEs of a server began."""
    found = []
    for seen, body in server.seen:
        if seen == kind:
            _, at = wire.take_string(body, 4)
            found.append(unpack_from(">Q", body, at)[0])
    return found


#: What is there already, and from where on it is copied.
CASES = [
    pytest.param(None, 0, id="nothing"),
    pytest.param(b"", 0, id="empty"),
    pytest.param(DATA[:5000], 5000, id="half"),
    pytest.param(DATA[:10], 10, id="less-than-a-tail"),
    pytest.param(DATA, 10_240, id="all"),
    pytest.param(CHANGED, 0, id="changed-in-the-tail"),
    pytest.param(DATA[:10] + b"x", 0, id="changed-last-byte"),
    pytest.param(DATA + b"more", 0, id="too-long"),
]


@pytest.mark.parametrize(("there", "start"), CASES)
def test_download(tmp_path: Path, there: bytes | None, start: int) -> None:
    """The file is whole afterwards; of what was there only the tail is fetched again."""
    server = FakeServer(files={b"file": bytearray(DATA)}, limits=(262144, 500, 500, 100))
    if there is not None:
        (tmp_path / "file").write_bytes(there)
    calls: list[tuple[int, int | None]] = []
    sink = ResumedSink(os.fsencode(tmp_path / "file"))
    bench = Bench(server)
    op = download(bench.sftp, b"file", sink, CONTEXT, monotonic, lambda *done: calls.append(done))
    assert bench.run(op) == len(DATA)
    assert (tmp_path / "file").read_bytes() == DATA
    assert calls[-1] == (len(DATA), len(DATA))
    if start:
        assert min(offsets(server, wire.READ)) == max(0, start - TAIL)
        assert sum(at >= start for at in offsets(server, wire.READ)) >= 1
    assert server.handles == {}


@pytest.mark.parametrize(("there", "start"), CASES)
def test_upload(tmp_path: Path, there: bytes | None, start: int) -> None:
    """The same the other way: what the server has is not sent again."""
    server = FakeServer(limits=(262144, 500, 500, 100))
    if there is not None:
        server.files[b"file"] = bytearray(there)
    truncated: list[int] = []
    reply = server.reply

    def opening(kind: int, body: bytes) -> bytes:
        if kind == wire.OPEN:
            name, at = wire.take_string(body, 4)
            if int.from_bytes(body[at : at + 4], "big") & wire.FXF_TRUNC:
                truncated.append(len(server.files[name]))
        return reply(kind, body)

    server.reply = opening  # type: ignore[method-assign]
    (tmp_path / "file").write_bytes(DATA)
    bench = Bench(server)
    path = os.fsencode(tmp_path / "file")
    op = upload(
        bench.sftp, lambda: FileSource(path), b"file", CONTEXT, monotonic, None, resume=True
    )
    assert bench.run(op) == len(DATA)
    assert server.files[b"file"] == DATA
    sent = offsets(server, wire.WRITE)
    assert (min(sent) if sent else len(DATA)) == start
    assert truncated == ([len(there)] if there and not start else [])
    assert server.handles == {}


def test_a_failure_before_the_transfer_cuts_nothing(tmp_path: Path) -> None:
    """Where the remote file cannot be opened or compared, what is here stays as it is."""
    (tmp_path / "file").write_bytes(DATA[:5000])
    for server in (FakeServer(), FakeServer(files={b"file": bytearray(DATA)})):

        def no_reads(kind: int, request: bytes, reply: bytes, server: FakeServer = server) -> bytes:
            return server.status(request[:4], 4) if kind == wire.READ else reply

        server.twist = no_reads
        bench = Bench(server)
        sink = ResumedSink(os.fsencode(tmp_path / "file"))
        with pytest.raises(SFTPError):
            bench.run(download(bench.sftp, b"file", sink, CONTEXT, monotonic, None))
        assert (tmp_path / "file").read_bytes() == DATA[:5000]
        assert sink.fd == -1


class Stop(Exception):
    """What the callback raises."""


def stop_at(most: int) -> Callable[[int, int | None], None]:
    """Return a callback that ends a transfer, once this much is there."""

    def callback(done: int, total: int | None) -> None:
        if done >= most:
            raise Stop

    return callback


def test_interrupted_and_resumed(
    either: Connection, target: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transfers that a callback ended are completed, and progress goes on where it was."""
    size = 32 << 20
    ticks = itertools.count()
    # A clock that runs fast, so that the callback is called before all is there.
    monkeypatch.setattr("hussh._api.sftp_calls.monotonic", lambda: monotonic() + 0.2 * next(ticks))
    for path in (tmp_path / "huge", target.alice.files / "huge"):
        with path.open("wb") as file:
            file.write(b"begin")
            file.truncate(size)
            file.seek(size - 3)
            file.write(b"end")
    (target.alice.files / "huge").chmod(0o644)
    try:
        with pytest.raises(Stop):
            either.sftp_read("huge", tmp_path / "part", progress=stop_at(1))
        with pytest.raises(Stop):
            either.sftp_write(tmp_path / "huge", "part", progress=stop_at(1))
        for up in (False, True):
            part = target.alice.files / "part" if up else tmp_path / "part"
            kept = part.stat().st_size
            assert 0 < kept < size
            seen: list[int] = []

            def note(done: int, total: int | None, seen: list[int] = seen) -> None:
                seen.append(done)

            if up:
                either.sftp_write(tmp_path / "huge", "part", progress=note, resume=True)
            else:
                either.sftp_read("huge", tmp_path / "part", progress=note, resume=True)
            assert min(seen) > kept or seen == [size]
            with part.open("rb") as copy:
                assert copy.read(5) == b"begin"
                copy.seek(-3, 2)
                assert (copy.tell() + 3, copy.read()) == (size, b"end")
    finally:
        for name in ("huge", "part"):
            (target.alice.files / name).unlink(missing_ok=True)
            (tmp_path / name).unlink(missing_ok=True)


def test_what_cannot_be_resumed(conn: Connection, target: Sshd, tmp_path: Path) -> None:
    """What is no regular file is copied as without it; contents in memory are a ValueError."""
    conn.sftp_write_data("data", "resumed")
    assert conn.sftp_read("resumed", "/dev/null", resume=True) == "Ok"
    with pytest.raises(ValueError, match="local_path"):
        conn.sftp_read("resumed", resume=True)
    (tmp_path / "file").write_text("data and more")
    conn.sftp_write(tmp_path / "file", "resumed", resume=True)
    assert conn.sftp_read("resumed") == "data and more"
    (tmp_path / "file").write_text("short")
    conn.sftp_write(tmp_path / "file", "resumed", resume=True)
    assert conn.sftp_read("resumed") == "short"
    assert conn.sftp.get("resumed", tmp_path / "new", resume=True) == 5


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async(target: Sshd, tmp_path: Path, backend: str) -> None:
    """The async class has it, too."""
    alice = target.alice

    async def main() -> None:
        async with AsyncConnection(
            target.host, port=target.port, username=alice.name, private_key=str(alice.key.path)
        ) as connection:
            await connection.sftp_write_data(DATA, "resumed")
            (tmp_path / "part").write_bytes(DATA[:5000])
            await connection.sftp_read("resumed", tmp_path / "part", resume=True)
            (tmp_path / "part").write_bytes(DATA * 2)
            await connection.sftp_write(tmp_path / "part", "resumed", resume=True)
            assert await connection.sftp_read("resumed", encoding=None) == DATA * 2
            with pytest.raises(ValueError, match="local_path"):
                await connection.sftp_read("resumed", resume=True)

    anyio.run(main, backend=backend)
