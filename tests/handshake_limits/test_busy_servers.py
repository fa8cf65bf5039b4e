"""Pacing against real servers that take few unauthenticated connections at once."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import (
    AuthenticationError,
    Connection,
    ConnectTimeout,
    HostKeyError,
    ProxyCommandError,
    ServerBusy,
)
from hussh._connect import handshake_limits as limits_module
from hussh._connect.handshake_limits import HANDSHAKES, HandshakeLimiter, Server, Statistics
from hussh.aio import AsyncConnection
from tests.aio.conftest import Make
from tests.proxy.commands import RELAY
from tests.support.hostile import Conn, HostileServer, Password, polite
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd, openssh_version

Start = Callable[..., Sshd]
TIGHT = {"MaxStartups": "3:100:3"}
TARGETS = 60
#: Time limits, in seconds, to be tried until the machine has met a refusal within one of them.
SLOWER = (1.5, 6, 24)

_EVENT = re.compile(
    r"^(?:Connection from (?P<begun>\S+ port \d+) "
    r"|Accepted \S+ for \S+ from (?P<up>\S+ port \d+) )",
    re.MULTILINE,
)


def peak(server: Sshd) -> int:
    """Return how many connections at most had begun and were not logged in, by the log's order."""
    going: set[str] = set()
    most = 0
    for event in _EVENT.finditer(server.log_text()):
        if event["begun"]:
            going.add(event["begun"])
            most = max(most, len(going))
        else:
            going.discard(event["up"])
    return most


def drops(server: Sshd) -> int:
    """Return how many refusals the log tells of; sshd leaves some of many out."""
    return len(re.findall(r"^drop connection ", server.log_text(), re.MULTILINE))


def logins(server: Sshd) -> int:
    """Return how many logins the server has accepted."""
    return sum(attempt.accepted for attempt in server.authentications())


def at(limiter: HandshakeLimiter, server: Sshd) -> Statistics:
    """Return what happened at a server."""
    found = [s for key, s in limiter.get_statistics().items() if key.port == server.port]
    assert len(found) == 1
    return found[0]


@contextlib.contextmanager
def occupied(server: Sshd, count: int = 3) -> Iterator[None]:
    """Hold so many connections that do not log in, as others may."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            sock = held.enter_context(socket.create_connection((server.host, server.port)))
            assert sock.recv(4) == b"SSH-"  # it has been counted
        yield


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make pauses short."""
    for name in ("PAUSE", "BAN_PAUSE"):
        monkeypatch.setattr(limits_module, name, (0.05, 0.2))


@pytest.fixture
def paced(make: Make) -> Callable[..., AsyncConnection]:
    """Make a connection that takes turns."""

    def connection(server: Sshd, limiter: HandshakeLimiter, **options: Any) -> AsyncConnection:
        made = make(server, **options)
        made._shared.limiter = limiter
        return made

    return connection


Paced = Callable[..., AsyncConnection]


async def connect_all(connections: list[AsyncConnection]) -> list[Exception]:
    """Connect all at once; returns the errors."""
    errors: list[Exception] = []

    async def connect(connection: AsyncConnection) -> None:
        try:
            await connection.connect()
        except Exception as error:
            errors.append(error)

    async with anyio.create_task_group() as group:
        for connection in connections:
            group.start_soon(connect, connection)
    return errors


async def close_all(connections: list[AsyncConnection]) -> None:
    """Close all."""
    for connection in connections:
        await connection.close()


@pytest.mark.one_loop
async def test_sixty_targets_by_default(loop: str, sshd_factory: Start, paced: Paced) -> None:
    """A target that takes three at once gets sixty, through a bastion that takes three: all get in.

    At most eight are begun at once, one login serves for the bastion, and refusals are few.
    """
    bastion, target = sshd_factory(options=TIGHT), sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter()
    way = paced(bastion, limiter)
    connections = [paced(target, limiter, proxy_jump=way) for _ in range(TARGETS)]
    assert await connect_all(connections) == []
    assert (await connections[-1].execute("echo in")).stdout == "in\n"
    await close_all(connections)
    assert logins(bastion) == 1
    assert logins(target) == TARGETS
    seen = at(limiter, target)
    assert (seen.in_flight, seen.waiting, seen.authenticated) == (0, 0, TARGETS)
    assert seen.peak <= HANDSHAKES
    assert peak(target) <= HANDSHAKES
    assert drops(target) <= seen.refused <= TARGETS // 2
    assert not seen.refused or seen.limit < HANDSHAKES
    assert not way._shared.is_open


@pytest.mark.one_loop
async def test_at_the_servers_own_limit(loop: str, sshd_factory: Start, paced: Paced) -> None:
    """With as many at once as both servers take, twenty separate ways are never refused."""
    bastion, target = sshd_factory(options=TIGHT), sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter(3)
    connections = [
        paced(target, limiter, proxy_jump=paced(bastion, limiter)) for _ in range(TARGETS // 3)
    ]
    assert await connect_all(connections) == []
    await close_all(connections)
    for server in (bastion, target):
        assert (drops(server), logins(server)) == (0, TARGETS // 3)
        assert (at(limiter, server).refused, at(limiter, server).peak <= 3) == (0, True)
        assert peak(server) <= 3


def test_two_loops_share_a_servers_limit(sshd_factory: Start, paced: Paced) -> None:
    """Connections of loops in two threads together never have more under way than the limit."""
    target = sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter(3)
    errors: list[Exception] = []

    async def main() -> None:
        connections = [paced(target, limiter) for _ in range(9)]
        errors.extend(await connect_all(connections))
        await close_all(connections)

    threads = [
        threading.Thread(target=lambda kind=kind: anyio.run(main, backend=kind))
        for kind in ("asyncio", "trio")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert (drops(target), logins(target), at(limiter, target).peak <= 3) == (0, 18, True)


@pytest.mark.one_loop
async def test_named_hops_take_turns_too(loop: str, sshd_factory: Start, paced: Paced) -> None:
    """A bastion given by name is one server for all that name it, and its hops are paced."""
    bastion, target = sshd_factory(options=TIGHT), sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter(2)
    name = f"{bastion.host}:{bastion.port}"
    connections = [
        paced(target, limiter, proxy_jump=name, username=target.alice.name, private_key=key)
        for key in [target.alice.key.path] * 6
    ]
    assert await connect_all(connections) == []
    await close_all(connections)
    for server in (bastion, target):
        assert (drops(server), logins(server), at(limiter, server).peak) == (0, 6, 2)


async def test_a_refused_login_is_not_repeated(
    loop: str, sshd_factory: Start, paced: Paced, keys: Any
) -> None:
    """Each target that refuses the key was asked once, while others were refused for their number.

    A host key that is not the recorded one ends it before that.
    """
    target = sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter()
    stranger = keys.get(name="stranger").path
    count = 12
    connections = [paced(target, limiter, private_key=stranger, agent=False) for _ in range(count)]
    errors = await connect_all(connections)
    assert [type(error).__mro__[1] for error in errors] == [AuthenticationError] * count
    target.wait_for_log(r"^Disconnected from authenticating user", count=count)
    attempts = [attempt for attempt in target.authentications() if attempt.method != "none"]
    assert len(attempts) == count
    assert at(limiter, target)[1:3] == (0, 0)

    strict = paced(target, limiter, host_key_policy="strict", known_hosts=[])
    with pytest.raises(HostKeyError):
        await strict.connect()
    assert at(limiter, target)[1:3] == (0, 0)


@pytest.mark.one_loop
async def test_a_shared_bastion_is_retried_once_for_all(
    loop: str, sshd_factory: Start, target: Sshd, paced: Paced, brief: None
) -> None:
    """While a bastion is busy one attempt after the other is made, not one per target."""
    bastion = sshd_factory(options=TIGHT)
    limiter = HandshakeLimiter()
    way = paced(bastion, limiter)
    connections = [paced(target, limiter, proxy_jump=way) for _ in range(30)]
    async with anyio.create_task_group() as group:
        with occupied(bastion):
            errors: list[list[Exception]] = []

            async def connect() -> None:
                errors.append(await connect_all(connections))

            group.start_soon(connect)
            with anyio.fail_after(30):
                while not limiter.get_statistics() or at(limiter, bastion).refused < 2:
                    await anyio.sleep(0.01)
            assert at(limiter, bastion).granted - at(limiter, bastion).refused <= 1
    assert errors == [[]]
    await close_all(connections)
    seen = at(limiter, bastion)
    assert (seen.peak, seen.authenticated, logins(bastion)) == (1, 1, 1)
    assert seen.refused <= 10


@pytest.mark.parametrize("loop", ["trio"])
async def test_all_targets_are_told_that_the_bastion_is_busy(
    loop: str, sshd_factory: Start, target: Sshd, paced: Paced, brief: None
) -> None:
    """When time is over, each target of a busy bastion has an error that says so, and where."""
    bastion = sshd_factory(options=TIGHT)
    with occupied(bastion):
        for limit in SLOWER:
            limiter = HandshakeLimiter()
            way = paced(bastion, limiter)
            connections = [paced(target, limiter, proxy_jump=way, timeout=limit) for _ in range(10)]
            errors = await connect_all(connections)
            assert len(errors) == 10
            if not any(isinstance(error, ConnectTimeout) for error in errors):
                break
    for error in errors:
        assert isinstance(error, ServerBusy), error
        assert error.hop == f"alice@{bastion.host}:{bastion.port}"
        assert isinstance(error.__cause__, ConnectTimeout)
    assert at(limiter, bastion)[1:3] == (0, 0)


@pytest.mark.parametrize("loop", ["asyncio"])
async def test_busy_until_time_is_over(
    loop: str, sshd_factory: Start, paced: Paced, brief: None
) -> None:
    """A server that stays busy is tried until time is over, and the error says how often."""
    server = sshd_factory(options=TIGHT)
    with occupied(server):
        for limit in SLOWER:
            limiter = HandshakeLimiter()
            with pytest.raises((ServerBusy, ConnectTimeout)) as caught:
                await paced(server, limiter, timeout=limit).connect()
            if isinstance(caught.value, ServerBusy):
                break
    error = caught.value
    assert isinstance(error, ServerBusy)
    assert error.tries - at(limiter, server).refused in (0, 1)  # one may be under way
    assert error.tries == 1 or f"after {error.tries} tries" in str(error)
    assert isinstance(error.__cause__, ConnectTimeout)
    assert (error.hop_index, error.phase) == (0, "banner")


async def test_without_a_limiter(loop: str, sshd_factory: Start, make: Make) -> None:
    """A single connection is not tried again, in either API: the error is the refusal."""
    server = sshd_factory(options=TIGHT)
    with occupied(server):
        with pytest.raises(ServerBusy) as caught:
            await make(server).connect()
        assert (caught.value.tries, caught.value.phase) == (1, "banner")
        with pytest.raises(ServerBusy):
            Connection(server.host, server.port, "alice", private_key=server.alice.key.path)
    text = "Not allowed at this time" if openssh_version() >= (9, 8) else "Exceeded MaxStartups"
    assert caught.value.server_text == text


async def test_through_a_proxy_command(
    loop: str, target: Sshd, paced: Paced, brief: None, tmp_path: Path
) -> None:
    """What a busy server says through a proxy command counts, and later its silence, too."""
    runs = tmp_path / "runs"
    script = f"""
        echo >> {runs}
        case $(wc -l < {runs}) in 1) echo "Exceeded MaxStartups";; 2) ;; *) exec "$@" ;; esac
    """
    limiter = HandshakeLimiter()
    command = ["sh", "-c", script, "sh", *RELAY]
    async with paced(target, limiter, proxy_command=command) as connection:
        assert (await connection.execute("echo in")).stdout == "in\n"
    (seen,) = limiter.get_statistics().values()
    assert (seen.refused, seen.authenticated, runs.read_text()) == (2, 1, "\n" * 3)


@pytest.mark.parametrize("end", ["exit 0", "exit 3", "echo no >&2; exit 0"])
async def test_a_proxy_command_that_fails(
    loop: str, end: str, target: Sshd, paced: Paced, tmp_path: Path
) -> None:
    """A proxy command that ends without the server's words is run once, and its error told."""
    runs = tmp_path / "runs"
    limiter = HandshakeLimiter()
    command = ["sh", "-c", f"echo >> {runs}; {end}"]
    with pytest.raises(ProxyCommandError, match=r"Failed to start proxy command \(exited with"):
        await paced(target, limiter, proxy_command=command).connect()
    assert runs.read_text() == "\n"
    (seen,) = limiter.get_statistics().values()
    assert seen[1:3] == (0, 0)


@pytest.mark.parametrize("seconds", [20, 0])
async def test_words_of_a_ban(
    loop: str, seconds: int, monkeypatch: pytest.MonkeyPatch, paced: Paced
) -> None:
    """Who is banned for a while pauses longer, and gets in after it."""
    monkeypatch.setattr(limits_module, "BAN_PAUSE", (0.05, 0.1))
    monkeypatch.setattr(limits_module, "PAUSE", (60.0, 60.0))
    refusals = 2

    def script(conn: Conn) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            conn.send_raw(b"Not allowed at this time\r\n")
        else:
            polite(Password("secret"))(conn)

    limiter = HandshakeLimiter()
    with HostileServer(script) as server:
        connection = AsyncConnection(server.host, "mallory", "secret", port=server.port,
                                     timeout=seconds, known_hosts=[])  # fmt: skip
        connection._shared.limiter = limiter
        async with connection:
            pass
    (seen,) = limiter.get_statistics().values()
    assert (seen.refused, seen.authenticated) == (2, 1)


@pytest.mark.parametrize("loop", ["trio"])
async def test_a_mute_server_is_no_busy_one(loop: str, paced: Paced) -> None:
    """A server that never says anything is a time-out in phase banner, with a limiter, too."""
    limiter = HandshakeLimiter()
    with MuteListener() as listener:
        connection = AsyncConnection(listener.host, "alice", "x", port=listener.port, timeout=1)
        connection._shared.limiter = limiter
        with pytest.raises(ConnectTimeout) as caught:
            await connection.connect()
    assert caught.value.phase == "banner"
    (seen,) = limiter.get_statistics().values()
    assert seen[1:3] == (0, 0)


async def test_time_is_over_in_the_queue(loop: str, target: Sshd, paced: Paced) -> None:
    """Where the server refuses nobody but others take long, the error says for what one waited."""
    limiter = HandshakeLimiter(1)
    other = limiter.make_permit(Server(None, target.host, target.port))
    for seconds in (0.5, 5.0):  # on a busy machine all of it may pass before it asks for a turn
        with pytest.raises(ConnectTimeout) as caught:
            await paced(target, limiter, timeout=seconds).connect()
        if caught.value.phase == "queue":
            break
    assert "waiting for its turn at alice@" in str(caught.value)
    assert (caught.value.phase, caught.value.hop_index) == ("queue", 0)
    other.give_back()
    assert at(limiter, target)[1:3] == (0, 0)
    assert target.connections() == 0


async def test_cancelled_at_any_moment(
    loop: str, bastion: Sshd, target: Sshd, paced: Paced
) -> None:
    """Cancelled anywhere on its way up, a connection keeps no turn."""
    from tests.aio.steps import Stepped

    limiter = HandshakeLimiter(1)
    at_step = 1
    while True:
        connection = paced(target, limiter, proxy_jump=paced(bastion, limiter))
        with anyio.CancelScope() as scope:
            stepped = Stepped(connection.connect(), scope, at_step)
            await stepped
        await connection.close()
        assert all(seen[1:3] == (0, 0) for seen in limiter.get_statistics().values())
        if not scope.cancelled_caught:
            break
        at_step += 6
    assert at_step > 10


@pytest.mark.skipif(openssh_version() < (9, 8), reason="needs OpenSSH 9.8 or later")
async def test_per_source_penalties(loop: str, sshd_factory: Start, paced: Paced) -> None:
    """Banned by the server for failed logins, a connection waits for the end of the ban."""
    server = sshd_factory(options={"PerSourcePenalties": "authfail:2 min:2 max:3"})
    limiter = HandshakeLimiter()
    while True:
        try:
            Connection(server.host, server.port, "alice", "wrong", agent=False, timeout=20_000)
        except AuthenticationError:
            continue
        except ServerBusy:
            break
    async with paced(server, limiter, timeout=30) as connection:
        assert (await connection.execute("echo in")).stdout == "in\n"
    assert at(limiter, server).authenticated == 1
