"""A stream that ends at any byte of handshake, authentication, exec and close: a typed error."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hussh
from hussh._connect.connect_attempt import ConnectAttempt
from hussh._policy.algorithms import CIPHERS
from hussh._results.ssh_result import SSHResult
from tests.support import idle_thread
from tests.support.relay import Faults, Relay
from tests.support.selection import by_turns
from tests.support.sshd import Sshd
from tests.support.streams import Pipes, SocketPair, Wire, heap_in_use, live_objects
from tests.support.streams_conversations import (
    BROKEN,
    SEED,
    SHORT,
    Outcome,
    Recorded,
    first_complete,
    play,
)
from tests.support.streams_peers import ReplayServer
from tests.support.streams_random import repeatable, reseed

LONG = os.environ.get("HUSSH_LONG") == "1"
EXPECTED = SSHResult(b"out\n", b"err\n", 3)
#: Bytes by which the heap may grow over two thousand runs: malloc's own caches, which count as
#: used, but no OpenSSL object for each run. What libssh2 allocates is counted exactly.
SLACK = 65536


def some(count: int, of: int, long: int | None = None) -> list[int]:
    """So many offsets, spread evenly; in the long mode `long` of them, or all."""
    if LONG:
        count = long or of
    return sorted({index * of // count for index in range(count)})


def lost(offset: int) -> type[hussh.ConnectionLost]:
    """Return the error for an end after so many bytes; without a word a server may be busy."""
    return hussh.ConnectionLost if offset else hussh.ServerBusy


def check_lost(outcome: Outcome, offset: int) -> None:
    """A lost connection, nothing left over, and output only as far as it was sent."""
    assert type(outcome.error) is lost(offset), (offset, outcome.error)
    assert outcome.left == 0, offset
    if outcome.partial is not None:
        assert b"out\n".startswith(outcome.partial.stdout_bytes), offset
        assert b"err\n".startswith(outcome.partial.stderr_bytes), offset
        assert outcome.partial.status == -1, offset


def test_every_cut_of_a_session_is_a_lost_connection(recorded: Callable[[str], Recorded]) -> None:
    """At every offset of a whole session: ConnectionLost, no wrong data, no leak in C."""
    known = recorded("small")
    complete = first_complete(known)
    for offset in range(0, complete, 7):
        play(known.conversation, known.recording.cut(offset))  # what is made once is made now
    used, files = heap_in_use(), os.listdir("/proc/self/fd")
    for offset in range(complete):
        check_lost(play(known.conversation, known.recording.cut(offset)), offset)
    assert heap_in_use() - used < SLACK
    assert os.listdir("/proc/self/fd") == files
    for offset in range(complete, len(known.recording.server) + 1):
        assert play(known.conversation, known.recording.cut(offset)).key == known.outcome.key


@pytest.mark.parametrize(
    "name", ["gcm", "ctr", "etm", "zlib", "nist", "dh", "hybrid", "refused", "nested"]
)
def test_cuts_under_other_algorithms_and_through_a_bastion(
    name: str, recorded: Callable[[str], Recorded]
) -> None:
    """Other ciphers, compression, a refused login and an inner hop: the same, for many offsets."""
    known = recorded(name)
    complete = first_complete(known) if known.outcome.results else len(known.recording.server)
    end = complete - (0 if known.outcome.results else 60)  # the refusal is complete before that
    for offset in some(30, end):
        check_lost(play(known.conversation, known.recording.cut(offset)), offset)


@pytest.mark.parametrize("wire", [SocketPair, Pipes])
def test_cuts_of_sockets_and_pipes(
    wire: Callable[[], Wire], recorded: Callable[[str], Recorded]
) -> None:
    """An end of stream that the kernel tells is a lost connection, too."""
    known = recorded("small")
    for offset in some(80, first_complete(known)):
        check_lost(play(known.conversation, known.recording.cut(offset), wire=wire), offset)


# -- the whole client, over TCP


@pytest.fixture
def replay_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReplayServer]:
    """A server that plays recordings, each to one connection: a second try would meet others."""
    monkeypatch.setattr(ConnectAttempt, "may_try_again", lambda _: False)
    with ReplayServer() as server:
        yield server
    assert not server.failures


Connect = Callable[..., hussh.Connection]


@pytest.fixture
def connect(stream_servers: list[Sshd], tmp_path: Path) -> Connect:
    """Connects as alice to any address at which the target is known by its own keys."""
    target, bastion = stream_servers
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(bastion.known_hosts_line())

    def connect(host: str, port: int, server: Sshd = target, **more: Any) -> hussh.Connection:
        line = server.known_hosts_line(host, port)
        if line not in known_hosts.read_text():
            known_hosts.write_text(known_hosts.read_text() + line)
        return hussh.Connection(
            host,
            port,
            server.alice.name,
            private_key=server.alice.key.path,
            agent=False,
            ciphers=list(CIPHERS),  # as in the recordings; the default depends on the processor
            known_hosts=known_hosts,
            host_key_policy="strict",
            timeout=30_000,
            **more,
        )

    return connect


def attempt(connect: Callable[[], hussh.Connection]) -> SSHResult | hussh.HusshError:
    """Connect, run the command, close; the result or the error."""
    try:
        with connect() as connection:
            return connection.execute(SHORT[0].decode())
    except hussh.HusshError as error:
        return error.with_traceback(None)


def held() -> tuple[int, int]:
    """How many files are open and how many threads run, the ending idle thread excluded."""
    idle_thread.settle()
    # Workers and the idle thread end by themselves, after the last call and connection.
    threads = [thread for thread in threading.enumerate() if thread.name[:6] != "hussh-"]
    return len(os.listdir("/proc/self/fd")), len(threads)


def test_cuts_of_a_tcp_connection(
    recorded: Callable[[str], Recorded], replay_server: ReplayServer, connect: Connect
) -> None:
    """`Connection` over real sockets: a typed error with hop and phase, and no descriptor left."""
    known = recorded("small")
    complete = first_complete(known)
    before, objects = held(), live_objects()
    for offset in [*some(120, complete), complete, len(known.recording.server)]:
        replay_server.recording = known.recording.cut(offset)
        with repeatable(f"{SEED} 0"):
            got = attempt(lambda: connect(replay_server.host, replay_server.port))
        if offset >= complete:
            assert got == EXPECTED
            continue
        assert type(got) is lost(offset), (offset, got)
        assert got.hop_index == 0
        assert got.phase in ("banner", "kex", "auth", "exec")
        assert held()[1] == before[1]
    gc.collect()
    # The server's own end of the last connection may still be open.
    assert held()[0] - before[0] <= 1
    assert live_objects() == objects


def test_cuts_of_an_inner_hop_leave_the_bastion_usable(
    recorded: Callable[[str], Recorded],
    replay_server: ReplayServer,
    connect: Connect,
    stream_servers: list[Sshd],
) -> None:
    """What is cut between bastion and target is that connection's loss alone."""
    known = recorded("small")
    complete = first_complete(known)
    bastion, objects = stream_servers[1], live_objects()

    def search(jump: hussh.Connection) -> None:
        def inner() -> hussh.Connection:
            return connect(replay_server.host, replay_server.port, proxy_jump=jump)

        for offset in some(80, complete):
            replay_server.recording = known.recording.cut(offset)
            reseed(f"{SEED} 0")
            got = attempt(inner)
            assert type(got) is lost(offset), (offset, got)
            assert got.hop_index == 1
        assert jump.execute("echo still here").stdout == "still here\n"
        jump.close()

    with repeatable(SEED):
        search(connect(bastion.host, bastion.port, bastion))
    gc.collect()
    assert live_objects() == objects


@pytest.mark.parametrize(
    ("place", "cut_with", "direction"),
    by_turns(
        ("target", "bastion", "inner"),
        ("eof", "to_client"), ("reset", "to_server"), ("reset", "to_client"), ("eof", "to_server"),
    ),
)  # fmt: skip
def test_cuts_of_a_live_connection(
    place: str,
    cut_with: Any,
    direction: str,
    relay_factory: Callable[..., Relay],
    connect: Connect,
    stream_servers: list[Sshd],
) -> None:
    """A real server's connection cut in either direction, on each leg: a typed error."""
    target, bastion = stream_servers
    relay = relay_factory(bastion if place == "bastion" else target)
    objects = live_objects()

    def go() -> SSHResult | hussh.HusshError:
        if place == "target":
            return attempt(lambda: connect(relay.host, relay.port))
        if place == "bastion":
            with connect(relay.host, relay.port, bastion) as jump:
                return attempt(lambda: connect(target.host, target.port, proxy_jump=jump))
        with connect(bastion.host, bastion.port, bastion) as jump:
            return attempt(lambda: connect(relay.host, relay.port, proxy_jump=jump))

    relay.set()
    assert go() == EXPECTED
    whole = relay.connections()[0][direction]
    # The last bytes say goodbye, and behind a bastion how many nudges there are depends on time.
    for offset in some(3, whole - (150 if place == "target" else 900), long=60):
        faults = Faults(cut_after=offset + 1, cut_with=cut_with)
        if direction == "to_client":
            relay.set(to_client=faults)
        else:
            relay.set(to_server=faults)
        try:
            got = go()
        except hussh.HusshError as error:
            got = error.with_traceback(None)
        assert isinstance(got, BROKEN), (offset, got)
    gc.collect()
    assert live_objects() == objects
