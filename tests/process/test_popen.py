"""`Connection.popen`: a command that runs while we read and write."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading

import pytest

from hussh import (
    ChannelError,
    ChannelRefused,
    CommandTimeout,
    Connection,
    ConnectionClosed,
    Pty,
)


def test_conversation(connection: Connection) -> None:
    """Lines go to a command and come back while it runs."""
    with connection.popen("while read line; do echo got $line; done") as process:
        for word in (b"one", b"two", b"three"):
            process.stdin.write(word + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"got " + word + b"\n"
            assert process.poll() is None
    assert process.returncode == 0


def test_streams_stay_apart(jumped: Connection) -> None:
    """stdout and stderr are read separately, through a bastion too."""
    with jumped.popen("echo out; echo err >&2; exit 7") as process:
        assert process.stderr.read() == b"err\n"
        assert process.stdout.read() == b"out\n"
        assert process.wait() == 7
    assert process.returncode == 7


def test_output_as_it_comes(connection: Connection) -> None:
    """Iterating over stdout yields a line before the command has ended."""
    with connection.popen("echo first; read wait; echo last") as process:
        lines = iter(process.stdout)
        assert next(lines) == b"first\n"
        assert process.poll() is None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert list(lines) == [b"last\n"]


def test_binary_both_ways(connection: Connection) -> None:
    """Random bytes survive, while one thread writes and another reads."""
    data = os.urandom(8 << 20)
    digest = hashlib.sha256()
    with connection.popen("cat") as process:

        def pour() -> None:
            process.stdin.write(data)
            process.stdin.close()

        writer = threading.Thread(target=pour)
        writer.start()
        while part := process.stdout.read1(65536):
            digest.update(part)
        writer.join()
    assert digest.digest() == hashlib.sha256(data).digest()
    assert process.returncode == 0


def test_copyfileobj(connection: Connection) -> None:
    """The streams are file objects that shutil takes."""
    with connection.popen("tr a-z A-Z") as process:
        process.stdin.write(b"shout " * 1000)
        process.stdin.close()
        from io import BytesIO

        copied = BytesIO()
        shutil.copyfileobj(process.stdout, copied)
    assert copied.getvalue() == b"SHOUT " * 1000


def test_signals(connection: Connection) -> None:
    """A signal ends the command; the status is -1 and the signal has its name."""
    with connection.popen("echo ready; exec sleep 1000") as process:
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.wait() == -1
    assert process.signal == "TERM"


def test_wait_time_limit(connection: Connection) -> None:
    """`wait` gives up after its own limit and does nothing to the command."""
    with connection.popen("read line; exit 3") as process:
        with pytest.raises(CommandTimeout, match="after 100 ms"):
            process.wait(timeout=100)
        assert process.poll() is None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert process.wait() == 3


def test_error_in_the_block_kills(connection: Connection) -> None:
    """An exception in the block ends the command at once; the connection stays usable."""
    pids: list[int] = []

    def fail() -> None:
        with connection.popen("echo $$; exec sleep 1000") as process:
            pids.append(int(process.stdout.readline()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    check = f"while kill -0 {pids[0]} 2>/dev/null; do sleep 0.05; done; echo gone"
    assert connection.execute(check).stdout == "gone\n"


def test_command_that_reads_nothing(connection: Connection) -> None:
    """Writing to a command that has ended is an error, not a hang."""
    with connection.popen("true") as process:
        process.wait()
        with pytest.raises(OSError, match="closed"):  # noqa: PT012 (the first writes may fit)
            for _ in range(100):
                process.stdin.write(b"x" * 100_000)
                process.stdin.flush()
    assert process.returncode == 0


def test_environment(target_accepting_env: Connection) -> None:
    """Variables reach the command where the server accepts them."""
    with target_accepting_env.popen("echo $LC_HUSSH", env={"LC_HUSSH": "set äö"}) as process:
        assert process.stdout.read() == "set äö\n".encode()


def test_terminal(connection: Connection) -> None:
    """A terminal has the size that was asked for."""
    with connection.popen("stty size; tty", pty=Pty("vt100", 132, 43)) as process:
        answer = process.stdout.read()
    assert answer.startswith(b"43 132\r\n/dev/")


def test_use_after_close(connection: Connection) -> None:
    """A closed process refuses to be used, and closing twice is fine."""
    process = connection.popen("sleep 1000")
    process.close()
    process.close()
    with pytest.raises(ConnectionClosed):
        process.wait()
    assert connection.execute("echo on").stdout == "on\n"


@pytest.mark.parametrize("how", ["closed", "timed-out"])
def test_places_of_killed_commands_are_free_again(connection: Connection, how: str) -> None:
    """Where ten commands are allowed at once, eleven and more follow ten that we have ended."""
    for _ in range(3):
        if how == "timed-out":
            for _ in range(10):
                with pytest.raises(CommandTimeout):
                    connection.execute("exec sleep 100", timeout=1)
        else:
            running = [connection.popen("exec sleep 100") for _ in range(10)]
            with pytest.raises(ChannelRefused):
                connection.popen("true")
            with pytest.raises(ChannelRefused):
                connection.execute("true")
            for process in running:
                process.kill()
                process.close()
        assert connection.execute("echo free").stdout == "free\n"
        with connection.popen("echo free") as process:
            assert process.stdout.read() == b"free\n"


def test_refused_command(sshd_factory, known_hosts) -> None:  # type: ignore[no-untyped-def]
    """A server that runs no commands is a ChannelError."""
    server = sshd_factory(options={"MaxSessions": 0})
    with (
        Connection(
            server.host,
            server.port,
            server.alice.name,
            private_key=server.alice.key.path,
            host_key_policy="ignore",
            timeout=30_000,
        ) as connection,
        pytest.raises(ChannelError, match="refused"),
    ):
        connection.popen("true")
