"""Many operations on one link, stepped by hand: nothing takes what belongs to another.

Each test is a trap that libssh2's own channels fall into; the server decides the order of
everything, and the test decides who looks first.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from hussh import ChannelError, ChannelRefused
from hussh._policy.wire import boolean, string, uint32
from hussh._protocol.channel import open_session
from hussh._protocol.execute import execute
from tests.sharing.helpers import Stepper
from tests.support.hostile import Channel, Conn, HostileServer, Refuse, polite

COUNT = 30
Script = Callable[[Conn], object]
Connect = Callable[[Script], tuple[HostileServer, Stepper]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Start a server with a script and log in to it."""
    with contextlib.ExitStack() as stack:

        def start(script: Script) -> tuple[HostileServer, Stepper]:
            server = stack.enter_context(HostileServer(script))
            sock = stack.enter_context(server.connect())
            sock.setblocking(False)
            stepper = Stepper(sock.fileno(), "me", password="x")
            stack.callback(stepper.link.free)
            return server, stepper.login()

        yield start


def test_interleaved_commands_stepped_in_reverse(connect: Connect) -> None:
    """Thirty commands at once, the last one always looking first: each gets its own output."""
    server, stepper = connect(polite())
    ops = {n: execute(stepper.link, b"echo number %d" % n) for n in range(COUNT)}
    outputs: dict[int, str] = {}
    while True:
        for number in sorted(ops, reverse=True):
            for result in stepper.step(ops[number]):
                assert result.status == 0
                outputs[number] = result.stdout
                del ops[number]
        if not ops:
            break
        stepper.pump()
    assert outputs == {n: f"number {n}\n" for n in range(COUNT)}
    assert len(server.conns[0].opens) == COUNT


def test_interleaved_commands_answered_in_reverse(connect: Connect) -> None:
    """The server answers thirty commands last first, and closes them first first."""

    def script(conn: Conn) -> None:
        conn.login()
        channels = [conn.accept_channel() for _ in range(COUNT)]
        told = {channel: channel.accept_exec() for channel in channels}
        for channel in reversed(channels):
            channel.send_data(told[channel].encode())
            channel.send_data(told[channel].upper().encode(), stderr=True)
        for channel in channels:
            channel.finish(channel.id)
        conn.serve()

    _, stepper = connect(script)
    ops = [execute(stepper.link, b"command %d" % n) for n in range(COUNT)]
    pending = dict(enumerate(ops))
    while pending:
        for number, op in list(pending.items()):
            for result in stepper.step(op):
                assert result.status == number
                assert result.stdout == f"command {number}"
                assert result.stderr == f"COMMAND {number}"
                del pending[number]
        if pending:
            stepper.pump()


@pytest.mark.parametrize("late_answer", [True, False], ids=["success", "failure"])
def test_late_reply_to_an_abandoned_request(late_answer: bool, connect: Connect) -> None:
    """The answer to a request that was given up reaches nobody else."""

    def script(conn: Conn) -> None:
        conn.login()
        conn.auto_close = False  # its CLOSE comes after the late answer
        first = conn.tag = conn.accept_channel()
        second = conn.accept_channel()
        text = second.accept_exec()
        if late_answer:
            first.success()
        else:
            first.failure()
        first.send_close()
        second.send_data(text.encode())
        second.finish(7)
        conn.serve()

    server, stepper = connect(script)
    first = execute(stepper.link, b"first")
    stepper.step(first)
    second = execute(stepper.link, b"second")
    stepper.step(second)
    stepper.pump()
    assert stepper.step(first) == []  # open, its exec request is out
    first.close()
    result = stepper.finish(second)
    assert (result.stdout, result.status) == ("second", 7)
    assert stepper.link.dead is False
    first_channel = server.conns[0].tag
    assert isinstance(first_channel, Channel)
    assert [name for name, _ in first_channel.requests] == ["exec", "signal"]


@pytest.mark.parametrize("late_answer", ["confirm", "refuse"])
def test_abandoned_open_then_another(late_answer: str, connect: Connect) -> None:
    """The late answer to an open that was given up is not taken for that to the next one."""

    def script(conn: Conn) -> None:
        conn.login()
        abandoned, wanted = conn.next_open(), conn.next_open()
        if late_answer == "confirm":
            conn.confirm(abandoned)
        else:
            conn.refuse(abandoned, Refuse(text="too late"))
        channel = conn.confirm(wanted)
        channel.send_data(channel.accept_exec().encode())
        channel.finish(3)
        conn.serve()

    server, stepper = connect(script)
    abandoned = open_session(stepper.link)
    stepper.step(abandoned)
    abandoned.close()
    result = stepper.finish(execute(stepper.link, b"wanted"))
    assert (result.stdout, result.status) == ("wanted", 3)
    stepper.pump_until_idle()
    assert not server.conns[0].channels, "a channel that nobody wants was left open"


def test_failure_and_success_in_order(connect: Connect) -> None:
    """Answers belong to requests in their order, also when both come at once."""

    def script(conn: Conn) -> None:
        conn.login()
        channel = conn.accept_channel()
        while len(channel.requests) < 4:
            conn.pump()
        channel.failure()
        channel.success()
        channel.success()
        channel.failure()
        conn.serve()

    _, stepper = connect(script)
    channel = stepper.finish(open_session(stepper.link))
    for name in (b"env", b"pty-req", b"env", b"exec"):
        channel.request(name, string(b"x") + uint32(0) + boolean(False), want_reply=True)
    while channel.get_info().replies < 4:
        stepper.pump()
    assert channel.get_info().failures == 0b1001


def test_failed_exec_among_others(connect: Connect) -> None:
    """Of commands that are asked for at once those that the server denies fail, no others."""

    def script(conn: Conn) -> None:
        conn.login()
        channels = [conn.accept_channel() for _ in range(12)]
        while not all(channel.requests for channel in channels):
            conn.pump()
        for channel in reversed(channels):
            if channel.id % 3:
                channel.success()
                channel.finish(channel.id)
            else:
                channel.failure()
        conn.serve()

    _, stepper = connect(script)
    pending = {n: execute(stepper.link, b"command") for n in range(12)}
    denied: list[tuple[int, bool]] = []
    while pending:
        for number, op in list(pending.items()):
            try:
                for result in stepper.step(op):
                    assert result.status == number
                    del pending[number]
            except ChannelError as error:
                denied.append((number, "denied" in str(error)))
                del pending[number]
        if pending:
            stepper.pump()
    assert sorted(denied) == [(n, True) for n in (0, 3, 6, 9)]


def test_parallel_opens_some_refused(connect: Connect) -> None:
    """Forty opens at once, answered in reverse, every third refused: each gets its own answer."""
    count = 40

    def script(conn: Conn) -> None:
        conn.login()
        requests = [conn.next_open() for _ in range(count)]
        for number, request in reversed(list(enumerate(requests))):
            if number % 3 == 0:
                conn.refuse(request, Refuse(1 + number % 4, f"not number {number}"))
            else:
                conn.confirm(request)
        conn.serve()

    _, stepper = connect(script)
    pending = {n: open_session(stepper.link) for n in range(count)}
    opened = {}
    refused: dict[int, tuple[int, str]] = {}
    while pending:
        for number, op in list(pending.items()):
            try:
                for channel in stepper.step(op):
                    opened[number] = channel
                    del pending[number]
            except ChannelRefused as error:
                refused[number] = (error.reason_code, error.reason_text)
                del pending[number]
        if pending:
            stepper.pump()
    assert refused == {n: (1 + n % 4, f"not number {n}") for n in range(0, count, 3)}
    assert sorted(opened) == [n for n in range(count) if n % 3]
    # The channels are told apart: each leads to its own command.
    assert len({channel.token for channel in opened.values()}) == len(opened)
    result = stepper.finish(execute(stepper.link, b"echo still usable"))
    assert result.stdout == "still usable\n"


def test_channel_numbers_are_used_again(connect: Connect) -> None:
    """Answers for channels that are gone do not reach the ones that got their numbers."""
    _, stepper = connect(polite())
    for number in range(60):
        abandoned = execute(stepper.link, b"cat")
        stepper.step(abandoned)
        if number % 2:
            stepper.pump()
            stepper.step(abandoned)
        abandoned.close()
        result = stepper.finish(execute(stepper.link, b"echo %d" % number))
        assert (result.stdout, result.status) == (f"{number}\n", 0)
