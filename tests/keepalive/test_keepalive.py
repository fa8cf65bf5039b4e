"""`keepalive_interval`: a dead peer is noticed, idle or not, and a living one is left alone."""

from __future__ import annotations

import gc
import os
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

from hussh import Connection, ConnectionLost
from hussh._runtime.idle_thread import tend
from hussh._runtime.keepalive import Beats, Rounds
from tests.conformance.memory import allocated
from tests.support.relay import Relay
from tests.support.sshd import Sshd

INTERVAL = 0.2  # seconds


def connect(host: str, port: int, server: Sshd, **more: Any) -> Connection:
    return Connection(
        host,
        port,
        server.alice.name,
        private_key=server.alice.key.path,
        host_key_policy="ignore",
        **{"keepalive_interval": INTERVAL, **more},
    )


def idle_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hussh-idle"]


def wait_for_no_thread() -> None:
    for thread in idle_threads():
        thread.join(30)
        assert not thread.is_alive()


def test_running_command_learns_of_a_dead_peer(
    target: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """A frozen link ends a command that has no time limit, with its output so far."""
    relay = relay_factory(target)
    with connect(relay.host, relay.port, target) as connection:
        process = connection.popen("echo before; exec sleep 1000")
        assert process.stdout.readline() == b"before\n"
        relay.freeze()
        with pytest.raises(ConnectionLost, match=r"no answer to 3 keepalives in 0\.6 s") as lost:
            process.wait()
        assert lost.value.hop == f"{target.alice.name}@{relay.host}:{relay.port}"
        with pytest.raises(ConnectionLost):
            connection.execute("true")
        process.close()
        relay.thaw()
    wait_for_no_thread()


def test_idle_connection_learns_of_a_dead_peer(
    target: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """Without any call in progress a dead peer is noticed, and the next call says so at once."""
    relay = relay_factory(target)
    with connect(relay.host, relay.port, target) as connection:
        relay.freeze()
        wait_for_no_thread()  # it ends when there is nothing alive to tend
        with pytest.raises(ConnectionLost, match="keepalives"):
            connection.execute("true")
        relay.thaw()


def test_transfer_learns_of_a_dead_peer(target: Sshd, relay_factory: Callable[..., Relay]) -> None:
    """A transfer over a link that freezes ends, too, and says how much had arrived."""
    huge = target.alice.files / "endless"
    huge.touch()
    os.truncate(huge, 8 << 30)
    huge.chmod(0o644)
    relay = relay_factory(target)
    try:
        with connect(relay.host, relay.port, target) as connection:
            with pytest.raises(ConnectionLost, match="keepalives") as lost:
                connection.sftp_read("endless", "/dev/null", progress=lambda *_: relay.freeze())
            assert lost.value.transferred > 0  # type: ignore[attr-defined]
            relay.thaw()
    finally:
        huge.unlink()
    wait_for_no_thread()


def test_living_connection_stays(target: Sshd, relay_factory: Callable[..., Relay]) -> None:
    """Many intervals of idleness do no harm, because the server's answers are taken in."""
    relay = relay_factory(target)
    with connect(relay.host, relay.port, target, keepalive_interval=0.1) as connection:
        before = connection._get_session().link.get_info().replies
        # 6 beats of the server's own answers: more than the three that would end it
        while connection._get_session().link.get_info().replies < before + 6:
            relay.wait_for_bytes("to_client", 1)
        assert connection.execute("echo alive").stdout == "alive\n"
    wait_for_no_thread()


def test_each_hop_is_probed(
    bastion: Sshd, target: Sshd, relay_factory: Callable[..., Relay]
) -> None:
    """When only the way behind the bastion dies, the target is lost and the bastion is not."""
    relay = relay_factory(target)
    with connect(bastion.host, bastion.port, bastion) as first:
        inner = connect(relay.host, relay.port, target, proxy_jump=first)
        relay.freeze()
        with pytest.raises(ConnectionLost, match="keepalives") as lost:
            inner.execute("sleep 1000")
        assert lost.value.hop_index == 1
        assert first.execute("echo usable").stdout == "usable\n"
        inner.close()
        relay.thaw()
    wait_for_no_thread()


def test_one_thread_for_all(target: Sshd) -> None:
    """Any number of connections share one thread, and it ends with the last of them."""
    connections = [connect(target.host, target.port, target) for _ in range(5)]
    assert len(idle_threads()) == 1
    for connection in connections:
        connection.close()
    wait_for_no_thread()


class Stub:
    """A session that counts its probes, and may fail at one."""

    closed = False

    def __init__(self, *, fails: bool) -> None:
        self.fails = fails
        self.probes = 0
        self.third = threading.Event()

    def probe(self, beats: Beats) -> bool:
        self.probes += 1
        if self.fails:
            raise ConnectionLost("in the middle of a probe")
        if self.probes == 3:
            self.third.set()
        return self.probes < 3


def test_a_probe_that_fails_is_its_sessions_last() -> None:
    """The session is not probed again, and those that share the thread with it go on."""
    failing, other = Stub(fails=True), Stub(fails=False)
    tend(failing, 0.01)
    tend(other, 0.02)
    assert other.third.wait(30)
    wait_for_no_thread()
    assert failing.probes == 1


def pass_an_hour(session: Any) -> None:
    """Send as many keepalives as an hour has seconds, each when the last one was answered."""
    rounds = Rounds()
    rounds.add(session, 0.0)
    poll = select.poll()
    poll.register(session.driver._stream.fds()[0], select.POLLIN)

    def replies() -> int:
        with session.driver.locked():
            answers: int = session.link.get_info().replies
        return answers

    def beat() -> None:
        answered = replies()
        rounds.beat()
        # The idle thread takes the answer in; where there is none, the next beat does.
        end = monotonic() + 20
        while replies() == answered and not poll.poll(1):
            assert monotonic() < end

    def least() -> list[int]:
        """What is in use between two packets: a link that reads has a buffer for a moment."""
        seen = []
        for _ in range(30):
            beat()
            gc.collect(0)
            seen.append(allocated())
        return [min(values) for values in zip(*seen, strict=True)]

    for _ in range(100):
        beat()
    gc.collect()
    before = least()
    grown = []
    for _ in range(3):  # a table of the process's that grows once does so in one of them
        for _ in range(1200):
            beat()
        gc.collect()
        after = least()
        grown.append([now - then for now, then in zip(after, before, strict=True)])
        before = after
    assert min(c for c, _ in grown) < 12_000  # bytes: ten for each
    assert min(python for _, python in grown) < 120  # blocks


def test_memory_of_an_hour(target: Sshd) -> None:
    """An idle connection that sends 3600 keepalives and takes in the answers does not grow."""
    with connect(target.host, target.port, target, keepalive_interval=0) as connection:
        pass_an_hour(connection._get_session())


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_bad_interval(value: float) -> None:
    """An impossible interval is refused before anything is opened."""
    with pytest.raises(ValueError, match="keepalive_interval"):
        Connection("host.invalid", keepalive_interval=value)
