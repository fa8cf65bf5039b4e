"""A session that is opened before it is needed, and what servers make of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hussh import Connection, SFTPUnavailable
from hussh._protocol.spare_session import WINDOW
from tests.conformance.apis import APIS, Api
from tests.support.connecting import connect_as_alice
from tests.support.hostile import (
    Channel,
    ChannelRequest,
    HostileServer,
    OpenRequest,
    Refuse,
    Services,
    polite,
    polite_exec,
)
from tests.support.sshd import Sshd


class Steps:
    """Writes down what a client asks for: o for a session, e for a command."""

    def __init__(self, **more: object) -> None:
        self.text = ""
        self.services = Services(opened=self.opened, requested=self.requested, **more)  # type: ignore[arg-type]

    def opened(self, request: OpenRequest) -> Refuse | None:
        """A session is asked for."""
        self.text += "o"
        return None

    def requested(self, request: ChannelRequest) -> bool | None:
        """A command is asked for."""
        self.text += "e"
        return None


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
@pytest.mark.parametrize(("spare", "steps"), [(True, "oeoeoeoeo"), (False, "oeoeoeoe")])
def test_from_the_third_command_on(api: Api, spare: bool, steps: str) -> None:
    """From the third on a command finds its session open; spare_channel=False opens each anew."""
    noted = Steps()
    with HostileServer(polite(services=noted.services)) as server:

        async def main() -> None:
            session = await api.connect(
                *server.address, username="u", password="p", spare_channel=spare
            )
            for number in range(4):
                assert (await session.execute(f"echo {number}")).stdout == f"{number}\n"
            await session.close()

        api.run(main)
    assert noted.text == steps


def test_a_server_that_closes_it() -> None:
    """A spare session that the server closes costs no error, and is the last of its connection."""

    def run(channel: Channel, command: str) -> Iterator[None]:
        if command == "echo 1":
            while noted.text != "oeoeo":
                yield
            (spare,) = [other for other in channel.conn.channels.values() if other is not channel]
            spare.send_close()
        yield from polite_exec(channel, command)

    noted = Steps(execute=run)
    with (
        HostileServer(polite(services=noted.services)) as server,
        Connection(*server.address, username="u", password="p") as connection,
    ):
        for number in range(4):
            assert connection.execute(f"echo {number}").stdout == f"{number}\n"
    assert noted.text == "oeoeo" + "oeoe"


def test_one_session_at_a_time(sshd_factory: Callable[..., Sshd]) -> None:
    """With `MaxSessions 1` commands, shells and SFTP take turns as before."""
    server = sshd_factory(options={"MaxSessions": 1})
    for _ in range(2):
        with connect_as_alice(server) as connection:
            for number in range(4):
                assert connection.execute(f"echo {number}").stdout == f"{number}\n"
            with connection.popen("cat") as process:
                process.stdin.write(b"x")
                process.stdin.close()
                assert process.stdout.read() == b"x"
            assert connection.sftp.stat("/").st_size is not None


def test_the_last_session_is_never_kept(sshd_factory: Callable[..., Sshd]) -> None:
    """Three sessions that a user holds open fit into `MaxSessions 3` after commands have run."""
    server = sshd_factory(options={"MaxSessions": 3})
    with connect_as_alice(server) as connection:
        for _ in range(3):
            connection.execute("true")
        held = [connection.popen("cat") for _ in range(3)]
        for process in held:
            process.stdin.close()
            assert process.wait() == 0


def test_credit_follows_the_answer() -> None:
    """A spare session gets more window once a request was answered: npm's ssh2 forgets earlier."""

    def run(channel: Channel, command: str) -> Iterator[None]:
        if command != "sftp":
            yield from polite_exec(channel, command)
            return
        windows.append(channel.window)
        while channel.window == windows[0]:
            yield
        channel.finish()

    windows: list[int] = []
    with (
        HostileServer(polite(services=Services(execute=run))) as server,
        Connection(*server.address, username="u", password="p", timeout=30_000) as connection,
    ):
        for number in range(3):
            assert connection.execute(f"echo {number}").stdout == f"{number}\n"
        with pytest.raises(SFTPUnavailable):
            connection.sftp.stat("x")
    assert windows == [WINDOW]


def test_sftp_takes_it(target: Sshd) -> None:
    """SFTP runs on the spare session, with a window that lets a large file through."""
    with connect_as_alice(target) as connection:
        for _ in range(3):
            connection.execute("true")
        data = bytes(range(256)) * 4096 * 20
        connection.sftp_write_data(data, "large")
        assert connection.sftp_read("large", encoding=None) == data
