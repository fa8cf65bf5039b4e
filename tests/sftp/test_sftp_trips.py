"""How many round trips SFTP takes: counted at a server that answers when the client waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from hussh import SFTPError
from hussh._protocol.sftp import ops, wire
from hussh._protocol.sftp.get_tree import get_tree
from hussh._protocol.sftp.job_pool import MOST_BYTES, MOST_JOBS
from hussh._protocol.sftp.local_file import MemorySink, MemorySource
from hussh._protocol.sftp.put_tree import put_tree
from hussh._protocol.sftp.transfer import download, upload
from hussh._protocol.sftp.transfer_context import TransferContext
from hussh._protocol.sftp.tree import TreeOptions
from tests.sftp.fake import OPENSSH, Bench, FakeServer

FSTATVFS = {**OPENSSH, b"fstatvfs@openssh.com": b"2"}
NAMES = [b"file%03d" % number for number in range(200)]


def openssh(**fields: object) -> Bench:
    """Return a bench with a server that looks as OpenSSH's."""
    bench = Bench(FakeServer(extensions=FSTATVFS, **fields))  # type: ignore[arg-type]
    bench.sftp.server.sshd_is_openssh = True
    return bench


def warm(bench: Bench) -> Bench:
    """Begin the session, and count from here on."""
    bench.run(bench.sftp.get_session())
    bench.pipes[-1].turns = 0
    return bench


def options(bench: Bench) -> TreeOptions:
    """Return the options of a directory transfer that keeps modes."""
    return TreeOptions(True, True, False, False, "", bench.clock)


def test_the_first_request_travels_with_init() -> None:
    """At OpenSSH the first STAT of a session is answered together with our INIT."""
    bench = openssh(files={b"f": bytearray(b"data")})
    assert bench.run(ops.stat(bench.sftp, b"f")).st_size == 4
    assert bench.pipes[-1].turns == 1


def test_others_say_their_version_first() -> None:
    """A server that is no OpenSSH gets nothing but INIT until it has told its version."""
    bench = Bench(FakeServer(files={b"f": bytearray(b"data")}))
    bench.run(ops.stat(bench.sftp, b"f"))
    assert bench.pipes[-1].turns == 2


@pytest.mark.parametrize("size", [0, 1, 1024, 32767])
def test_a_small_file(size: int) -> None:
    """A small file is fetched in two round trips, and sent in two."""
    data = bytes(range(256)) * 128
    bench = warm(openssh(files={b"f": bytearray(data[:size])}))
    context = TransferContext("read", b"f", None, "")
    sink = MemorySink()
    bench.run(download(bench.sftp, b"f", sink, context, bench.clock, None))
    assert (sink.data, bench.pipes[-1].turns) == (data[:size], 2)
    bench.pipes[-1].turns = 0
    source = MemorySource(data[:size])
    bench.run(upload(bench.sftp, lambda: source, b"g", context, bench.clock, None))
    assert (bytes(bench.server.files[b"g"]), bench.pipes[-1].turns) == (data[:size], 2)
    bench.run(ops.stat(bench.sftp, b"f"))  # takes along the CLOSE that nobody waits for
    assert bench.server.handles == {}


def test_a_write_that_fails_behind_which_close_travels() -> None:
    """The error is that of the WRITE, and the file is closed once."""
    bench = warm(openssh(full_at=10))
    context = TransferContext("write", None, b"f", "")
    with pytest.raises(SFTPError, match="No space left"):
        bench.run(
            upload(bench.sftp, lambda: MemorySource(bytes(20)), b"f", context, bench.clock, None)
        )
    assert [kind for kind, _ in bench.server.seen].count(wire.CLOSE) == 1
    assert bench.server.handles == {}


def test_two_hundred_files(tmp_path: Path) -> None:
    """Two hundred small files come in five round trips and go in four."""
    entries = [(name, 0o100644) for name in NAMES]
    files = {b"/d/" + name: bytearray(b"x") for name in NAMES}
    bench = warm(openssh(files=files, folders={b"/d": entries}))
    got = bench.run(get_tree(bench.sftp, b"/d", str(tmp_path / "d").encode(), options(bench)))
    assert (len(got[0]), got[1]) == (200, [])
    assert bench.pipes[-1].turns <= 5
    bench.pipes[-1].turns = 0
    sent = bench.run(put_tree(bench.sftp, str(tmp_path / "d").encode(), b"/e", options(bench)))
    assert (len(sent[0]), sent[1]) == (200, [])
    assert bench.pipes[-1].turns <= 4
    assert all(bench.server.files[b"/e/" + name] == b"x" for name in NAMES)
    bench.pipes[-1].turns = 0
    sent = bench.run(put_tree(bench.sftp, str(tmp_path / "d").encode(), b"/e", options(bench)))
    assert (len(sent[0]), bench.pipes[-1].turns) == (200, 3)  # into a directory that is there


@pytest.mark.parametrize("known", [True, False])
def test_what_is_under_way_is_bounded(tmp_path: Path, known: bool) -> None:
    """Bytes bound the files under way at OpenSSH, and their number does elsewhere."""
    size = 200 * 1024
    for name in NAMES:
        (tmp_path / name.decode()).write_bytes(bytes(size if known else 10))
    bench = openssh() if known else Bench(FakeServer(extensions={}))
    bench.run(ops.make_directory(bench.sftp, b"/first", 0o755))
    server, most = bench.server, 0

    def note(kind: int, request: bytes, reply: bytes) -> bytes:
        nonlocal most
        most = max(most, len(server.handles))
        return reply

    server.twist = note
    sent = bench.run(put_tree(bench.sftp, str(tmp_path).encode(), b"/e", options(bench)))
    assert (len(sent[0]), sent[1]) == (200, [])
    assert most == MOST_BYTES // size if known else most <= MOST_JOBS
