"""Endings while others are busy: closing from another thread, collection in any order, limits."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any

import pytest

from hussh import (
    ChannelRefused,
    CommandTimeout,
    Connection,
    ConnectionClosed,
    ConnectionLost,
)
from hussh._protocol.core import Op, WaitFor
from hussh._protocol.execute import execute
from tests.sharing.conftest import ROOMY, Login
from tests.sharing.helpers import LONG, Job, descriptors, together
from tests.support.hostile import Conn, HostileServer
from tests.support.processes import wait_gone
from tests.support.relay import Relay
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
RelayFactory = Callable[..., Relay]
COMMAND = "Starting session: command"


def sessions(server: Sshd) -> list[int]:
    """Return the processes of the logins on this server."""
    return [process.pid for process in server.processes() if "sshd" in process.argv[0]]


def test_closed_from_another_thread(sshd_factory: SshdFactory, login: Login) -> None:
    """Closing a connection ends the commands that run on it in other threads, typed, at once."""
    server = sshd_factory(options=ROOMY)
    direct = login(server)
    jobs = [Job(lambda: direct.execute("exec sleep 1000", timeout=0)) for _ in range(4)]
    server.wait_for_log(COMMAND, count=4)
    start = time.monotonic()
    direct.close()
    for job in jobs:
        with pytest.raises(ConnectionClosed):
            job.result()
    assert max(job.ended for job in jobs) - start < 10


def test_target_closed_while_the_bastion_is_silent(
    bastion: Sshd, target: Sshd, login: Login, relay_factory: RelayFactory
) -> None:
    """Closing a target ends its command at once, though the bastion says nothing any more."""
    relay = relay_factory(bastion)
    first = login(relay, account=bastion.alice)
    jumped = login(target, proxy_jump=first)
    job = Job(lambda: jumped.execute("exec sleep 1000", timeout=0))
    target.wait_for_log(COMMAND)
    relay.freeze()
    start = time.monotonic()
    jumped.close()
    with pytest.raises(ConnectionClosed):
        job.result()
    assert job.ended - start < 10
    relay.thaw()
    assert first.execute("echo usable").stdout == "usable\n"


def test_silent_bastion_closed(
    bastion: Sshd, target: Sshd, login: Login, relay_factory: RelayFactory
) -> None:
    """Closing a bastion that says nothing any more ends all commands over it at once."""
    relay = relay_factory(bastion)
    first = login(relay, account=bastion.alice)
    jumped = [login(target, proxy_jump=first) for _ in range(3)]
    jobs = [Job(each.execute, "exec sleep 1000", 0) for each in (first, *jumped)]
    target.wait_for_log(COMMAND, count=3)
    bastion.wait_for_log(COMMAND)
    relay.freeze()
    start = time.monotonic()
    first.close()
    for job in jobs:
        with pytest.raises((ConnectionClosed, ConnectionLost)):
            job.result()
    assert max(job.ended for job in jobs) - start < 10


def test_closing_while_others_connect(bastion: Sshd, target: Sshd, login: Login) -> None:
    """A bastion that is closed while targets connect over it: typed errors, nothing stays."""
    before = descriptors()
    for delay in range(6):
        first = login(bastion)

        def connect(number: int, first: Connection = first, delay: int = delay) -> str:
            try:
                if number == 0:
                    # Not a synchronisation: any moment of the connecting is as good as another.
                    threading.Event().wait(delay * 0.005)
                    first.close()
                    return "closed"
                jumped = login(target, proxy_jump=first)
                return jumped.execute("echo whole").stdout
            except (ConnectionClosed, ConnectionLost):
                return "refused"

        assert set(together(4, connect)) <= {"closed", "whole\n", "refused"}
    assert descriptors() == before


def _drop(things: dict[str, Any], name: str) -> None:
    del things[name]


def _drop_in_a_cycle(things: dict[str, Any], name: str) -> None:
    cell: list[Any] = [things.pop(name)]
    cell.append(cell)
    del cell
    gc.collect()


@pytest.mark.parametrize("cyclic", [False, True], ids=["counted", "cyclic"])
def test_dropping_in_every_order(cyclic: bool, sshd_factory: SshdFactory) -> None:
    """Running operation, target, other target, bastion: dropped in all 24 orders, nothing stays.

    By default each order is tried in one of the two ways of dropping, in turns.
    """
    bastion, target = sshd_factory(), sshd_factory()
    alice = bastion.alice
    credentials: dict[str, Any] = {"username": alice.name, "private_key": alice.key.path}
    gc.collect()
    before = descriptors()
    for number, order in enumerate(permutations(("op", "other", "target", "bastion"))):
        if not LONG and number % 2 != cyclic:
            continue
        things: dict[str, Any] = {}
        things["bastion"] = Connection(bastion.host, bastion.port, **credentials)
        for name in ("target", "other"):
            things[name] = Connection(
                target.host, target.port, proxy_jump=things["bastion"], **credentials
            )
        session = things["target"]._session
        things["op"] = execute(session.link, b"exec sleep 1000")
        with session.driver.locked():
            next(things["op"])  # its channel is being opened
        del session
        for name in order:
            (_drop_in_a_cycle if cyclic else _drop)(things, name)
        gc.collect()
        assert descriptors() == before, order
    assert wait_gone(sessions(bastion) + sessions(target), 20.0) == []


class Closer:
    """Closes a connection when it is collected, as careless code does."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.me = self  # only the collector finds it

    def __del__(self) -> None:
        self.connection.close()


def test_finalizer_in_the_middle_of_a_step(bastion: Sshd, target: Sshd, login: Login) -> None:
    """A finalizer that closes a target while its thread holds the tree's lock neither hangs
    nor lets the lock go; the target is closed when the thread lets it go."""
    first = login(bastion)
    session = first._session
    assert session is not None
    tree = session.driver
    for careless in (True, False):
        alice = target.alice
        jumped = Connection(
            target.host, target.port, alice.name, private_key=alice.key.path, proxy_jump=first
        )
        client = jumped._session
        assert client is not None
        cell: list[Any] = [Closer(jumped)] if careless else [jumped]
        cell.append(cell)
        del jumped, cell

        def op() -> Op[bool]:
            gc.collect()
            held = tree._lock.is_owned()
            running = execute(session.link, b"echo x")
            result = yield from running
            assert result.stdout == "x\n"
            return held

        assert Job(tree.run, op()).result()
        assert client.link.dead  # at the latest when the lock was let go
    assert first.execute("echo usable").stdout == "usable\n"


def test_collected_while_another_thread_holds_the_lock(
    bastion: Sshd, target: Sshd, login: Login
) -> None:
    """A target collected while its tree is in use is closed as soon as the user waits."""
    first = login(bastion)
    session = first._session
    assert session is not None
    alice = target.alice
    jumped = Connection(
        target.host, target.port, alice.name, private_key=alice.key.path, proxy_jump=first
    )
    inside, dropped = threading.Event(), threading.Event()

    def op() -> Op[None]:
        inside.set()
        assert dropped.wait(30)
        yield WaitFor(session.link)  # nothing will happen to it

    job = Job(lambda: session.driver.run(op(), time.monotonic() + 15))
    assert inside.wait(30)
    running = sessions(target)
    del jumped
    dropped.set()
    assert wait_gone(running, 10.0) == []
    assert job.is_alive()
    first.close()
    job.result()


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Make the garbage collector run at nearly every allocation."""
    before = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("eager_collector")
@pytest.mark.parametrize("careless", [False, True], ids=["dropped", "finalizer"])
def test_collector_runs_within_the_pump(
    careless: bool, bastion: Sshd, sshd_factory: SshdFactory, login: Login
) -> None:
    """Threads drop connections of the tree that they work on, with the collector always on."""
    target = sshd_factory(name="target", options=ROOMY)
    first = login(bastion)
    alice = target.alice

    def work(number: int) -> int:
        right = 0
        for turn in range(4):
            jumped = Connection(
                target.host, target.port, alice.name, private_key=alice.key.path, proxy_jump=first
            )
            cell: list[Any] = [Closer(jumped)] if careless else [jumped]
            cell.append(cell)
            right += jumped.execute(f"echo {number} {turn}").stdout == f"{number} {turn}\n"
            right += first.execute(f"echo {turn}").stdout == f"{turn}\n"
            del jumped, cell
        return right

    assert together(4, work) == [8] * 4
    gc.collect()
    assert wait_gone(sessions(target), 20.0) == []
    assert first.execute("echo usable").stdout == "usable\n"


@pytest.mark.parametrize("jump", [False, True], ids=["direct", "jump"])
def test_more_commands_than_the_server_allows(
    jump: bool, bastion: Sshd, sshd_factory: SshdFactory, login: Login
) -> None:
    """Where two commands are allowed a third one waits; its time-out costs the others nothing."""
    server = sshd_factory(options={"MaxSessions": 2})
    shared = login(server, proxy_jump=login(bastion) if jump else None)
    go = server.alice.files / "go"
    waiting = f"until test -e {server.alice.path('go')}; do sleep 0.05; done; echo went"
    jobs = [Job(lambda: shared.execute(waiting).stdout) for _ in range(2)]
    server.wait_for_log(COMMAND, count=2)
    with pytest.raises(CommandTimeout) as late:
        shared.execute("echo too late", timeout=200)
    assert late.value.hop == f"{server.alice.name}@{server.host}:{server.port}"
    third = Job(lambda: shared.execute("echo third").stdout)
    go.touch()
    assert [job.result() for job in (*jobs, third)] == ["went\n", "went\n", "third\n"]
    assert shared.execute("echo usable").stdout == "usable\n"


def test_many_commands_where_few_are_allowed(sshd_factory: SshdFactory, login: Login) -> None:
    """Fifty commands at once on a connection that allows ten: each has its own output."""
    shared = login(sshd_factory(options={"MaxSessions": 10}))
    outputs = together(50, lambda number: shared.execute(f"echo {number}").stdout)
    assert outputs == [f"{number}\n" for number in range(50)]


def test_server_that_allows_no_command(sshd_factory: SshdFactory, login: Login) -> None:
    """Refused commands are typed and cost nothing: the connection still carries targets."""
    server, target = sshd_factory(options={"MaxSessions": 0}), sshd_factory(name="target")
    first = login(server)
    jumped = login(target, proxy_jump=first)
    for _ in range(3):
        with pytest.raises(ChannelRefused) as refused:
            first.execute("true")
        assert refused.value.reason_code > 0
        assert refused.value.hop == f"{server.alice.name}@{server.host}:{server.port}"
        assert refused.value.phase == "channel"
        assert jumped.execute("echo $SERVER_NAME").stdout == "target\n"


def test_usable_after_an_open_that_timed_out(login: Login) -> None:
    """An open that the server does not answer in time costs a time-out, not the connection."""
    gone = threading.Event()

    def script(conn: Conn) -> None:
        conn.login()
        late = conn.next_open()
        assert gone.wait(30)
        conn.confirm(late)
        conn.serve()

    with HostileServer(script) as server:
        shared = login(server, spare_channel=False)
        with pytest.raises(CommandTimeout) as slow:
            shared.execute("true", timeout=100)
        assert slow.value.result.status == -1
        gone.set()
        for number in range(3):
            assert shared.execute(f"echo {number}").stdout == f"{number}\n"
        shared.close()
        assert len(server.wait().channels) == 0
