"""How long the parts of a way live: hidden hops, shared bastions, and every order of closing."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable
from itertools import permutations

import pytest

from hussh import AuthenticationError, Connection, ConnectionClosed, ConnectionLost, HusshError
from tests.jump.conftest import Login
from tests.support.processes import wait_gone
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
ENDED = r"^(Received disconnect|Disconnected from|Connection closed by)|Broken pipe"


def sessions(server: Sshd) -> list[int]:
    """Return the processes of the logins on this server."""
    return [process.pid for process in server.processes() if "sshd" in process.argv[0]]


@pytest.mark.parametrize("way", ["close", "with", "collect"])
def test_hidden_hops_end_with_the_target(way: str, sshd_factory: SshdFactory, login: Login) -> None:
    """Hops that a string named are logged out of when the target is closed or collected."""
    first, second, last = (sshd_factory() for _ in range(3))
    jump = f"{first.host}:{first.port},{second.host}:{second.port}"
    alice = last.alice
    jumped = Connection(
        last.host, last.port, alice.name, private_key=alice.key.path, proxy_jump=jump
    )
    assert jumped.execute("true").status == 0
    running = [pid for server in (first, second, last) for pid in sessions(server)]
    assert len(running) >= 3
    if way == "close":
        jumped.close()
    elif way == "with":
        with jumped:
            pass
    else:
        del jumped
        gc.collect()
    assert wait_gone(running, 20.0) == []
    first.wait_for_log(ENDED)


def test_failed_login_leaves_no_hop(sshd_factory: SshdFactory, login: Login, keys: object) -> None:
    """When the target refuses us, the hidden hops on the way are gone, a Connection is not."""
    first, last = sshd_factory(), sshd_factory()
    last.forget_keys(last.alice)
    place = f"{first.host}:{first.port}"
    with pytest.raises(AuthenticationError) as refused:
        login(last, proxy_jump=place)
    assert refused.value.hop == f"{last.alice.name}@{last.host}:{last.port}"
    assert refused.value.hop_index == 1
    assert wait_gone(sessions(first), 20.0) == []
    bastion = login(first)
    with pytest.raises(AuthenticationError):
        login(last, proxy_jump=bastion)
    assert bastion.execute("true").status == 0


def test_bastion_outlives_its_targets(bastion: Sshd, target: Sshd, login: Login) -> None:
    """A bastion that the caller connected works on when its targets are closed."""
    first = login(bastion)
    for number in range(3):
        jumped = login(target, proxy_jump=first)
        assert jumped.execute(f"echo {number}").stdout == f"{number}\n"
        running = sessions(target)
        jumped.close()
        assert wait_gone(running, 20.0) == []
        assert first.execute("echo $SERVER_NAME").stdout == "bastion\n"
    assert bastion.connections() == 1


def test_target_keeps_its_bastion_alive(bastion: Sshd, target: Sshd, login: Login) -> None:
    """A bastion that nobody names any more lives as long as the target needs it."""
    alice = bastion.alice
    jumped = login(
        target,
        proxy_jump=Connection(
            bastion.host, bastion.port, alice.name, private_key=alice.key.path, timeout=30_000
        ),
    )
    gc.collect()
    assert jumped.execute("echo $SERVER_NAME").stdout == "target\n"


def test_closing_in_every_order(
    sshd_factory: SshdFactory, bastion: Sshd, target: Sshd, login: Login
) -> None:
    """Whatever is closed first: what it carried is closed, too, and everything else works."""
    middle = sshd_factory(name="middle")
    way = (bastion, middle, target)
    names = ("bastion", "middle", "target")
    before = len(os.listdir("/proc/self/fd"))
    for order in permutations(range(3)):
        connections: list[Connection] = []
        for server in way:
            jump = connections[-1] if connections else None
            connections.append(login(server, proxy_jump=jump))
        dead = 3  # everything from this hop on is closed
        for closed in order:
            connections[closed].close()
            dead = min(dead, closed)
            for number, connection in enumerate(connections):
                if number < dead:
                    assert connection.execute("echo $SERVER_NAME").stdout == f"{names[number]}\n"
                else:
                    with pytest.raises(ConnectionClosed):
                        connection.execute("true")
            connections[closed].close()  # again: nothing happens
        assert len(os.listdir("/proc/self/fd")) == before
        assert wait_gone([pid for server in way for pid in sessions(server)], 20.0) == []


Ended = tuple[HusshError | None, float]


def _running(jumped: list[Connection]) -> tuple[list[threading.Thread], list[Ended]]:
    """Run an endless command on each connection, in threads; they note how and when it ended."""
    ends: list[Ended] = [(None, 0.0)] * len(jumped)

    def work(number: int) -> None:
        try:
            jumped[number].execute("echo begun; exec sleep 1000", timeout=0)
        except HusshError as error:
            ends[number] = (error, time.monotonic())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jumped))]
    for thread in threads:
        thread.start()
    return threads, ends


def _late(threads: list[threading.Thread], ends: list[Ended], start: float) -> float:
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return max(when for _, when in ends) - start


def test_bastion_dies(sshd_factory: SshdFactory, login: Login) -> None:
    """A bastion's death fails the commands on all of its targets at once, and is named as cause."""
    first, last = sshd_factory(), sshd_factory()
    bastion = login(first)
    jumped = [login(last, proxy_jump=bastion) for _ in range(4)]
    threads, ends = _running(jumped)
    last.wait_for_log("Starting session: command", count=4)
    start = time.monotonic()
    first.kill_sessions()
    assert _late(threads, ends, start) < 10
    for error, _ in ends:
        assert isinstance(error, ConnectionLost)
        assert error.hop == f"{last.alice.name}@{last.host}:{last.port}"
        assert error.hop_index == 1
        cause = error.__cause__
        assert isinstance(cause, ConnectionLost)
        assert cause.hop == f"{first.alice.name}@{first.host}:{first.port}"
        assert cause.hop_index == 0
    for connection in (*jumped, bastion):
        with pytest.raises(ConnectionLost):
            connection.execute("true")


def test_middle_of_a_chain_dies(sshd_factory: SshdFactory, login: Login) -> None:
    """When the second of two bastions dies the error names it, and the first works on."""
    servers = [sshd_factory(name=f"s{number}") for number in range(3)]
    first = login(servers[0])
    second = login(servers[1], proxy_jump=first)
    jumped = login(servers[2], proxy_jump=second)
    threads, ends = _running([jumped])
    servers[2].wait_for_log("Starting session: command")
    start = time.monotonic()
    servers[1].kill_sessions()
    assert _late(threads, ends, start) < 10
    error = ends[0][0]
    assert isinstance(error, ConnectionLost)
    assert isinstance(error.__cause__, ConnectionLost)
    assert error.__cause__.hop_index == 1
    assert f"because: {error.__cause__.text}" in str(error)
    assert f"{servers[1].host}:{servers[1].port}" in str(error)
    assert first.execute("echo $SERVER_NAME").stdout == "s0\n"


def test_target_dies(sshd_factory: SshdFactory, login: Login) -> None:
    """When the target itself dies no bastion is blamed, and the bastion works on."""
    first, last = sshd_factory(), sshd_factory()
    bastion = login(first)
    threads, ends = _running([login(last, proxy_jump=bastion)])
    last.wait_for_log("Starting session: command")
    start = time.monotonic()
    last.kill_sessions()
    assert _late(threads, ends, start) < 10
    error = ends[0][0]
    assert isinstance(error, ConnectionLost)
    assert error.__cause__ is None
    assert bastion.execute("true").status == 0


def test_bastion_closed_meanwhile(sshd_factory: SshdFactory, login: Login) -> None:
    """Closing the bastion ends the commands on its targets within a second, typed."""
    first, last = sshd_factory(), sshd_factory()
    bastion = login(first)
    jumped = [login(last, proxy_jump=bastion) for _ in range(4)]
    threads, ends = _running(jumped)
    last.wait_for_log("Starting session: command", count=4)
    start = time.monotonic()
    bastion.close()
    assert _late(threads, ends, start) < 10
    for error, _ in ends:
        assert isinstance(error, ConnectionLost | ConnectionClosed)
        assert isinstance(error.__cause__, ConnectionClosed)
    with pytest.raises(ConnectionClosed, match="bastion"):
        jumped[0].execute("true")
