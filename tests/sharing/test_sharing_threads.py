"""One connection, or one bastion, used by many threads at once."""

from __future__ import annotations

import random
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from hussh import ChannelRefused, CommandTimeout, Connection, ConnectionClosed
from hussh._native.constants import EVENTS, ChannelState
from hussh._native.link import Link
from hussh._policy.wire import string
from hussh._protocol.channel import open_session
from hussh._protocol.core import Op, WaitFor
from tests.sharing.conftest import ROOMY, Login
from tests.sharing.helpers import LONG, Job, listeners, together
from tests.support.hostile import (
    Channel,
    Conn,
    HostileServer,
    Refuse,
    Services,
    polite,
    polite_exec,
)
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
THREADS = 16


@pytest.fixture
def hurried() -> Iterator[None]:
    """Let threads take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 100)
    yield
    sys.setswitchinterval(before)


def _talk(connection: Connection, thread: int, times: int) -> int:
    """Run commands that name their thread and turn; how many answers were right."""
    right = 0
    for turn in range(times):
        result = connection.execute(f"echo {thread}-{turn}")
        right += (result.stdout, result.stderr, result.status) == (f"{thread}-{turn}\n", "", 0)
    return right


@pytest.mark.usefixtures("hurried")
def test_one_connection(sshd_factory: SshdFactory, login: Login) -> None:
    """Sixteen threads on one connection to a real server: every answer goes to who asked."""
    times = 200 if LONG else 15
    shared = login(sshd_factory(options=ROOMY))
    assert together(THREADS, lambda n: _talk(shared, n, times), 600) == [times] * THREADS


@pytest.mark.usefixtures("hurried")
def test_one_connection_many_turns(login: Login) -> None:
    """Sixteen threads with 200 commands each on one connection to a scripted server."""
    with HostileServer(polite()) as server:
        shared = login(server)
        assert together(THREADS, lambda n: _talk(shared, n, 200), 300) == [200] * THREADS


@pytest.mark.usefixtures("hurried")
def test_targets_behind_one_bastion(bastion: Sshd, sshd_factory: SshdFactory, login: Login) -> None:
    """Sixteen threads connect to targets through one bastion: one login there, no listener."""
    times = 200 if LONG else 8
    target = sshd_factory(name="target", options=ROOMY)
    before = listeners()
    first = login(bastion)
    seen = set()

    def work(number: int) -> int:
        jumped = login(target, proxy_jump=first)
        seen.update(listeners())
        right = _talk(jumped, number, times)
        jumped.close()
        return right

    assert together(THREADS, work, 600) == [times] * THREADS
    assert len([each for each in bastion.authentications() if each.accepted]) == 1
    assert bastion.connections() == 1
    assert target.connections() == THREADS
    assert len(bastion.forwards()) == THREADS
    assert seen <= before
    assert first.execute("echo usable").stdout == "usable\n"


@pytest.mark.usefixtures("hurried")
def test_bastion_and_targets_mixed(sshd_factory: SshdFactory, login: Login) -> None:
    """Threads use the bastion, a target and a target behind that at once, all in one tree."""
    servers = [sshd_factory(name=f"s{number}", options=ROOMY) for number in range(3)]
    connections: list[Connection] = []
    for server in servers:
        connections.append(login(server, proxy_jump=connections[-1] if connections else None))

    def work(number: int) -> int:
        return _talk(connections[number % 3], number, 10)

    assert together(12, work) == [10] * 12


def test_big_outputs_side_by_side(bastion: Sshd, target: Sshd, login: Login) -> None:
    """Large answers and questions of several threads over one bastion stay apart and whole."""
    first = login(bastion)
    jumped = [login(target, proxy_jump=first) for _ in range(3)]

    def work(number: int) -> None:
        data = random.Random(number).randbytes(3_000_000)
        connection = first if number == 3 else jumped[number]
        assert connection.execute("cat", input=data).stdout_bytes == data

    together(4, work)


def test_refused_among_many(login: Login) -> None:
    """Of opens in parallel some are refused: those threads get the error, the others results."""

    def opened(request: object) -> Refuse | None:
        counter.append(None)
        return Refuse(1, "no more") if len(counter) % 5 == 0 else None

    counter: list[None] = []
    with HostileServer(polite(services=Services(opened=opened))) as server:
        shared = login(server, spare_channel=False)

        def work(number: int) -> tuple[int, int]:
            right = refused = 0
            for turn in range(20):
                try:
                    right += shared.execute(f"echo {number} {turn}").stdout == f"{number} {turn}\n"
                except ChannelRefused as error:
                    refused += error.reason_text == "no more"
            return right, refused

        results = together(THREADS, work)
    assert sum(refused for _, refused in results) == len(counter) // 5
    assert sum(right + refused for right, refused in results) == 20 * THREADS == len(counter)


def _serve_when_told(
    conn: Conn, count: int, ready: threading.Event, turns: dict[str, threading.Event]
) -> None:
    """Take `count` commands, then answer each when its event comes."""
    conn.login()
    channels: dict[str, Channel] = {}
    for _ in range(count):
        channel = conn.accept_channel()
        channels[channel.accept_exec()] = channel
    ready.set()
    for name, turn in turns.items():
        assert turn.wait(30)
        channels[name].send_data(name.encode())
        channels[name].finish()
    conn.serve()


def test_leader_leaves_while_others_wait(login: Login) -> None:
    """When the thread that reads for all has its answer, one of the others reads on."""
    names = ["a", "b", "c", "d"]
    for first in range(len(names)):
        order = names[first:] + names[:first]
        turns = {name: threading.Event() for name in order}
        ready = threading.Event()

        def script(
            conn: Conn,
            ready: threading.Event = ready,
            turns: dict[str, threading.Event] = turns,
        ) -> None:
            _serve_when_told(conn, len(names), ready, turns)

        with HostileServer(script) as server:
            shared = login(server)
            jobs = {name: Job(shared.execute, name) for name in names}
            assert ready.wait(30)
            for name in order:
                turns[name].set()
                assert jobs[name].result(20).stdout == name
            shared.close()


def test_leader_gives_up_while_others_wait(login: Login) -> None:
    """When the thread that reads for all runs into its time-out, one of the others reads on."""
    turn, gone = threading.Event(), threading.Event()

    def script(conn: Conn) -> None:
        conn.login()
        leaders = conn.accept_channel()
        leaders.accept_exec()
        turn.set()
        others = [conn.accept_channel() for _ in range(2)]
        for channel in others:
            channel.accept_exec()
        assert gone.wait(30)
        for channel in others:
            channel.finish(5)
        conn.serve()

    with HostileServer(script) as server:
        shared = login(server)
        leader = Job(lambda: shared.execute("lead", timeout=300))
        assert turn.wait(30)
        others = [Job(lambda: shared.execute("follow").status) for _ in range(2)]
        with pytest.raises(CommandTimeout):
            leader.result()
        gone.set()
        assert [job.result(20) for job in others] == [5, 5]
        shared.close()


def test_stuck_output_keeps_nobody_from_reading(login: Login) -> None:
    """While one thread's input is stuck and the reader leaves, others still get their answers."""
    taken = {name: threading.Event() for name in ("lead", "quiet", "swallow")}
    gone, answered = threading.Event(), threading.Event()
    data = bytes(6 << 20)

    def script(conn: Conn) -> None:
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        conn.login()
        channels: dict[str, Channel] = {}
        for event in taken.values():
            channel = conn.accept_channel()
            channels[channel.accept_exec()] = channel
            event.set()
        channels["quiet"].send_data(b"the youngest waiter now")
        assert gone.wait(30)  # and reads nothing meanwhile
        channels["quiet"].finish(5)
        assert answered.wait(30)
        assert len(channels["swallow"].read_all()) == len(data)
        channels["swallow"].finish(6)
        conn.serve()

    with HostileServer(script, window=1 << 24) as server:
        shared = login(server)
        leader = Job(shared.execute, "lead", 1000)
        assert taken["lead"].wait(30)
        reader = Job(shared.execute, "quiet")
        assert taken["quiet"].wait(30)
        writer = Job(lambda: shared.execute("swallow", input=data))
        assert taken["swallow"].wait(30)
        with pytest.raises(CommandTimeout):
            leader.result()
        gone.set()
        assert reader.result(20).status == 5
        answered.set()
        assert writer.result(20).status == 6
        shared.close()


def _pending(link: Link, pump: bool) -> Op[bool]:
    """Wait for a channel whose event has been noted already, but not been handed out."""
    channel = yield from open_session(link)
    try:
        channel.request(b"exec", string(b"echo x"), want_reply=True)
        while pump and not (link.root.pump(1 << 20) & EVENTS and channel.get_info().closed):
            pass
        yield WaitFor(channel)
        return bool(channel.get_info().state == ChannelState.OPEN)
    finally:
        channel.free()


@pytest.mark.parametrize("others", [False, True], ids=["leading", "following"])
def test_waiting_for_what_has_happened(others: bool, login: Login) -> None:
    """Who begins to wait while its event is pending is resumed, though nothing more arrives."""

    def wait(channel: Channel, command: str) -> Iterator[None]:
        if command != "wait":
            yield from polite_exec(channel, command)
        while not channel.closed:
            yield

    with HostileServer(polite(execute=wait)) as server:
        shared = login(server)
        session = shared._session
        assert session is not None
        if others:
            waiting = Job(lambda: shared.execute("wait"))
        for _ in range(20):
            op = _pending(session.link, pump=True)
            assert Job(session.driver.run, op).result(20)
        shared.close()
        if others:
            with pytest.raises(ConnectionClosed):
                waiting.result(20)
