"""What only the sync `Connection.popen` has; `tests/conformance/test_popen.py` has the rest."""

from __future__ import annotations

import io
import shutil

import pytest

from hussh import ChannelRefused, CommandTimeout, Connection


def test_copyfileobj(connection: Connection) -> None:
    """The streams are file objects that shutil takes."""
    with connection.popen("tr a-z A-Z") as process:
        process.stdin.write(b"shout " * 1000)
        process.stdin.close()
        copied = io.BytesIO()
        shutil.copyfileobj(process.stdout, copied)
    assert copied.getvalue() == b"SHOUT " * 1000


@pytest.mark.parametrize("how", ["closed", "timed-out"])
def test_places_of_killed_commands_are_free_again(connection: Connection, how: str) -> None:
    """Where ten commands are allowed at once, more follow ten that we ended as they began."""
    for _ in range(3):
        if how == "timed-out":
            for _ in range(10):
                with pytest.raises(CommandTimeout):
                    connection.execute("exec sleep 20", timeout=5)
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


def test_left_with_input_that_nobody_reads(connection: Connection) -> None:
    """What a command does not read of its input does not hold up the end of the block."""
    with connection.popen("echo on; exec sleep 1000") as process:
        assert process.stdout.readline() == b"on\n"
        session = connection._get_session()
        full = False
        while not full:  # the server's window, and our queue
            with session.driver.fresh():
                full = not process._channel.write(b"x" * 100_000)
        process.stdin.write(b"a word more")
    assert process.signal == "TERM"
