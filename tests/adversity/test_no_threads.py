"""No thread, or no descriptor, is to be had: an error of hussh says so, and nothing stays."""

from __future__ import annotations

import errno
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from hussh import Connection
from hussh.aio import AsyncConnection
from hussh.errors import ConnectError
from hussh.multi_conn import MultiConnection
from tests.support.sshd import Sshd

WORDS = "ulimit -u"


def options(server: Sshd) -> dict[str, Any]:
    """Return how to log in."""
    return {"username": server.alice.name, "private_key": str(server.alice.key.path)}


@pytest.fixture
def no_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Refuse every thread, as the system does over RLIMIT_NPROC."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        yield patch


def test_many_hosts(target: Sshd, no_threads: pytest.MonkeyPatch) -> None:
    """A MultiConnection without a thread for its loop, which works once there is one."""
    many = MultiConnection([AsyncConnection(target.host, port=target.port, **options(target))])
    with pytest.raises(ConnectError, match=WORDS):
        many.connect()
    no_threads.undo()
    with many:
        assert [result.stdout for result in many.execute("echo a").values()] == ["a\n"]


def test_resolving(no_threads: pytest.MonkeyPatch) -> None:
    """A name needs a thread, because no resolver knows a time limit."""
    with pytest.raises(ConnectError, match=WORDS) as caught:
        Connection("some-name.test", username="u", password="p")
    assert (caught.value.hop, caught.value.phase) == ("u@some-name.test:22", "dns")


def test_keepalives(target: Sshd, no_threads: pytest.MonkeyPatch) -> None:
    """Keepalives were asked for, and nobody would send them."""
    with pytest.raises(ConnectError, match=WORDS):
        Connection(target.host, target.port, keepalive_interval=1, **options(target))


def test_given_stream(no_threads: pytest.MonkeyPatch) -> None:
    """A stream that is an object of Python is relayed by threads."""
    ours, theirs = socket.socketpair()
    with theirs:

        class Given:
            def __init__(self) -> None:
                self.send, self.recv, self.close = ours.send, ours.recv, ours.close

        with pytest.raises(ConnectError, match=WORDS):
            Connection("h", username="u", password="p", stream=Given())


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_proxy_without_epoll(backend: str, target: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pipes of a proxy command are watched together, which takes a descriptor."""

    def refuse() -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    async def connect() -> None:
        monkeypatch.setattr(selectors, "DefaultSelector", refuse)
        try:
            await AsyncConnection(
                target.host, port=target.port, proxy_command="nc %h %p", **options(target)
            ).connect()
        finally:
            monkeypatch.undo()

    with pytest.raises(ConnectError, match="Too many open files"):
        anyio.run(connect, backend=backend)
