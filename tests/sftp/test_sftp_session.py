"""The one SFTP session of a connection: shared, interrupted, timed out, lost, refused, replaced."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hussh import Connection
from hussh.errors import (
    ConnectionClosed,
    ConnectionLost,
    SFTPError,
    SFTPTimeout,
    SFTPUnavailable,
)
from tests.sftp.conftest import Connect
from tests.support.processes import kill_all
from tests.support.sshd import Sshd

MIB = 1 << 20
PROGRAM = "/usr/lib/openssh/sftp-server"
PROMPTLY = 10.0  # seconds for what must not wait; it takes milliseconds on an idle machine


@pytest.fixture
def huge(target: Sshd) -> Iterator[str]:
    """Return the path of a file of 4 GiB that takes no room."""
    path = target.alice.files / "huge"
    with path.open("wb") as file:
        file.truncate(4096 * MIB)
    yield "huge"
    path.unlink()


def _in_threads(jobs: list[Callable[[], Any]]) -> list[BaseException]:
    errors: list[BaseException] = []

    def run(job: Callable[[], Any]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_share_one_channel(connect: Connect, target: Sshd, tmp_path: Path) -> None:
    """Sixteen threads that read, write and list at once get their own answers, on one channel."""
    conn = connect(target)
    folder = target.alice.files / "shared"
    folder.mkdir()
    os.chown(folder, target.alice.uid, target.alice.gid)

    def job(number: int) -> Callable[[], None]:
        def work() -> None:
            data = bytes([number]) * (100_000 * number + 1)
            for turn in range(3):
                name = f"shared/{number}-{turn}"
                conn.sftp_write_data(data, name)
                assert conn.sftp.stat(name).st_size == len(data)
                assert conn.sftp_read(name, encoding=None) == data
                assert f"{number}-{turn}" in conn.sftp.listdir("shared")
                assert conn.execute(f"echo {number}").stdout == f"{number}\n"

        return work

    assert _in_threads([job(number) for number in range(16)]) == []
    assert target.log_text().count("Starting session: subsystem") == 1
    shutil.rmtree(folder)


def test_among_busy_sessions(connect: Connect, sshd_factory: Callable[..., Sshd]) -> None:
    """Where the server's sessions are all taken by commands, SFTP waits until one has ended."""
    conn = connect(sshd_factory(options={"MaxSessions": "2"}))
    jobs: list[Callable[[], Any]] = [lambda: conn.execute("sleep 0.3") for _ in range(6)]
    jobs += [conn.sftp.listdir for _ in range(6)]
    assert _in_threads(jobs) == []
    assert conn.execute("echo on").stdout == "on\n"


# -- servers without SFTP


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"Subsystem": []}, "refused the subsystem"),
        ({"Subsystem": "sftp /nonexistent/sftp-server"}, "no usable SFTP"),
        ({"Subsystem": "sftp /bin/echo Welcome, traveller"}, "Welcome, traveller"),
        ({"Subsystem": "sftp /bin/true"}, "ended the SFTP session"),
        ({"MaxSessions": "0"}, "no session for SFTP"),
    ],
    ids=["refused", "missing", "greeting", "empty", "no-session"],
)
def test_servers_without_sftp(
    connect: Connect, sshd_factory: Callable[..., Sshd], settings: dict[str, Any], words: str
) -> None:
    """A server without SFTP is an error at once that says so; the connection stays usable."""
    conn = connect(sshd_factory(options=settings))
    for _ in range(2):
        begin = monotonic()
        with pytest.raises(SFTPUnavailable, match=words) as caught:
            conn.sftp.listdir()
        assert monotonic() - begin < PROMPTLY
        assert isinstance(caught.value, OSError)
        assert caught.value.phase == "sftp"
    if "MaxSessions" not in settings:
        assert conn.execute("echo on").stdout == "on\n"


@pytest.mark.skipif(not os.path.exists(PROGRAM), reason="no sftp-server program")
def test_a_server_process_that_dies(connect: Connect, sshd_factory: Callable[..., Sshd]) -> None:
    """When sftp-server is killed, open files fail and the next call gets a new session."""
    server = sshd_factory(options={"Subsystem": f"sftp {PROGRAM}"})
    conn = connect(server)
    conn.sftp_write_data(b"x" * MIB, "file")
    file = conn.sftp.open("file", "rb", buffering=0)
    assert file.read(1) == b"x"
    kill_all(process.pid for process in server.processes() if "sftp" in process.argv[0])
    file.seek(MIB // 2)
    with pytest.raises(SFTPError, match="ended"):
        file.readall()  # type: ignore[attr-defined]
    assert conn.sftp.stat("file").st_size == MIB
    with pytest.raises(SFTPError, match="ended"):
        file.close()


# -- time limits


def test_a_mute_server(connect: Connect, sshd_factory: Callable[..., Sshd]) -> None:
    """A subsystem that never speaks costs a time-out each time, and no more."""
    conn = connect(sshd_factory(options={"Subsystem": "sftp /bin/sleep 1000"}))
    conn._timeout = 300
    for _ in range(2):
        begin = monotonic()
        with pytest.raises(SFTPTimeout, match="300 ms") as caught:
            conn.sftp.listdir()
        assert isinstance(caught.value, TimeoutError)
        assert monotonic() - begin < 0.3 + PROMPTLY
    assert conn.execute("echo on", timeout=0).stdout == "on\n"


def test_a_file_that_blocks_the_server(conn: Connection, target: Sshd) -> None:
    """A FIFO stops OpenSSH's sftp-server for good; after the time-out another one is asked."""
    conn.sftp_write_data("kept open", "readable")
    os.mkfifo(target.alice.files / "fifo")
    os.chown(target.alice.files / "fifo", target.alice.uid, target.alice.gid)
    with conn.sftp.open("readable") as before:
        for _ in range(2):
            with pytest.raises(SFTPTimeout):
                conn.sftp_read("fifo", timeout=300)
            assert conn.sftp_read("readable") == "kept open"
            assert "fifo" in conn.sftp.listdir(".")
        # What is open at the server that is stuck has to wait; here it is told how long.
        assert not before.closed
        with (target.alice.files / "fifo").open("w"):  # it may go on
            assert before.read() == "kept open"
    (target.alice.files / "fifo").unlink()


def test_a_transfer_that_takes_too_long(conn: Connection, huge: str, tmp_path: Path) -> None:
    """A time-out in mid-transfer keeps what had arrived, says how much, and names both ends."""
    with pytest.raises(SFTPTimeout, match="after 200 ms") as caught:
        conn.sftp_read(huge, tmp_path / "part", timeout=200)
    error = caught.value
    assert (error.filename, error.filename2) == (huge, str(tmp_path / "part"))
    assert error.transferred == (tmp_path / "part").stat().st_size
    assert str(error.transferred) in str(error)
    assert conn.sftp.stat(huge).st_size == 4096 * MIB


# -- interrupts


def test_not_all_sessions_get_stuck(conn: Connection, target: Sshd) -> None:
    """However often such a file is tried, the server's sessions are not used up by it."""
    conn.sftp_write_data("text", "readable")
    fifo = target.alice.files / "fifo"
    os.mkfifo(fifo)
    os.chown(fifo, target.alice.uid, target.alice.gid)
    for _ in range(12):  # sshd gives ten
        with pytest.raises(SFTPTimeout):
            conn.sftp_read("fifo", timeout=60)
    assert conn.execute("echo fine").stdout == "fine\n"
    gate = os.open(fifo, os.O_RDWR)  # they may go on; this itself never waits
    try:
        assert conn.sftp_read("readable") == "text"
    finally:
        os.close(gate)
    fifo.unlink()


@pytest.fixture
def heeded() -> Iterator[None]:
    """Let SIGINT be heeded; programs that were started in the background ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_ctrl_c(conn: Connection, huge: str, target: Sshd) -> None:
    """SIGINT ends a transfer at once; the connection and its SFTP stay usable."""
    for _ in range(4):
        started = threading.Event()

        def interrupt(started: threading.Event = started) -> None:
            started.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()

        def report(*_: object, started: threading.Event = started) -> None:
            started.set()

        with pytest.raises(KeyboardInterrupt):
            conn.sftp.get(huge, "/dev/null", progress=report)
        helper.join()
        assert conn.sftp.stat(huge).st_size == 4096 * MIB
        assert conn.execute("echo on").stdout == "on\n"
    assert target.connections() == 1


# -- endings


def test_a_lost_connection(connect: Connect, target: Sshd, huge: str, tmp_path: Path) -> None:
    """A connection that breaks in mid-transfer says how much had arrived, and that is kept."""
    conn = connect(target)
    with pytest.raises(ConnectionLost) as caught:
        conn.sftp_read(huge, tmp_path / "part", progress=lambda *_: target.kill_sessions())
    kept = (tmp_path / "part").stat().st_size
    assert kept == caught.value.transferred > 0  # type: ignore[attr-defined]
    assert f"{kept} bytes" in str(caught.value)


def test_closed_by_another_thread(conn: Connection, huge: str) -> None:
    """Closing the connection ends a transfer of another thread."""
    with pytest.raises((ConnectionClosed, ConnectionLost)):
        conn.sftp.get(huge, "/dev/null", progress=lambda *_: conn.close())
    with pytest.raises(ConnectionClosed):
        conn.sftp.listdir()


def test_what_is_left_open(connect: Connect, target: Sshd) -> None:
    """Files and listings that are collected unclosed are closed on the server, without waiting."""
    conn = connect(target)
    conn.sftp_write_data("x", "left")
    for _ in range(50):
        file = conn.sftp.open("left", "rb", buffering=0)
        entries = conn.sftp.scandir()
        next(entries)
        del file, entries
    conn.sftp.stat("left")
    session = conn._sftp._current
    assert session is not None
    while session.machine.in_flight:
        conn.sftp.stat("left")
    held = conn.execute("ls -l /proc/[0-9]*/fd 2>/dev/null | grep -c 'left$'").stdout
    assert held == "0\n"
    (target.alice.files / "left").unlink()


def test_sftp_outlives_its_connection_object(connect: Connect, target: Sshd) -> None:
    """`conn.sftp` keeps the connection alive."""
    sftp = Connection(
        target.host,
        target.port,
        username=target.alice.name,
        private_key=target.alice.key.path,
        host_key_policy="ignore",
    ).sftp
    assert isinstance(sftp.listdir(), list)
    assert isinstance(sftp._connection, Connection)
    sftp._connection.close()
