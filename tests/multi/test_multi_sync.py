"""`MultiConnection` in plain code, on real servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from hussh import Connection
from hussh._connect.handshake_limits import HandshakeLimiter
from hussh.aio import AsyncConnection
from hussh.errors import (
    CommandTimeout,
    ConnectError,
    ConnectionClosed,
    ConnectionLost,
    ConnectTimeout,
    KeyRefused,
    PartialFailureException,
    SFTPNotFoundError,
)
from hussh.multi_conn import HostResult, MultiConnection, MultiResult
from tests.multi.conftest import HOSTS, MINE, Multi, runs
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd


def test_the_same_command_everywhere(multi: Multi) -> None:
    """Each host's own output is under its name, in the order of the hosts."""
    with multi(5) as connected:
        result = connected.execute("echo ${SSH_CONNECTION% *}; echo err >&2; exit 4")
    assert result.keys() == HOSTS[:5]
    for host, one in result.items():
        assert (one.host, one.status, one.stderr, one.error) == (host, 4, "err\n", None)
        assert one.stdout.split()[2] == host
    assert result.succeeded is None
    assert result.failed == result


def test_connecting_is_a_result_too(multi: Multi) -> None:
    """`connect` gives status 0 and no output for each host."""
    with closing(multi()) as connection:
        result = connection.connect()
    assert [
        (one.host, one.stdout_bytes, one.stderr_bytes, one.status, one.signal, one.error)
        for one in result.values()
    ] == [(host, b"", b"", 0, None, None) for host in HOSTS[:3]]


def test_a_command_of_its_own_for_each_host(multi: Multi) -> None:
    """`execute_map` runs on the hosts that it names, in their order, and ignores others."""
    with multi(4) as connected:
        commands = {HOSTS[2]: "echo two", HOSTS[0]: "echo zero", "nowhere": "echo"}
        result = connected.execute_map(commands)
    assert [(host, one.stdout) for host, one in result.items()] == [
        (HOSTS[0], "zero\n"), (HOSTS[2], "two\n"),
    ]  # fmt: skip


def test_the_same_host_more_than_once(multi: Multi, many: Sshd) -> None:
    """A host that is given three times has three connections and three results."""
    hosts = [HOSTS[0], HOSTS[1], HOSTS[0], HOSTS[0]]
    with multi(hosts) as connected:
        result = connected.execute("echo $SSH_CONNECTION")
        assert connected.hosts == hosts
    assert result.keys() == hosts
    assert len({one.stdout for one in result.values()}) == 4
    assert result.get_all(HOSTS[0]) == [result.values()[n] for n in (0, 2, 3)]
    assert many.connections() == 4


def test_every_failure_is_a_value(multi: Multi, many: Sshd, mute_listener: MuteListener) -> None:
    """Refused, wrong key, silence: status -1, the reason, its hop and phase; the rest works."""
    dead = {"host": HOSTS[1], "port": 1}
    stranger = {"host": HOSTS[2], "username": "nobody-here"}
    mute = {"host": mute_listener.host, "port": mute_listener.port, "timeout": 0.3}
    with multi([HOSTS[0], dead, stranger, mute]) as connected:
        result = connected.execute("echo fine")
    good, *bad = result.values()
    assert (good.status, good.stdout) == (0, "fine\n")
    assert [one.status for one in bad] == [-1] * 3
    assert [type(one.error) for one in bad] == [ConnectError, KeyRefused, ConnectTimeout]
    assert [one.phase for one in bad] == ["connect", "auth", "banner"]
    assert [one.hop for one in bad] == [
        f"alice@{HOSTS[1]}:1",
        f"nobody-here@{HOSTS[2]}:{many.port}",
        f"alice@{mute.get('host')}:{mute.get('port')}",
    ]
    assert ["timed out" in one.stderr for one in bad] == [False, False, True]
    assert all(str(one.error) in one.stderr for one in bad)


def test_a_host_that_failed_is_not_tried_again(multi: Multi, many: Sshd) -> None:
    """Later operations give the same reason at once, until `connect` tries again."""
    connection = multi(1, username="nobody-here")
    first = connection.connect()[HOSTS[0]]
    attempts = many.connections()
    again = connection.execute("true")[HOSTS[0]]
    assert (again.error, many.connections()) == (first.error, attempts)
    connection.connect()
    many.wait_for_log("Connection from", count=attempts + 1)
    connection.close()


def test_hosts_are_connected_when_needed(multi: Multi) -> None:
    """An operation connects the hosts that nobody has tried to connect yet."""
    connection = multi()
    assert len(connection.execute("true").succeeded or ()) == 3
    connection.close()


def test_failures_can_be_pruned(multi: Multi) -> None:
    """`connect(prune_failures=True)` leaves the hosts that work."""
    connection = multi([HOSTS[0], {"host": HOSTS[1], "port": 1}, HOSTS[2]])
    assert len(connection.connect(prune_failures=True).failed or ()) == 1
    assert connection.hosts == [HOSTS[0], HOSTS[2]]
    assert connection.execute("true").failed is None
    connection.close()


def test_a_time_out_costs_one_command(multi: Multi) -> None:
    """What does not end in time is told to stop; its output so far is kept, the rest goes on."""
    with multi(2) as connected:
        commands = {HOSTS[0]: "echo begun; echo so >&2; exec sleep 60", HOSTS[1]: "echo ok"}
        for limit in (0.5, 4, 20):  # until the machine gets to both commands within it
            slow, quick = connected.execute_map(commands, timeout=limit).values()
            if slow.stderr.startswith("so") and quick.error is None:
                break
        assert (slow.status, slow.stdout) == (-1, "begun\n")
        assert slow.stderr.startswith("so\n")
        assert "timed out" in slow.stderr
        assert isinstance(slow.error, CommandTimeout)
        assert (quick.status, quick.stdout) == (0, "ok\n")
        assert connected.execute("echo still").values()[0].stdout == "still\n"


def test_too_much_output_is_cut_and_said(multi: Multi) -> None:
    """Beyond `max_output` output is thrown away, the command ends as it would, it is flagged."""
    with multi(2) as connected:
        commands = {
            HOSTS[0]: "head -c 3000000 /dev/zero; echo late >&2; exit 5",
            HOSTS[1]: "head -c 1000 /dev/zero",
        }
        cut, whole = connected.execute_map(commands, max_output=1000).values()
    assert (len(cut.stdout_bytes), cut.stderr, cut.status, cut.truncated) == (1000, "", 5, True)
    assert (len(whole.stdout_bytes), whole.status, whole.truncated) == (1000, 0, False)


def test_output_that_is_not_kept_is_handed_out(multi: Multi) -> None:
    """`on_output` gets all output as it comes, also what is beyond `max_output`."""
    sizes = dict.fromkeys(HOSTS[:2], 0)

    def on_output(host: str, stream: str, part: bytes) -> None:
        sizes[host] += len(part)

    with multi(2) as connected:
        command = "head -c 300000 /dev/zero; echo late >&2"
        done = connected.execute(command, max_output=10, on_output=on_output)
    assert [(len(one.stdout_bytes), one.truncated) for one in done.values()] == [(10, True)] * 2
    assert sizes == dict.fromkeys(HOSTS[:2], 300005)


def test_input_for_every_host(multi: Multi) -> None:
    """Each command reads the same input from its stdin."""
    with multi(2) as connected:
        result = connected.execute("cat", input="words")
    assert [one.stdout for one in result.values()] == ["words", "words"]


def test_files_everywhere(multi: Multi, tmp_path: Path) -> None:
    """Data and files are written to all hosts and read from all, each to a path of its own."""
    local = tmp_path / "local"
    local.write_bytes(b"\xff binary")
    with multi() as connected:
        assert [r.stdout for r in connected.sftp_write_data("text", "one").values()] == ["Ok"] * 3
        assert [r.stdout for r in connected.sftp_write(local, "two").values()] == ["Ok"] * 3
        assert [r.stdout for r in connected.sftp_read("one").values()] == ["text"] * 3
        assert connected.sftp_read("two").values()[2].stdout_bytes == b"\xff binary"
        done = connected.sftp_read("two", lambda host: tmp_path / f"from-{host}")
        assert [one.stdout for one in done.values()] == ["Ok"] * 3
        missing = connected.sftp_read("three")
    assert [(tmp_path / f"from-{host}").read_bytes() for host in HOSTS[:3]] == [b"\xff binary"] * 3
    assert {type(one.error) for one in missing.values()} == {SFTPNotFoundError}
    assert {one.phase for one in missing.values()} == {"sftp"}


def test_a_missing_local_file_is_each_hosts_failure(multi: Multi, tmp_path: Path) -> None:
    """What cannot be read here is a value, too."""
    with multi(2) as connected:
        result = connected.sftp_write(tmp_path / "missing", "there")
    assert all("No such file" in one.stderr for one in result.values())


def test_results_as_they_come(multi: Multi) -> None:
    """`on_result` sees each host when it ends, in the calling thread, not in the hosts' order."""
    seen: list[tuple[str, str, int]] = []

    def note(host: str, result: HostResult) -> None:
        seen.append((host, result.stdout, threading.get_ident()))
        if len(seen) == 2:  # only now the first may end
            connected.sftp_write_data("", gate)

    gate = f"gate.{MINE}"
    with multi() as connected:
        wait = f"while ! test -e {gate}; do sleep 0.02; done; rm {gate}; echo slow"
        commands = {HOSTS[0]: wait, HOSTS[1]: "echo 1", HOSTS[2]: "echo 2"}
        result = connected.execute_map(commands, on_result=note)
    assert seen[2][:2] == (HOSTS[0], "slow\n")
    assert {ident for _, _, ident in seen} == {threading.get_ident()}
    assert result.keys() == HOSTS[:3]


def test_an_exception_of_the_callback_stops_the_rest(multi: Multi) -> None:
    """It comes out as it is, commands that still run are told to stop, and all stays usable."""

    def fail(host: str, result: HostResult) -> None:
        raise LookupError(host)

    with multi(2) as connected:
        commands = {
            HOSTS[0]: f"{runs(f'sleep 61.{MINE}')}; echo quick",
            HOSTS[1]: f"exec sleep 61.{MINE}",
        }
        with pytest.raises(LookupError, match=HOSTS[0]):
            connected.execute_map(commands, on_result=fail)
        found = f"while pgrep -f '^sleep 61.{MINE}' >/dev/null; do sleep 0.02; done; echo gone"
        assert connected.execute(found, timeout=20).values()[0].stdout == "gone\n"


def test_streaming_does_not_wait_for_connections(multi: Multi, mute_listener: MuteListener) -> None:
    """A host that does not even connect delays nobody: the others' results come first."""
    mute = {"host": mute_listener.host, "port": mute_listener.port, "timeout": 600}
    connection = multi([mute, *HOSTS[1:4]])
    stream = connection.stream("echo here")
    first = [next(stream) for _ in range(3)]
    assert sorted(host for host, _ in first) == HOSTS[1:4]
    stream.close()  # gives up the one that hangs
    connection.close()


def test_names_that_do_not_resolve_delay_nobody(
    multi: Multi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many resolver threads hang, another host's login has threads of its own."""
    look_up, go = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if host.startswith("lost") and not more.get("flags"):
            assert go.wait(60)
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return look_up(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    lost = [f"lost{number}.invalid" for number in range(45)]
    connection = multi([*lost, *HOSTS[:2]], batch_size=46)
    stream = connection.stream("echo here")
    # The second begins when the first is done, and all others hang.
    for expected in HOSTS[:2]:
        host, result = next(stream)
        assert (host, result.stdout) == (expected, "here\n")
    go.set()
    assert {one.phase for _, one in stream} == {"dns"}
    connection.close()


def test_a_slow_reader_of_a_stream_holds_the_rest_up(multi: Multi) -> None:
    """No more than `batch_size` results lie in wait, so memory is bounded."""
    with multi(8, batch_size=2) as connected:
        connected.execute("rm -f began")
        stream = connected.stream("echo x >> began")
        next(stream)
        count = len(_lines(connected))
        assert count <= 5  # one taken, two waiting, two that were under way
        assert len(list(stream)) == 7
        assert len(_lines(connected)) == 8


def _lines(connected: MultiConnection) -> list[str]:
    return connected.execute("cat began").values()[0].stdout.split()


def test_no_more_than_batch_size_at_once(multi: Multi) -> None:
    """However many hosts there are, so many commands run at once, over all loops."""
    busy = "mkdir -p busy && touch busy/$$ && ls busy | wc -l; sleep 0.05; rm busy/$$"
    with multi(12, batch_size=3, loops=2) as connected:
        together = [int(one.stdout) for one in connected.execute(busy).values()]
    assert max(together) <= 3
    assert max(together) >= 2


def test_from_several_threads(multi: Multi) -> None:
    """Calls from eight threads at once each get their own results."""
    with multi(4) as connected, ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(connected.execute, f"echo {n}") for n in range(8)]
        for n, answer in enumerate(asked):
            assert [one.stdout for one in answer.result().values()] == [f"{n}\n"] * 4


def test_inside_a_running_loop(multi: Multi) -> None:
    """The blocking API works where an event loop runs, and just blocks it."""

    async def main() -> MultiResult:
        with multi() as connected:
            return connected.execute("echo inside")

    assert len(asyncio.run(main()).succeeded or ()) == 3


def test_from_async_connections(many: Sshd) -> None:
    """The constructor takes unconnected AsyncConnection objects, which `close` closes."""
    mine = [
        AsyncConnection(host, "alice", key_path=many.alice.key.path, port=many.port)
        for host in HOSTS[:2]
    ]
    with MultiConnection(mine, 7, 30) as connected:
        assert repr(connected) == "MultiConnection(2 hosts, batch_size=7)"
        assert connected.execute("true").failed is None
    assert not any(one._shared.is_open for one in mine)


def test_from_connections(many: Sshd, target: Sshd, bastion: Sshd) -> None:
    """Connection objects are copied, with the way behind a shared bastion; they stay open."""
    way = Connection(bastion.host, bastion.port, "alice", private_key=bastion.alice.key.path)
    given = [
        Connection(HOSTS[n], many.port, "alice", private_key=many.alice.key.path, proxy_jump=way)
        for n in range(2)
    ]
    with MultiConnection.from_connections(given) as connected:
        result = connected.execute("echo $SSH_CONNECTION")
    assert [one.status for one in result.values()] == [0, 0]
    assert len(bastion.authentications()) == 2  # the given one, and one for the copies
    for connection in given:
        assert connection.execute("true").status == 0
        connection.close()
    way.close()


def test_one_login_on_a_shared_bastion(multi: Multi, bastion: Sshd, many: Sshd) -> None:
    """A bastion given by name carries all hosts with one login."""
    way = f"{bastion.host}:{bastion.port}"
    with multi(10, proxy_jump=way) as connected:
        result = connected.execute("true")
    assert result.failed is None
    many.wait_for_log("Accepted", count=10)
    assert len([a for a in bastion.authentications() if a.accepted]) == 1


def test_a_server_that_takes_few_at_once(sshd_factory: Callable[..., Sshd], bastion: Sshd) -> None:
    """With MaxStartups 3:100:3 all of 30 logins succeed, direct and behind a bastion."""
    target = sshd_factory(options={"MaxStartups": "3:100:3"})
    for way in (None, f"{bastion.host}:{bastion.port}"):
        with MultiConnection.from_shared_auth(
            [target.host] * 30,
            "alice",
            key_path=target.alice.key.path,
            port=target.port,
            timeout=60,
            proxy_jump=way,
        ) as connected:
            assert connected.execute("true").failed is None


def test_so_many_handshakes_at_once(multi: Multi) -> None:
    """`handshakes` bounds the logins in flight on each server, whatever the number of loops."""
    with multi([HOSTS[0]] * 12, handshakes=2, loops=3) as connected:
        assert connected.connect().failed is None
        (server,) = _limiter(connected).get_statistics().values()
    assert (server.peak, server.authenticated) == (2, 12)


def _limiter(connected: MultiConnection) -> HandshakeLimiter:
    limiter = connected._group.members[0].connection._shared.limiter
    assert limiter is not None
    return limiter


def test_a_lost_bastion_and_back(multi: Multi, bastion: Sshd) -> None:
    """When the bastion goes, all its hosts fail with values; `connect` brings them back."""
    with multi(3, proxy_jump=f"{bastion.host}:{bastion.port}") as connected:
        bastion.kill_sessions()
        lost = connected.execute("true")
        assert {type(one.error) for one in lost.values()} == {ConnectionLost}
        assert connected.connect().failed is None
        assert connected.execute("true").failed is None


def test_closing_ends_everything(multi: Multi) -> None:
    """After `close` operations give a reason, and `connect` opens all again."""
    connection = multi()
    connection.connect()
    connection.close()
    connection.close()
    closed = connection.execute("true")
    assert {type(one.error) for one in closed.values()} == {ConnectionClosed}
    with connection:
        assert connection.execute("true").failed is None


def test_closing_while_another_thread_works(multi: Multi) -> None:
    """The other thread's call ends at once, with a value for each host."""
    connection = multi(4, batch_size=2)
    connection.connect()
    begun = threading.Event()
    answers: list[MultiResult] = []

    def work() -> None:
        commands = dict.fromkeys(HOSTS[1:4], "exec sleep 60") | {HOSTS[0]: "echo"}
        answers.append(connection.execute_map(commands, on_result=lambda *_: begun.set()))

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    start = monotonic()
    connection.close()
    thread.join(30)
    assert monotonic() - start < 10
    assert [one.status for one in answers[0].values()] == [0, -1, -1, -1]


def test_no_hosts_at_all(multi: Multi) -> None:
    """An empty list is no error."""
    with multi([]) as connected:
        assert connected.hosts == []
        assert len(connected.execute("true")) == 0


MAKE: Any = MultiConnection  # without its types, to give it what it does not take
EMPTY: Any = MultiConnection([])


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: MAKE([1]), TypeError, "not int"),
        (lambda: MAKE([], batch_size=0), ValueError, "batch_size must be at least 1"),
        (lambda: MAKE([], batch_size="9"), TypeError, "batch_size must be an int"),
        (lambda: MAKE([], timeout=-1), ValueError, "timeout"),
        (lambda: MAKE([], loops=0), ValueError, "loops"),
        (lambda: MAKE([], handshakes=0), ValueError, "handshakes must be at least 1"),
        (lambda: MAKE.from_shared_auth("host"), TypeError, "not one string"),
        (lambda: MAKE.from_shared_auth([3]), TypeError, r"hosts\[0\] must be a name"),
        (lambda: MAKE.from_shared_auth([{}]), TypeError, r'hosts\[0\] has no "host"'),
        (
            lambda: MAKE.from_shared_auth([{"host": "a", "user": "x"}]),
            TypeError,
            "'user' is no option",
        ),
        (lambda: EMPTY.execute(1), TypeError, "command must be a string"),
        (lambda: EMPTY.execute_map("true"), TypeError, "mapping by host"),
        (lambda: EMPTY.execute("true", max_output=-1), ValueError, "max_output"),
        (lambda: EMPTY.execute("true", timeout="1"), TypeError, "timeout"),
        (lambda: EMPTY.sftp_read("a\0"), ValueError, "null"),
        (lambda: EMPTY.sftp_write(3), TypeError, "PathLike"),
        (lambda: EMPTY.stream(3), TypeError, "command must be a string"),
    ],
)
def test_arguments_are_checked_at_once(
    make: Callable[[], object], error: type[Exception], words: str
) -> None:
    """What is no argument raises before anything is opened; it is no host's failure."""
    with pytest.raises(error, match=words):
        make()


def test_options_of_commands(multi: Multi) -> None:
    """Terminals, variables, output by host while commands run, and `check` work on all hosts."""
    came: dict[str, list[tuple[str, bytes]]] = {}
    with multi() as hosts:
        result = hosts.execute("tty >&2; exit 0", pty=True, env={"NOT_ACCEPTED": "x"})
        assert all(one.stdout.startswith("/dev/pts/") for one in result.values())
        result = hosts.execute(
            "echo out; echo err >&2",
            on_output=lambda host, stream, part: came.setdefault(host, []).append((stream, part)),
        )
        assert sorted(came) == sorted(hosts.hosts)
        for host, parts in came.items():
            assert sorted(parts) == [("stderr", b"err\n"), ("stdout", b"out\n")]
            assert result[host].output_bytes == b"".join(part for _, part in parts)
        hosts.execute("true", check=True)
        with pytest.raises(PartialFailureException) as caught:
            hosts.execute_map({hosts.hosts[0]: "exit 3", hosts.hosts[1]: "echo y"}, check=True)
        assert caught.value.failed[hosts.hosts[0]].status == 3
        assert caught.value.succeeded is not None
        assert caught.value.succeeded[hosts.hosts[1]].stdout == "y\n"

        def refuse(host: str, stream: str, part: bytes) -> None:
            raise ZeroDivisionError(host)

        refused = hosts.execute("echo x", on_output=refuse)
        assert refused.succeeded is None
        assert "ZeroDivisionError" in refused.values()[0].stderr
        with pytest.raises(TypeError, match="pty must be"):
            hosts.execute("true", pty="xterm")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="NUL"):
            hosts.execute("true", env={"A": "\0"})
