"""Local files that do not answer: time-outs hold in every API, and nothing is left afterwards.

A named pipe without another end stands for all of them: opening, reading and writing it hangs,
as on a mount whose server has gone. A thread that is still in such a call would fail the test.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hussh import ConnectTimeout, SFTPTimeout
from hussh._policy import file_cache
from tests.conformance.awaited import Awaited
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, THREE
from tests.support.sshd import Sshd

#: Seconds; those of the calls are a tenth of one.
PROMPTLY = 10.0
#: Bytes, more than pipes and windows hold.
MUCH = 4 << 20


@pytest.fixture
def there(target: Sshd) -> Iterator[Path]:
    """Return an empty folder of alice's; its name relative to her home is ``there``."""
    with target.alice.folder("there") as folder:
        yield folder


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Path]:
    """Return a named pipe; whoever hangs in it at the end of the test comes back."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    yield path
    # With both ends here whoever opens it succeeds; what writers left is read, and once the
    # writing end is closed, readers come to the end.
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    try:
        deadline = monotonic() + PROMPTLY
        while any(_is_opening(thread) for thread in _busy_workers()):
            assert monotonic() < deadline
        os.close(writing)
        writing = -1
        while _busy_workers():
            assert monotonic() < deadline
            with suppress(BlockingIOError):
                os.read(reading, 1 << 20)
    finally:
        for end in (reading, writing):
            if end >= 0:
                os.close(end)


def _busy_workers() -> list[threading.Thread]:
    return [
        thread
        for thread in threading.enumerate()
        if thread.name == "hussh-worker" and not getattr(thread, "is_idle", False)
    ]


def _is_opening(thread: threading.Thread) -> bool:
    """Whether a thread is in a system call that opens a file."""
    path = Path(f"/proc/self/task/{thread.native_id}/wchan")
    with suppress(OSError):
        return "fifo" in path.read_text()
    return False


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_an_upload_from_a_pipe(client: Client, there: Path, pipe: Path) -> None:
    """The time-out of an upload holds although its source cannot even be opened."""
    conn = client.awaited
    for call in (conn.sftp_write, conn.sftp.put):
        start = monotonic()
        with pytest.raises(SFTPTimeout, match="timed out after"):
            await call(pipe, "there/file", timeout=0.1)
        assert monotonic() - start < PROMPTLY
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_a_download_to_a_pipe(client: Client, there: Path, pipe: Path) -> None:
    """The time-out of a download holds although nobody reads what it writes."""
    (there / "file").write_bytes(bytes(MUCH))
    conn = client.awaited
    for call in (conn.sftp_read, conn.sftp.get):
        start = monotonic()
        with pytest.raises(SFTPTimeout, match="timed out after"):
            await call("there/file", pipe, timeout=0.1)
        assert monotonic() - start < PROMPTLY
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", FOUR, indirect=True)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
async def test_a_pipe_that_falls_silent(client: Client, there: Path, pipe: Path, up: bool) -> None:
    """A file is not closed under a thread that reads it or writes to it when time is over."""
    (there / "file").write_bytes(bytes(MUCH))
    conn = client.awaited
    with ExitStack() as ends:
        for mode in (os.O_RDONLY | os.O_NONBLOCK, os.O_WRONLY):
            ends.callback(os.close, os.open(pipe, mode))
        call = conn.sftp_write if up else conn.sftp_read
        with pytest.raises(SFTPTimeout):
            await call(*((pipe, "there/other") if up else ("there/file", pipe)), timeout=0.5)
        held = [name for name in _open_files() if name == str(pipe)]
        # Ours, and the thread's; on a machine with much to do it may not have come to that.
        assert len(held) == 2 + len(_busy_workers())
    assert (await client.execute("echo on")).stdout == "on\n"


@pytest.mark.parametrize("client", THREE, indirect=True)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
async def test_scp(client: Client, there: Path, pipe: Path, up: bool) -> None:
    """The connection's time-out, which scp has, holds for local files, too."""
    (there / "file").write_bytes(bytes(MUCH))
    server, account = client.server, client.account
    session = await client.connect(
        server.host, server.port, username=account.name, private_key=account.key.path, timeout=2
    )
    conn = Awaited(session.real)
    start = monotonic()
    call = conn.scp_write if up else conn.scp_read
    with pytest.raises(TimeoutError):
        await call(*((pipe, "there/other") if up else ("there/file", pipe)))
    assert monotonic() - start < 2 + PROMPTLY


@pytest.mark.parametrize("client", THREE, indirect=True)
@pytest.mark.parametrize("policy", ["strict", "accept-new"])
async def test_known_hosts(client: Client, pipe: Path, policy: str) -> None:
    """Connecting ends in time although the file of known hosts does not answer."""
    start = monotonic()
    with pytest.raises(ConnectTimeout) as caught:
        await client.connect(
            client.server.host,
            client.server.port,
            known_hosts=pipe,
            host_key_policy=policy,
            username="alice",
            timeout=0.1,
        )
    assert caught.value.phase == "hostkey"
    assert monotonic() - start < PROMPTLY


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_a_key(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connecting ends in time although the file of the key does not answer."""
    answer = threading.Event()

    def hang(path: object) -> Any:
        answer.wait()
        raise OSError("too late")

    monkeypatch.setattr(file_cache, "read_private_key", hang)
    start = monotonic()
    try:
        with pytest.raises(ConnectTimeout) as caught:
            await client.connect(
                client.server.host,
                client.server.port,
                username="alice",
                private_key="/mnt/key",
                timeout=1,
            )
    finally:
        answer.set()
    assert caught.value.phase == "auth"
    assert monotonic() - start < 1 + PROMPTLY


def _open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            yield os.readlink(f"/proc/self/fd/{name}")
