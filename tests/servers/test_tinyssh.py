"""tinyssh as target: ed25519, curve25519 and chacha20-poly1305 only, one connection per process."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator

import pytest

from hussh import (
    AuthenticationError,
    ChannelRefused,
    Connection,
    ConnectionLost,
    SFTPUnavailable,
)
from hussh._connect import async_connect
from hussh.multi_conn import MultiConnection
from tests.support.keys import Keys
from tests.support.sshd import Sshd


@pytest.fixture
def connection(tinyssh: list[str], surroundings: Sshd) -> Connection:
    """Connect as alice."""
    return connect(tinyssh, surroundings)


def connect(tinyssh: list[str], surroundings: Sshd) -> Connection:
    """Connect as alice, over the pipes of a proxy command."""
    return Connection(
        "tiny.invalid",
        username=surroundings.alice.name,
        private_key=surroundings.alice.key.path,
        proxy_command=tinyssh,
        host_key_policy="ignore",
        timeout=60_000,
    )


def test_new_keys_are_asked_for_late(connection: Connection) -> None:
    """It loses what follows a key exchange that a client asks for, so 1 GiB is no reason."""
    with connection:
        assert connection._get_session().link.rekey_bytes == 64 << 30


@pytest.fixture
def listening(tinyssh: list[str]) -> Iterator[tuple[str, int]]:
    """Serve one connection on a free port, as inetd would; yield the address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        servers: list[subprocess.Popen[bytes]] = []

        def serve() -> None:
            with listener.accept()[0] as client:
                client.setblocking(True)
                servers.append(
                    subprocess.Popen(
                        tinyssh,
                        stdin=client.fileno(),
                        stdout=client.fileno(),
                        stderr=subprocess.DEVNULL,
                    )
                )

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[:2]
        finally:
            thread.join(30)
            for server in servers:
                server.terminate()
                server.wait(30)


def test_commands(connection: Connection) -> None:
    """Output, both streams, exit statuses."""
    with connection:
        result = connection.execute("echo out; echo err >&2; exit 3")
        assert (result.stdout, result.stderr, result.status) == ("out\n", "err\n", 3)


def test_logins_after_the_first(tinyssh: list[str], surroundings: Sshd) -> None:
    """It does not look at an open behind the login until more comes, and still nothing waits."""
    for number in range(3):
        with connect(tinyssh, surroundings) as connection:
            assert connection.execute(f"echo {number}", timeout=20_000).stdout == f"{number}\n"


def test_bulk_both_ways(connection: Connection) -> None:
    """Megabytes in and out arrive unchanged."""
    data = os.urandom(4 << 20)
    with connection:
        result = connection.execute("cat", input=data)
    assert hashlib.sha256(result.stdout_bytes).digest() == hashlib.sha256(data).digest()


def test_dialogue(connection: Connection) -> None:
    """Lines go to a command and come back while it runs."""
    with connection, connection.popen("cat") as process:
        for line in (b"one\n", b"two\n"):
            process.stdin.write(line)
            process.stdin.flush()
            assert process.stdout.readline() == line
        process.stdin.close()
        assert process.wait() == 0


def test_one_channel_per_connection(connection: Connection) -> None:
    """It refuses a second channel and ends with its first: a typed error at once, either way."""
    with connection:
        assert connection.execute("echo one").stdout == "one\n"
        with pytest.raises((ConnectionLost, ChannelRefused)):
            connection.execute("echo two")


def test_files(connection: Connection, surroundings: Sshd) -> None:
    """Without a subsystem SFTP is unavailable, in words, and that took the only channel."""
    with connection:
        with pytest.raises(SFTPUnavailable):
            connection.sftp.listdir(".")
        with pytest.raises((ConnectionLost, ChannelRefused)):
            connection.execute("true")


def test_scp(connection: Connection, surroundings: Sshd) -> None:
    """scp's protocol needs one channel and no subsystem, so it works."""
    with connection:
        connection.scp_write_data("over scp\n" * 10_000, surroundings.alice.path("small"))
    assert (surroundings.alice.files / "small").read_text() == "over scp\n" * 10_000


def test_stranger(tinyssh: list[str], surroundings: Sshd, keys: Keys) -> None:
    """A key that it does not know is refused."""
    with pytest.raises(AuthenticationError):
        Connection(
            "tiny.invalid",
            username=surroundings.alice.name,
            private_key=keys.get("ed25519", name="stranger").path,
            proxy_command=tinyssh,
            host_key_policy="ignore",
            timeout=60_000,
        )


def test_behind_a_bastion(listening: tuple[str, int], surroundings: Sshd, bastion: Sshd) -> None:
    """It is reached through OpenSSH's forwarding like any other server."""
    with (
        Connection(
            bastion.host,
            bastion.port,
            bastion.alice.name,
            private_key=bastion.alice.key.path,
            timeout=60_000,
        ) as way,
        Connection(
            *listening,
            surroundings.alice.name,
            private_key=surroundings.alice.key.path,
            host_key_policy="ignore",
            proxy_jump=way,
            timeout=60_000,
        ) as connection,
    ):
        assert connection.execute("cat", input="x" * 300_000).stdout == "x" * 300_000


def test_many_logins(
    tinyssh: list[str], surroundings: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not know what a batch asks after a login, says so, and holds nobody up with that."""
    monkeypatch.setattr(async_connect, "CONFIRM", 1000.0)
    multi = MultiConnection.from_shared_auth(
        ["tiny.invalid"] * 12,
        username=surroundings.alice.name,
        private_key=surroundings.alice.key.path,
        proxy_command=tinyssh,
        host_key_policy="ignore",
        timeout=60,
    )
    with contextlib.closing(multi):
        assert all(result.stdout == "here\n" for result in multi.execute("echo here").values())
