"""dropbear as target: another server's reading of the protocol."""

from __future__ import annotations

import hashlib
import os

import pytest

from hussh import (
    AuthenticationError,
    CommandFailed,
    Connection,
    ConnectionLost,
    ExpectEOF,
    SFTPUnavailable,
    TunnelRefused,
)
from tests.support.connecting import connect_as_alice
from tests.support.sshd import Sshd


def test_commands(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """Output, both streams, exit statuses."""
    with connect_as_alice(surroundings, dropbear) as connection:
        result = connection.execute("echo out; echo err >&2; exit 3")
        assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)
        assert [connection.execute(f"exit {n}").status for n in range(10)] == list(range(10))


def test_password(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """A right password lets in, a wrong one does not."""
    alice = surroundings.alice
    with connect_as_alice(
        surroundings, dropbear, private_key=None, password=alice.password
    ) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    with pytest.raises(AuthenticationError):
        connect_as_alice(surroundings, dropbear, private_key=None, password="wrong")


def test_bulk_both_ways(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """Megabytes in and out arrive unchanged; dropbear's windows are small."""
    data = os.urandom(16 << 20)
    with connect_as_alice(surroundings, dropbear) as connection:
        result = connection.execute("cat", input=data)
    assert hashlib.sha256(result.stdout_bytes).digest() == hashlib.sha256(data).digest()
    assert result.status == 0


def test_no_unix_sockets(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """A refused Unix socket is not mistaken for a server that forwards nothing.

    dropbear 2025 forwards some, and cannot find this one.
    """
    refused = pytest.raises(TunnelRefused, match=r"forwards no Unix sockets|No such file")
    with connect_as_alice(surroundings, dropbear) as connection, refused:
        connection.open_unix_connection("/run/nobody")


def test_commands_of_its_own_limit(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """It ends the connection for a command beyond 9,000 bytes, and the error says what to do."""
    lost = pytest.raises(ConnectionLost, match=r"request of 9,1\d\d bytes: dropbear .*input=")
    with connect_as_alice(surroundings, dropbear) as connection:
        assert connection.execute(f"echo {'x' * 8900} | wc -c").stdout == "8901\n"
        with lost:
            connection.execute(f"echo {'x' * 9100} | wc -c")


def test_signal_and_limit(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """A command that takes too long is stopped, and the connection goes on."""
    with connect_as_alice(surroundings, dropbear) as connection:
        with pytest.raises(TimeoutError) as timeout:
            connection.execute("echo before; exec sleep 1000", timeout=1000)
        assert timeout.value.result.stdout == "before\n"  # type: ignore[attr-defined]
        assert connection.execute("kill -TERM $$").signal == "TERM"


def test_as_a_bastion(dropbear: tuple[str, int], surroundings: Sshd, target: Sshd) -> None:
    """dropbear forwards to an OpenSSH behind it."""
    with (
        connect_as_alice(surroundings, dropbear) as bastion,
        Connection(
            target.host,
            target.port,
            target.alice.name,
            private_key=target.alice.key.path,
            host_key_policy="ignore",
            proxy_jump=bastion,
            timeout=60_000,
        ) as connection,
    ):
        assert connection.execute("echo $SERVER_NAME").stdout == "target\n"


def test_a_request_that_it_does_not_take(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """dropbear ends the connection at a packet over 35 KB; the error says why, and a way out."""
    with (
        pytest.raises(ConnectionLost, match=r"may not take a request of 100,000 bytes.*input="),
        connect_as_alice(surroundings, dropbear) as connection,
    ):
        connection.execute("x" * 100_000)
    with (
        pytest.raises(ConnectionLost, match=r"may not take a request of 100,000 bytes.*input="),
        connect_as_alice(surroundings, dropbear) as connection,
        connection.popen("x" * 100_000),
    ):
        pass
    with connect_as_alice(surroundings, dropbear) as connection:
        assert connection.execute("wc -c", input="x" * 100_000).stdout == "100000\n"


def test_no_sftp(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """Without an sftp-server beside it dropbear has no SFTP: a clear error, or it works."""
    with connect_as_alice(surroundings, dropbear) as connection:
        has_server = connection.execute("test -x /usr/lib/sftp-server").status == 0
        if has_server:
            assert connection.sftp.listdir(".")
        else:
            with pytest.raises(SFTPUnavailable):
                connection.sftp.listdir(".")
        assert connection.execute("echo usable").stdout == "usable\n"


def test_terminals_and_prompts(dropbear: tuple[str, int], surroundings: Sshd) -> None:
    """A terminal, the end of its input, prompts and `communicate` work as with OpenSSH."""
    with connect_as_alice(surroundings, dropbear) as connection:
        result = connection.execute("tty; cat; echo over", pty=True, input="in", timeout=30_000)
        assert "/dev/pts/" in result.stdout
        assert result.stdout.endswith("over\r\n")
        with connection.popen("cat; echo err >&2; exit 3") as process:
            assert process.communicate("in\n", timeout=30_000) == (b"in\n", b"err\n")
            assert process.returncode == 3
        with connection.shell(pty=True) as shell:
            shell.send_line("stty -echo; PS1='ready''> '")
            shell.expect_exact("ready> ", timeout=30_000)
            shell.send_line("echo grün; exit 4")
            assert shell.expect(r"gr(.)n\r\n", timeout=30_000)[1] == "ü"
            with pytest.raises(ExpectEOF):
                shell.expect("never", timeout=30_000)
        assert shell.result is not None
        assert shell.result.status == 4
        with pytest.raises(CommandFailed, match="failed with status 5"):
            connection.execute("exit 5", check=True)
