"""Small sequential reads fetch ahead: round trips are counted, time is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hussh._policy.sftp_server import ServerLimits
from hussh._protocol.core import Op
from hussh._protocol.sftp import wire
from hussh._protocol.sftp.buffer import Buffered
from hussh._protocol.sftp.file import File, Mode, open_file
from hussh._protocol.sftp.session import SftpState
from hussh._protocol.sftp.text import Text
from tests.sftp.fake import Bench, FakeServer

MIB = 1 << 20
DATA = (b"x" * 99 + b"\n") * (8 * MIB // 100)


class Trips(Bench):
    """Counts how often an operation waits for what the server has to say."""

    trips = 0

    def run(self, op: Op[Any], steps: int = 1_000_000) -> Any:
        """Run an operation to its end; all that was asked for comes within one round trip."""
        try:
            next(op)
            while self.pipes[-1].wake():
                while self.pipes[-1].move():
                    pass
                self.trips += 1
                op.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("it waits for nothing")


def opened(extensions: dict[bytes, bytes] | None = None) -> tuple[Trips, File]:
    """Open a file of 8 MiB at a server that speaks like OpenSSH's, or without extensions."""
    server = FakeServer(files={b"data": bytearray(DATA)})
    if extensions is not None:
        server.extensions = extensions
    bench = Trips(server)
    bench.sftp = SftpState(bench, ServerLimits())
    file = bench.run(open_file(bench.sftp, b"data", Mode.parse("rb")))
    bench.trips = 0
    return bench, file


def read_raw(bench: Trips, file: File, size: int) -> bytes:
    """Read as `io.TextIOWrapper` and `read1` do over a raw file of threads."""
    view = memoryview(bytearray(size))
    parts = []
    while count := bench.run(file.read_into(view)):
        parts.append(bytes(view[:count]))
    return b"".join(parts)


def read_buffer(bench: Trips, file: File, size: int) -> bytes:
    """Read with `read1` of a file of tasks."""
    buffer = Buffered(file, 256 * 1024)
    parts = []
    while part := bench.run(buffer.read1(size)):
        parts.append(part)
    return b"".join(parts)


def read_lines(bench: Trips, file: File, _: int) -> bytes:
    """Read the lines of a text file of tasks."""
    text = Text(Buffered(file, 256 * 1024), None, None, None, False)
    parts = []
    while line := bench.run(text.readline()):
        parts.append(line)
    return "".join(parts).encode()


@pytest.mark.parametrize("extensions", [None, {}], ids=["openssh", "unknown"])
@pytest.mark.parametrize("way", [read_raw, read_buffer, read_lines])
def test_small_reads(
    way: Callable[[Trips, File, int], bytes], extensions: dict[bytes, bytes] | None
) -> None:
    """Reading 8 MiB in pieces of 8 KiB takes few more round trips than in large pieces."""
    bench, file = opened(extensions)
    assert way(bench, file, 8192) == DATA
    # Four of 2 MiB would do; it begins with little, and doubles that as long as it goes on.
    assert bench.trips <= 12


def test_little_is_read_of_a_head() -> None:
    """Who reads only the first bytes of a file causes one small request."""
    bench, file = opened()
    assert bench.run(file.read_into(memoryview(bytearray(100)))) == 100
    asked = [body for kind, body in bench.server.seen if kind == wire.READ]
    assert [int.from_bytes(body[-4:], "big") for body in asked] == [100]
