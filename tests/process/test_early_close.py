"""A server that closes a session before it has read what was asked of it, as dropbear may."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hussh import ChannelError, Connection, SFTPUnavailable
from tests.support.hostile import (
    Channel,
    ChannelRequest,
    Conn,
    HostileServer,
    Services,
    polite,
)

AT_MOST = 4


class Deaf:
    """Closes so many sessions without an answer, and serves those that come after; counts all."""

    def __init__(self, closed: int) -> None:
        self.left = closed
        self.opened = 0

    def __call__(self, conn: Conn) -> None:
        conn.login()
        while self.left:
            channel = conn.accept_channel()
            while not any(isinstance(item, ChannelRequest) for item in conn._work):
                conn.pump()
            conn._work.clear()
            self.opened += 1
            self.left -= 1
            channel.send_close()
        conn.serve()


def connected(server: HostileServer) -> Connection:
    """Return a connection to it."""
    host, port = server.address
    return Connection(host, port, "u", "p", host_key_policy="ignore", agent=False, timeout=30_000)


def test_a_command_is_asked_for_again() -> None:
    """Nothing was done for the first channels, so another takes their place."""
    deaf = Deaf(AT_MOST - 1)
    with HostileServer(deaf) as server, connected(server) as connection:
        assert connection.execute("echo heard", input="x" * 1000).status == 0
    assert deaf.opened == AT_MOST - 1


def test_a_process_is_asked_for_again() -> None:
    """So it is where the program is talked with."""
    deaf = Deaf(1)
    with HostileServer(deaf) as server, connected(server) as connection:
        assert connection.popen("echo heard").wait() == 0
    assert deaf.opened == 1


def test_sftp_is_asked_for_again() -> None:
    """So is the subsystem for files; what this server says of it is heard."""
    deaf = Deaf(AT_MOST - 1)
    with HostileServer(deaf) as server, connected(server) as connection:
        with pytest.raises(SFTPUnavailable, match="session with status 127"):
            connection.sftp.listdir()
        assert connection.execute("echo heard").status == 0
    assert deaf.opened == AT_MOST - 1
    deaf = Deaf(AT_MOST)
    with (
        HostileServer(deaf) as server,
        connected(server) as connection,
        pytest.raises(SFTPUnavailable, match="it closed the channel"),
    ):
        connection.sftp.listdir()


def test_not_for_ever() -> None:
    """A server that never reads what is asked gets an end: no status, and no false one."""
    deaf = Deaf(2 * AT_MOST)
    with HostileServer(deaf) as server, connected(server) as connection:
        result = connection.execute("echo heard")
        assert (result.status, result.signal, result.stdout) == (-1, None, "")
        with pytest.raises(ChannelError, match="refused a command"):
            connection.popen("echo heard")
    assert deaf.opened == 2 * AT_MOST


def _silently(request: ChannelRequest) -> None:
    request.want_reply = False


@pytest.mark.parametrize(
    "said",
    [lambda channel: channel.send_data(b"done\n"), lambda channel: channel.exit_status(3)],
    ids=["output", "status"],
)
def test_what_was_heard_is_not_asked_again(said: Callable[[Channel], None]) -> None:
    """A server that answers no request has run the command all the same, if it says anything."""
    ran: list[str] = []

    def run(channel: Channel, command: str) -> None:
        ran.append(command)
        said(channel)
        channel.send_close()

    services = Services(execute=run, requested=_silently)
    with HostileServer(polite(services=services)) as server, connected(server) as connection:
        result = connection.execute("once")
        assert (result.stdout, result.status) in [("done\n", -1), ("", 3)]
        assert ran == ["once"]
        with pytest.raises(ChannelError):
            connection.popen("again")
        assert ran == ["once", "again"]
