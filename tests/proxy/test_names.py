"""Hosts and users that ssh(1) refuses are refused by every API, wherever they stand.

What `test_injection` shows of the expansion holds for whole connections here: nothing runs,
and no socket is opened.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection

HOSTS = ["$(touch pwned)", "a;touch pwned", "a|b", "a b", "-oProxyCommand=x", "`id`", "a\nb", "a'b"]
USERS = ["$(touch pwned)", "a;touch pwned", "a|b", "a -b", "-oProxyCommand=x", "`id`", "a\nb"]
USERS += ["a\\", "a'b"]
SHELL = ["sh", "-c", "touch %h %r; exec nc 127.0.0.1 %p"]

Make = Callable[..., Any]


def one_of_many(host: str, **options: Any) -> MultiConnection:
    """Give the host its own options in a batch."""
    return MultiConnection.from_shared_auth([{"host": host, **options}], password="x")


def common(host: str, **options: Any) -> MultiConnection:
    """Give a batch common options."""
    return MultiConnection.from_shared_auth([host], **options)


APIS = [
    pytest.param(make, id=name)
    for name, make in (
        ("sync", Connection),
        ("async", AsyncConnection),
        ("host of a batch", one_of_many),
        ("batch", common),
    )
]


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Listen; afterwards nobody has come, and nothing was made in the directory."""
    monkeypatch.chdir(tmp_path)
    before = os.listdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert os.listdir(tmp_path) == before


@pytest.mark.parametrize("make", APIS)
@pytest.mark.parametrize("host", HOSTS)
def test_hosts(make: Make, host: str, port: int) -> None:
    """A host that is none is refused: as the target, by a shell's proxy command, as a bastion."""
    with pytest.raises(ValueError, match="host"):
        make(host, port=port)
    with pytest.raises(ValueError, match="host"):
        make(host, port=port, proxy_command=SHELL)
    for jump in (f"me@{host}:{port}", (host, port), ["127.0.0.1", (host, port)]):
        with pytest.raises(ValueError, match="host"):
            make("127.0.0.1", port=port, proxy_jump=jump)


@pytest.mark.parametrize("make", APIS)
@pytest.mark.parametrize("user", USERS)
def test_users(make: Make, user: str, port: int) -> None:
    """A user that is none is refused in the same places, also where no proxy command needs it."""
    with pytest.raises(ValueError, match="username"):
        make("127.0.0.1", port=port, username=user)
    with pytest.raises(ValueError, match="username"):
        make("127.0.0.1", port=port, username=user, proxy_command=SHELL)
    for jump in (f"{user}@127.0.0.1:{port}", (f"{user}@127.0.0.1", port)):
        with pytest.raises(ValueError, match="username"):
            make("127.0.0.1", port=port, proxy_jump=jump)


@pytest.mark.parametrize("user", ["CORP\\Jane Doe", "me@corp", "$me", "a b"])
def test_users_of_directories(user: str) -> None:
    """Blanks, backslashes and dollar signs within a user's name are let through, as by ssh."""
    connection = AsyncConnection("host", user, proxy_command=["nc", "%h", "%r"])
    assert connection.username == user
    assert connection._options.proxy_command == ("nc", "host", user)
