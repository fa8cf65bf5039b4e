"""Callbacks of the blocking API that would have to be awaited: refused, with words that help."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from hussh.multi_conn import MultiConnection
from tests.support.hostile import HostileServer, Interactive, Round, polite
from tests.support.sshd import Sshd


async def wanted(*_: object) -> list[str]:
    """Be a coroutine function."""
    return ["x"]


class Object:
    """Has a coroutine function in place of a plain `__call__`."""

    async def __call__(self, *_: object) -> list[str]:
        """Be called."""
        return ["x"]


def deceptive(*_: object) -> Any:
    """Return a coroutine, which shows only when it is called."""
    return wanted()


CALLBACKS = [wanted, partial(wanted, 1), Object(), deceptive]
OBVIOUS = CALLBACKS[:3]


@pytest.fixture
def connection(target: Sshd) -> Iterator[Connection]:
    """Return a connection, which still works when the test is over."""
    account = target.alice
    with (
        Connection(target.host, target.port, account.name, private_key=account.key.path) as made,
        account.folder("there"),
    ):
        yield made
        assert made.execute("echo on").stdout == "on\n"


@pytest.mark.parametrize("callback", CALLBACKS)
def test_progress(connection: Connection, tmp_path: Path, callback: Callable[..., Any]) -> None:
    """`progress=` is called and not awaited, so a coroutine function is a TypeError."""
    (tmp_path / "file").write_bytes(b"x")
    connection.sftp_write(tmp_path / "file", "there/file")
    calls: list[Callable[[], object]] = [
        lambda: connection.sftp.put(tmp_path / "file", "there/file", progress=callback),
        lambda: connection.sftp.get("there/file", tmp_path / "back", progress=callback),
        lambda: connection.sftp.get_bytes("there/file", progress=callback),
        lambda: connection.sftp.put_bytes(b"x", "there/file", progress=callback),
        lambda: connection.sftp_write(tmp_path / "file", "there/file", progress=callback),
        lambda: connection.sftp_read("there/file", progress=callback, timeout=60000),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for call in calls:
            with pytest.raises(TypeError, match="plain function, or use the async API"):
                call()


@pytest.mark.parametrize("callback", OBVIOUS)
def test_an_obvious_prompt(callback: Callable[..., Any]) -> None:
    """`prompt=` is refused before anything is opened."""
    with pytest.raises(TypeError, match="prompt is a coroutine function"):
        Connection("nowhere.invalid", prompt=callback)


def test_a_deceptive_prompt() -> None:
    """`prompt=` that returns a coroutine is refused when it does."""
    with HostileServer(polite(Interactive(Round([("Code: ", False)]), answers=[["x"]]))) as server:
        host, port = server.address
        with pytest.raises(TypeError, match="plain function, or use the async API"):
            Connection(host, port, "u", password=None, agent=False, prompt=deceptive)


@pytest.mark.parametrize("callback", CALLBACKS)
def test_results(target: Sshd, callback: Callable[..., Any]) -> None:
    """So are `on_result=` and a function from host to path."""
    account = target.alice
    with MultiConnection.from_shared_auth(
        [target.host], account.name, port=target.port, key_path=account.key.path
    ) as multi:
        with pytest.raises(TypeError, match="plain function, or use the async API"):
            multi.execute("true", on_result=callback)
        if callback is not deceptive:
            with pytest.raises(TypeError, match="local_path is a coroutine function"):
                multi.sftp_read("/etc/passwd", callback)
        assert multi.execute("true").failed is None
