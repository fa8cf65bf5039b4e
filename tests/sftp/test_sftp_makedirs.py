"""Directories that somebody else makes at the same time."""

from __future__ import annotations

from hussh._protocol.sftp import wire
from hussh._protocol.sftp.makedirs import make_directories
from tests.sftp.fake import Bench, FakeServer


def test_a_parent_that_appears_meanwhile() -> None:
    """A parent that was missing at the first attempt and is there at the look is no error."""
    server = FakeServer(folders={b"top": []}, files={})
    refused: list[bytes] = []

    def twist(kind: int, body: bytes, reply: bytes | None) -> bytes | None:
        if kind == wire.MKDIR and not refused:
            refused.append(body)
            return server.status(body[:4], 2)
        return reply

    server.twist = twist
    bench = Bench(server)
    bench.run(make_directories(bench.sftp, b"top/new", 0o777, True))
    assert [kind for kind, _ in server.seen].count(wire.MKDIR) == 2
