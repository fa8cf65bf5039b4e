"""How many requests are under way at once: no more than the server bears; stepped by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hussh._policy.sftp_server import ServerLimits
from hussh._protocol.core import DeadlineExceeded, Op, RunBlocking, Wait
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.local_file import MemorySink, MemorySource
from hussh._protocol.sftp.put_tree import put_tree
from hussh._protocol.sftp.session import SftpState
from hussh._protocol.sftp.transfer import download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh._protocol.sftp.tree import TreeOptions
from hussh.errors import SFTPTimeout
from tests.sftp.fake import Bench, FakeServer

KIB, MIB = 1 << 10, 1 << 20
DATA = bytes(range(256)) * (12 * KIB) + b"the end"


@dataclass
class Forgetful(FakeServer):
    """Forgets requests beyond so many that it has not answered."""

    bears: int = 64
    peak: int = 0

    def feed(self, data: bytes) -> None:
        """Take bytes of the client; the reply to one request too many is lost."""
        super().feed(data)
        self.peak = max(self.peak, len(self.waiting))
        del self.waiting[self.bears :]


def bench(server: FakeServer, limits: ServerLimits | None = None) -> Bench:
    """Join a server to an `SftpState` with ceilings of the user's."""
    made = Bench(server)
    made.sftp = SftpState(made, limits)
    return made


def put(made: Bench, data: bytes = DATA) -> int:
    context = TransferContext("write", None, b"data", "")
    op = upload(made.sftp, lambda: MemorySource(data), b"data", context, made.clock, None)
    return made.run(op)


def get(made: Bench) -> bytes:
    sink = MemorySink()
    context = TransferContext("read", b"data", None, "")
    made.run(download(made.sftp, b"data", sink, context, made.clock, None))
    return sink.data


@pytest.mark.parametrize("ceiling", [None, 1, 3])
def test_no_more_than_the_server_bears(ceiling: int | None) -> None:
    """A server that forgets the 65th request, or the one beyond a ceiling, loses nothing."""
    server = Forgetful(bears=ceiling or 64, extensions={})
    made = bench(server, ServerLimits(requests=ceiling))
    assert put(made) == len(DATA)
    assert server.files[b"data"] == DATA
    assert get(made) == DATA
    assert server.peak == server.bears


def test_ceiling_at_openssh() -> None:
    """The ceiling holds at a server that is known to bear more."""
    server = Forgetful(bears=5)
    made = bench(server, ServerLimits(requests=5))
    put(made)
    assert get(made) == DATA
    assert server.peak == 5


def test_openssh_bears_more() -> None:
    """A server that tells its limits gets as many requests as fit into the bytes in flight."""
    server = Forgetful(bears=1000, limits=(34 * KIB, 16 * KIB, 16 * KIB, 100))
    made = bench(server)
    put(made)
    assert get(made) == DATA
    assert server.peak > 64


def test_directories(tmp_path: Path) -> None:
    """Hundreds of small files are put and got with no more requests than the server bears."""
    (tmp_path / "source").mkdir()
    for number in range(200):
        (tmp_path / "source" / f"file{number}").write_bytes(b"x" * number)
    server = Forgetful(bears=7, extensions={})
    made = bench(server, ServerLimits(requests=7))
    options = TreeOptions(True, False, False, False, "", made.clock)
    source, target = bytes(tmp_path / "source"), bytes(tmp_path / "target")
    done, failed = made.run(put_tree(made.sftp, source, b"/up", options))
    assert (len(done), failed) == (200, [])
    names = [(name[4:], 0o100644) for name in server.files]
    server.folders[b"/up"] = [(name.split(b"/")[-1], mode) for name, mode in names]
    done, failed = made.run(get_tree(made.sftp, b"/up", target, options))
    assert (len(done), failed) == (200, [])
    assert (tmp_path / "target" / "file199").read_bytes() == b"x" * 199
    assert server.peak <= 7


def test_what_was_given_up_is_not_sent() -> None:
    """Of an upload that was given up only what was under way reaches the server, and CLOSE."""
    server = Forgetful(bears=1, extensions={})
    made = bench(server, ServerLimits(requests=1))
    context = TransferContext("write", None, b"data", "")
    op = upload(made.sftp, lambda: MemorySource(DATA), b"data", context, made.clock, None)
    need = next(op)
    while not any(kind == wire.WRITE for kind, _ in server.seen):
        need = op.send(need.call(None)) if isinstance(need, RunBlocking) else _woken(made, op)
    op.close()
    while made.pipes[-1].wake():
        made.sftp._current.step()  # type: ignore[union-attr]
    assert [kind for kind, _ in server.seen if kind == wire.WRITE] == [wire.WRITE]
    assert server.seen[-1][0] == wire.CLOSE


def _woken(made: Bench, op: Op[int]) -> Wait:
    made.pipes[-1].wake()
    return op.send(None)


@pytest.mark.parametrize(("answers", "text"), [(96, "1 request is"), (20, "64 requests are")])
def test_time_out_says_how_many(answers: int, text: str) -> None:
    """Where the server leaves reads without an answer, the time-out says how many they are."""
    left = answers

    def forget(kind: int, _: bytes, reply: bytes) -> bytes | None:
        nonlocal left
        left -= kind == wire.READ
        return None if kind == wire.READ and left < 0 else reply

    server = FakeServer(extensions={}, twist=forget)
    server.files[b"data"] = bytearray(3 * MIB)  # 96 reads, and one at the end
    made = bench(server)
    context = TransferContext("read", b"data", None, " after 5 s")
    op = download(made.sftp, b"data", MemorySink(), context, made.clock, None)
    next(op)
    while made.pipes[-1].wake():
        op.send(None)
    with pytest.raises(SFTPTimeout, match=f"timed out after 5 s; {text} unanswered"):
        op.throw(DeadlineExceeded())
