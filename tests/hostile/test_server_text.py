"""What a server says ends up in errors that people print; it must not move their cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from hussh import Connection, HusshError
from tests.support.hostile import (
    Channel,
    Conn,
    HostileServer,
    Msg,
    Refuse,
    Script,
    Services,
    Tamper,
    polite,
)
from tests.support.hostile_catalogue import until
from tests.support.hostile_wire import boolean, kexinit, string, u32

#: Control characters of one byte and of two, an override of the direction of writing, a line
#: separator: terminals obey the first three, log files the last.
EVIL = "why \x1b[2J\x9b2J\u202eback\u2028line\r\n\x07end"
#: Printable without them, and much of it.
LONG = ",".join(f"name-{number}" for number in range(2000))


def _disconnect(reason: int) -> Callable[[Conn], None]:
    return lambda conn: conn.send(Msg.DISCONNECT, u32(reason), string(EVIL), string("en"))


def _kexinit(names: str) -> Script:
    lists = [names.split(","), ["ssh-ed25519"], ["a"], ["a"], ["b"], ["b"], ["none"], ["none"]]
    return polite(tamper=Tamper(edit_kexinit=lambda _: kexinit([*lists, [], []])))


def _methods(names: str) -> Script:
    def refuse(conn: Conn) -> None:
        conn.send(Msg.USERAUTH_FAILURE, string(names), boolean(False))
        conn.wait_closed()

    return until("auth", refuse)


def _ask(conn: Conn) -> None:
    conn.send(Msg.USERAUTH_FAILURE, string("keyboard-interactive"), boolean(False))
    conn.read_auth_request()
    texts = string("") * 3 + u32(100)
    conn.send(60, texts + (string("name-1, name-2, " * 12) + boolean(False)) * 100)
    conn.wait_closed()


SCRIPTS: dict[str, Script] = {
    "disconnect": until("version", _disconnect(2)),
    "busy": until("version", _disconnect(12)),
    "disconnect at the login": until("auth", _disconnect(2)),
    "disconnect later": until("exec", _disconnect(2)),
    "refused session": polite(services=Services(opened=lambda _: Refuse(4, EVIL))),
    "algorithms": _kexinit("\x1b[2J,end"),
    "many algorithms": _kexinit(LONG),
    "methods": _methods("\x1b[2J,end"),
    "many methods": _methods(LONG),
    "many questions": until("auth", _ask),
}
OPTIONS: dict[str, Any] = {
    "known_hosts": [],
    "host_key_policy": "ignore",
    "agent": False,
    "timeout": 20_000,
}


def connected(port: int = 22, **more: Any) -> Connection:
    """Return a connection to a hostile server."""
    return Connection(more.pop("host", "127.0.0.1"), port, "joe", "secret", **OPTIONS, **more)


def checked(error: HusshError) -> str:
    """Return its text, which is fit for a terminal, and short; so is what else it knows."""
    texts = [value for value in vars(error).values() if isinstance(value, str)]
    for text in (str(error), *texts):
        assert text.isprintable(), ascii(text)
        assert len(text) < 2000
    return str(error)


@pytest.mark.parametrize("name", SCRIPTS)
def test_in_errors(name: str) -> None:
    """No control character of a server's gets into an error, nor words without end."""
    with (
        HostileServer(SCRIPTS[name]) as server,
        pytest.raises(HusshError) as caught,
        connected(server.port) as connection,
    ):
        connection.execute("never")
    text = checked(caught.value)
    assert "end" in text or "name-1," in text.replace(" ", "")


def test_of_a_bastion() -> None:
    """So it is with what a bastion says of the way to the next hop."""
    way = polite(forward=lambda host, port: Refuse(2, EVIL))
    with (
        HostileServer(way) as server,
        connected(server.port) as bastion,
        pytest.raises(HusshError) as caught,
    ):
        connected(host="target", proxy_jump=bastion)
    assert "line" in checked(caught.value)


def test_names_of_signals() -> None:
    """And with the name of the signal that ended a command."""

    def killed(channel: Channel, command: str) -> None:
        channel.exit_signal("KILL\x1b\x9b")
        channel.send_close()

    with HostileServer(polite(execute=killed)) as server, connected(server.port) as connection:
        result = connection.execute("true")
        assert result.signal is not None
        assert result.signal.isprintable()
        assert result.signal.startswith("KILL")
