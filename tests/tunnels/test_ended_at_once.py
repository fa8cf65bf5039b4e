"""A forward that ends before it has done anything: for a connection, or at all."""

from __future__ import annotations

import contextlib
import errno
import gc
import inspect
import socket
from collections.abc import Callable
from typing import Any

import pytest

from hussh import Connection, ForwardRefused
from hussh._runtime.background import Background, Task
from tests.sharing.helpers import descriptors
from tests.support.limits import spare_descriptors
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Peer, echo

#: What happens between a connection's coming and the first step of what carries it.
Between = Callable[[], object]


@pytest.fixture
def before_carrying(monkeypatch: pytest.MonkeyPatch) -> Callable[[Between], list[Task]]:
    """Let something happen before the first step for a connection; return the tasks it met."""

    def install(between: Between) -> list[Task]:
        met: list[Task] = []
        advance = Background._advance

        def advance_later(self: Background, task: Task) -> None:
            op: Any = task.op
            if op.__name__ == "_carry" and inspect.getgeneratorstate(op) == inspect.GEN_CREATED:
                met.append(task)
                between()
            advance(self, task)

        monkeypatch.setattr(Background, "_advance", advance_later)
        return met

    return install


@pytest.mark.parametrize("kind", ["local", "socks", "remote"])
def test_connection_that_just_came(
    target: Sshd, kind: str, before_carrying: Callable[[Between], list[Task]]
) -> None:
    """Its socket is closed at once and not by the garbage collector, and it is not counted."""
    alice = target.alice
    with (
        Peer(echo) as peer,
        Connection(
            target.host, target.port, alice.name, private_key=alice.key.path, timeout=30_000
        ) as connection,
    ):
        forward: Any = {
            "local": lambda: connection.forward_local(0, peer.address),
            "socks": lambda: connection.forward_socks(),
            "remote": lambda: connection.forward_remote(0, peer.address),
        }[kind]()
        with forward:
            met = before_carrying(forward._forwarding.close)  # the tree's lock is held there
            with socket.create_connection(("127.0.0.1", forward.port), 30) as program:
                program.settimeout(30)
                with contextlib.suppress(ConnectionResetError):
                    assert program.recv(1) == b""
            # It gets the tree's lock when the thread that ended the forward has let it go.
            assert connection.execute("echo goes on").stdout == "goes on\n"
            assert [task.is_over for task in met] == [True]
            assert forward.connections == 0
        del met, forward
        gc.collect()  # warns of sockets that nobody closed


def test_forward_without_descriptors(target: Sshd) -> None:
    """At whatever step they run out, it cannot listen, says why, and keeps none."""
    alice = target.alice
    with Connection(
        target.host, target.port, alice.name, private_key=alice.key.path, timeout=30_000
    ) as connection:
        held = descriptors()
        refusals: list[ForwardRefused] = []
        for spare in range(6):
            try:
                with spare_descriptors(spare), connection.forward_local(0, ("127.0.0.1", 1)):
                    break
            except ForwardRefused as error:
                refusals.append(error)
            assert descriptors() == held
        assert {error.errno for error in refusals} == {errno.EMFILE}
        assert all("Too many open files" in str(error) for error in refusals)
        assert len(refusals) >= 2
