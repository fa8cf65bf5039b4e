"""The constructor of `AsyncConnection`: the contract of 0.3.3, and that it opens nothing."""

from __future__ import annotations

import inspect
import socket
from typing import Any

import pytest

from hussh import AuthenticationError, ConnectionClosed
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.support.sshd import Sshd


def test_positional_order() -> None:
    """The positional parameters have the order of 0.3.3, and everything else is keyword-only."""
    parameters = list(inspect.signature(AsyncConnection).parameters.values())
    names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert names == ["host", "username", "password", "key_path", "private_key", "proxy_jump",
                     "proxy_command", "port", "keepalive_interval", "timeout"]  # fmt: skip


def test_attributes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arguments can be read back, unset ones as ""; nothing is opened, no secret is shown."""
    monkeypatch.setattr(socket, "getaddrinfo", None)
    connection = AsyncConnection("h", password="secret-4711", timeout=2.5)
    assert (connection.host, connection.port, connection.username) == ("h", 22, "root")
    assert (connection.password, connection.private_key, connection.key_path) == (
        "secret-4711", "", "",
    )  # fmt: skip
    assert (connection.timeout, connection.proxy_command) == (2.5, None)
    assert repr(connection) == "AsyncConnection(host=h, port=22, username=root, password=*****)"
    assert AsyncConnection("h", key_path="~/k").private_key == "~/k"


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"key_path": "a", "private_key": "b"}, TypeError, "aliases; provide only one"),
        ({"proxy_jump": "b", "proxy_command": "c"}, TypeError, "mutually exclusive"),
        ({"proxy_jump": 7}, TypeError, "proxy_jump must be an AsyncConnection, (host, port)"),
        ({"proxy_jump": "b:x"}, TypeError, "port must be a valid integer"),
        ({"proxy_command": "nc %q"}, ValueError, "unknown token"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": "1"}, TypeError, "number of seconds"),
        ({"port": 0}, TypeError, "valid integer"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], words: str) -> None:
    """What cannot be used is refused at once, with 0.3.3's class and words."""
    with pytest.raises(error) as refused:
        AsyncConnection("h", **options)
    assert words in str(refused.value)


def test_a_way_in_circles() -> None:
    """A way that passes the target's own address is refused, through nested bastions, too."""
    one = AsyncConnection("a", "u")
    two = AsyncConnection("b", "u", proxy_jump=one)
    with pytest.raises(ValueError, match="twice"):
        AsyncConnection("a", "u", proxy_jump=two)


async def test_not_connected(loop: str) -> None:
    """Using what was never connected says so, and which connection that is."""
    with pytest.raises(ConnectionClosed, match="Not connected") as absent:
        await AsyncConnection("h", proxy_jump="b").execute("true")
    error = absent.value
    assert (error.hop, error.hop_index, error.phase) == ("root@h:22", 1, "connect")


async def test_no_default_keys(loop: str, target: Sshd, make: Make) -> None:
    """Without any credential that works the error is of both classes that 0.3.3's users catch."""
    with pytest.raises(AuthenticationError) as refused:
        await make(target, private_key=None)
    assert isinstance(refused.value, RuntimeError)
    assert "Failed to authenticate with default SSH keys" in str(refused.value)
