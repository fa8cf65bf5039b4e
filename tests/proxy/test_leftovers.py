"""Nothing of a proxy command outlives its connection: no process, zombie or descriptor."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import (
    AuthenticationError,
    Connection,
    ConnectionClosed,
    ConnectTimeout,
    HusshError,
    ProxyCommandError,
)
from tests.proxy.commands import (
    NC,
    PIPELINE,
    RELAY,
    connect,
    descriptors,
    left_over,
    needs,
    run_script,
    started,
)
from tests.support.keys import Keys
from tests.support.processes import read_process, wait_gone
from tests.support.sshd import Sshd

CONNECTS = 500 if os.environ.get("HUSSH_LONG") == "1" else 36  # each way with each command: 12

#: Connects with every command in turn, and ends without closing anything. Prints "pids".
ABANDON = """
import sys, warnings
warnings.simplefilter("error")
from hussh import Connection
host, port, user, key = sys.argv[1:5]
def connect(command):
    return Connection(host, int(port), user, private_key=key, proxy_command=command)
relay = [sys.executable, "-I", "-S", sys.argv[5], "%h", "%p"]
pipeline = ["/bin/sh", "-c", 'cat | "$@" | cat', "sh", *relay]
"""


def _script(server: Sshd, text: str, **options: Any) -> str:
    done = run_script(
        ABANDON + text,
        server.host,
        server.port,
        server.alice.name,
        server.alice.key.path,
        RELAY[3],
        **options,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _behind(script: str, shell: str = "/bin/sh") -> list[str]:
    return [shell, "-c", script, "sh", *RELAY]


#: Ends by nothing but SIGKILL, and neither does its child.
STUBBORN = ["/bin/sh", "-c", 'trap "" TERM; "$@"; exit', "sh", *RELAY, "--stubborn"]


def test_many_connects_leave_nothing(target: Sshd, bastion: Sshd, keys: Keys) -> None:
    """However connecting ends, no process and no descriptor is left, and none piles up."""
    stranger = str(keys.get("ed25519", name="stranger").path)

    def success(command: Any) -> None:
        with connect(target, command) as connection:
            assert connection.execute("true").status == 0

    def refused(command: Any) -> None:
        with pytest.raises(AuthenticationError):
            connect(target, command, private_key=stranger)

    def late(command: Any) -> None:
        with pytest.raises(ConnectTimeout):
            connect(target, ["/bin/sh", "-c", "sleep 100 | cat"], timeout=20)

    def failure(command: Any) -> None:
        with pytest.raises(ProxyCommandError):
            connect(target, "sh -c 'echo boom >&2; exit 1'")

    def collected(command: Any) -> None:
        connection = connect(target, command)
        cycle: list[object] = [connection]
        cycle.append(cycle)
        del connection, cycle
        gc.collect()

    def jump(command: Any) -> None:
        with connect(bastion, command) as first, connect(target, proxy_jump=first) as connection:
            assert connection.execute("true").status == 0

    success(NC)
    before = descriptors()
    ways = itertools.product((success, refused, late, failure, collected, jump), (NC, PIPELINE))
    for way, command in itertools.islice(itertools.cycle(ways), CONNECTS):
        way(command)
        assert not left_over(), way.__name__
    assert descriptors() == before


def test_close_although_sigterm_is_ignored(target: Sshd) -> None:
    """It takes about a second, and then nothing is left, grandchildren included."""
    for command in (STUBBORN, [*RELAY, "--stubborn"]):
        connection = connect(target, command)
        begin = time.monotonic()
        connection.close()
        assert time.monotonic() - begin < 20
        assert not started()


@pytest.mark.parametrize("command", [NC, RELAY, PIPELINE], ids=["nc", "python", "pipeline"])
def test_close_is_quick(
    target: Sshd, command: str | list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs that heed SIGTERM do not make anybody wait for the end of the grace."""
    monkeypatch.setattr("hussh._connect.child.GRACE", 40.0)
    connection = connect(target, command)
    begin = time.monotonic()
    connection.close()
    assert time.monotonic() - begin < 20


def test_close_twice_and_collect(target: Sshd) -> None:
    """Closing again, also by collection, does nothing, and nobody else's process is touched."""
    connection = connect(target, NC)
    connection.close()
    with connect(target, NC) as other:
        connection.close()
        del connection
        gc.collect()
        assert other.execute("true").status == 0


@pytest.mark.parametrize("deaf", [False, True], ids=["normal", "ignores-sigterm"])
def test_close_while_another_thread_waits(target: Sshd, deaf: bool) -> None:
    """The thread that polls the pipes wakes up with ConnectionClosed, and nothing is left."""
    connection = connect(target, STUBBORN if deaf else NC)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            connection.execute("sleep 100")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    target.wait_for_log("Starting session: command", count=3)
    begin = time.monotonic()
    connection.close()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begin < 20
    assert [type(error) for error in errors] == [ConnectionClosed] * 3
    assert not started()


@needs("bash")
def test_process_groups_of_its_own(target: Sshd) -> None:
    """A shell with job control gives each job a group; those end with the session, too."""
    script = 'set -m; sleep 100 & sleep 100 & "$@"; exit'
    with connect(target, _behind(script, "bash")) as connection:
        groups = {os.getpgid(pid) for pid in started()}
        assert len(groups) >= 3
        assert connection.execute("true").status == 0
    assert not started()


def test_heirs_of_a_leader_that_ended(target: Sshd) -> None:
    """What a leader left behind ends with the connection, although nobody is its parent."""
    script = 'trap "" TERM; exec 3<&0; "$@" --stubborn <&3 & sleep 100 & exit 0'
    connection = connect(target, _behind(script))
    assert connection.execute("true").status == 0
    connection.close()
    assert not started()


def test_orphans_are_reaped_by_process_one(target: Sshd) -> None:
    """Where orphans become children of ours (process 1 of a container), no zombie is left."""
    out = _script(
        target,
        """
import ctypes, os
from pathlib import Path
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
heirs = ["/bin/sh", "-c", 'exec 3<&0; sleep 100 & "$@" <&3 & exit 0', "sh", *relay]
for command in (pipeline, heirs):
    connection = connect(command)
    connection.execute("true")
    connection.close()
    print(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())
""",
    )
    assert out == "[]\n[]\n"


@pytest.mark.parametrize("disposition", ["SIG_IGN", "reap_all"])
def test_children_reaped_by_somebody_else(target: Sshd, disposition: str) -> None:
    """A program that reaps every child itself gets no hang, no crash and no wrong signal."""
    out = _script(
        target,
        f"""
import os, signal
def reap_all(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, {disposition if disposition != "SIG_IGN" else "signal.SIG_IGN"})
connection = connect(relay)
print(connection.execute("echo hi").stdout.strip())
connection.close()
try:
    connect("sh -c 'echo boom >&2; exit 3'")
except RuntimeError as error:
    print("boom" in str(error))
connection = connect(relay)
os.killpg(connection._session.driver._stream._child.pid, 9)
try:
    connection.execute("true")
except ConnectionError as error:
    print(type(error).__name__)
connection.close()
""",
    )
    assert out == "hi\nTrue\nProxyCommandError\n"


def test_fork(target: Sshd) -> None:
    """A forked child neither signals nor reaps the parent's command, however it ends."""
    out = _script(
        target,
        """
import gc, os, sys
connection = connect(relay)
pid = connection._session.driver._stream._child.pid
for ending in ("_exit", "exit", "close", "collect"):
    child = os.fork()
    if child == 0:
        try:
            connection.execute("true")
        except ConnectionError as error:
            assert type(error).__name__ == "ForkedConnectionError", error
        if ending == "close":
            connection.close()
        if ending == "collect":
            del connection
            gc.collect()
        os._exit(0) if ending == "_exit" else sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    print(ending, connection.execute("echo hi").stdout.strip(), end=";", flush=True)
connection.close()
try:
    os.kill(pid, 0)
except ProcessLookupError:
    print("gone")
""",
    )
    assert out == "_exit hi;exit hi;close hi;collect hi;gone\n"


def test_forked_child_does_not_keep_the_pipes(target: Sshd) -> None:
    """The command sees the end of its input when the parent closes, though a child lives on."""
    out = _script(
        target,
        """
import os
connection = connect(relay)
read, write = os.pipe()
child = os.fork()
if child == 0:
    os.close(write)
    os.read(read, 1)
    names = [os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if n.isdigit()
             and os.path.exists(f"/proc/self/fd/{n}") and int(n) > 2]
    os._exit(len([name for name in names if "pidfd" in name]))
os.close(read)
connection.close()
os.close(write)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
    )
    assert out == "0\n"


@pytest.mark.parametrize("ending", ["", "sys.exit(0)"])
def test_interpreter_exit(target: Sshd, ending: str) -> None:
    """A program that ends with open connections takes their commands along, in one second."""
    out = _script(
        target,
        f"""
import threading
def work(connection):
    try:
        connection.execute("sleep 100")
    except ConnectionError:
        pass
stubborn = ["/bin/sh", "-c", 'trap "" TERM; "$@"; exit', "sh", *relay, "--stubborn"]
keep = [connect(command) for command in (relay, pipeline, stubborn, stubborn, stubborn)]
for connection in keep[:3]:
    threading.Thread(target=work, args=(connection,), daemon=True).start()
for connection in keep:
    print(connection._session.driver._stream._child.pid)
{ending}
""",
    )
    assert len(out.split()) == 5
    assert all(read_process(int(pid)) is None for pid in out.split())
    assert not wait_gone(started(), 2.0)  # grandchildren, whom the system reaps


def test_descriptors_above_1023(target: Sshd, bastion: Sshd) -> None:
    """Nothing in the way uses select(), which ends at 1023."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this machine allows fewer than 2048 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
    held = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while held[-1] < 1100:
            held.append(os.dup(held[0]))
        with connect(bastion, PIPELINE) as jump, connect(target, proxy_jump=jump) as connection:
            assert min(jump._session.driver._stream.fds()) > 1023  # type: ignore[union-attr]
            assert connection.execute("cat", input="x" * 300_000).stdout == "x" * 300_000
        with pytest.raises(ProxyCommandError, match="boom"):
            connect(target, "sh -c 'echo boom >&2; exit 1'")
        assert not started()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_running_out_of_descriptors(target: Sshd) -> None:
    """At whatever step they run out: an error, no process, and no descriptor lost."""
    with connect(target, NC):
        pass  # whatever is opened once and kept
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outcomes: list[str] = []
    connection: Connection | None = None
    held = [os.open("/dev/null", os.O_RDONLY)]
    try:
        while held[-1] < max(descriptors()) - 1:
            held.append(os.dup(held[0]))  # no holes below
        before = descriptors()
        for spare in range(24):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(before) + 1 + spare, hard))
            try:
                connection = connect(target, RELAY, host_key_policy="ignore")
            except (HusshError, OSError) as error:
                outcomes.append(type(error).__name__)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            if connection is not None:
                break
            assert not started(), outcomes
            assert descriptors() == before, outcomes
        assert connection is not None, outcomes
        assert outcomes.count("ProxyCommandError") > 4, outcomes
        connection.close()
    finally:
        for descriptor in held:
            os.close(descriptor)


@pytest.fixture
def inheritable(tmp_path: Path) -> Iterator[int]:
    """Hold a file open that children would inherit."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    yield descriptor
    os.close(descriptor)


def test_our_descriptors_do_not_reach_the_command(target: Sshd, inheritable: int) -> None:
    """The command gets its three pipes and nothing else, whatever we have open."""
    with connect(target, NC), pytest.raises(ProxyCommandError) as caught:
        connect(target, ["/bin/sh", "-c", "ls /proc/$$/fd >&2; exit 1"])
    assert set(caught.value.stderr_tail.split()) - {"10", "255"} == {"0", "1", "2"}


def test_program_without_standard_streams(target: Sshd) -> None:
    """In a daemon with descriptors 0 to 2 closed the pipes may get these numbers."""
    out = _script(
        target,
        """
import os
out = os.dup(1)
for number in (0, 1, 2):
    os.close(number)
with connect(relay) as connection:
    text = connection.execute("cat", input="x" * 300000).stdout
os.write(out, str(len(text)).encode())
""",
    )
    assert out == "300000"


def test_collection_within_an_operation_of_another_thread(target: Sshd) -> None:
    """A connection collected while another tree is busy ends its own command only."""
    with connect(target, NC) as busy:
        thread = threading.Thread(target=busy.execute, args=("sleep 0.5",))
        thread.start()
        target.wait_for_log("Starting session: command")
        kept = started()
        connection = connect(target, NC)
        assert started() > kept
        del connection
        gc.collect()
        assert started() == kept
        thread.join()
