"""Real proxy commands: what may carry a connection, and how they combine with bastions."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from hussh import Connection
from tests.proxy.commands import NC, PIPELINE, RELAY, connect, needs, started
from tests.support.processes import read_process
from tests.support.sshd import Sshd

MEGABYTE = 1 << 20
COUNT = "head -c 1048576 /dev/zero | tr '\\0' x"


def _works(connection: Connection, server: Sshd) -> None:
    assert connection.execute("echo $SERVER_NAME").stdout == f"{server.name}\n"
    assert connection.execute(COUNT).stdout == "x" * MEGABYTE
    assert connection.execute("wc -c", input=b"y" * MEGABYTE).stdout.strip() == str(MEGABYTE)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(RELAY, id="python"),
        pytest.param("nc %h %p", id="nc-string", marks=needs("nc")),
        pytest.param(["nc", "%h", "%p"], id="nc-list", marks=needs("nc")),
        pytest.param("socat - TCP:%h:%p", id="socat", marks=needs("socat")),
        pytest.param(PIPELINE, id="grandchildren"),
        pytest.param("sh -c 'cat | nc %h %p | cat'", id="quoted-pipeline", marks=needs("nc")),
    ],
)
def test_proxy_command_carries_a_connection(target: Sshd, command: str | list[str]) -> None:
    """A megabyte goes each way, and nothing of the command is left after close."""
    with connect(target, command) as connection:
        _works(connection, target)
        assert started()
    assert not started()


@pytest.mark.parametrize("form", ["string", "list"])
def test_openssh_as_proxy(bastion: Sshd, target: Sshd, form: str) -> None:
    """`ssh -W` through a bastion, the classic, works in both forms."""
    ssh = ["ssh", "-F", "none", "-i", str(bastion.alice.key.path)]
    ssh += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    ssh += ["-o", "BatchMode=yes", "-l", bastion.alice.name, "-p", str(bastion.port)]
    ssh += ["-W", "%h:%p", bastion.host]
    with connect(target, ssh if form == "list" else " ".join(ssh)) as connection:
        _works(connection, target)
    assert not started()
    assert [f.target for f in bastion.forwards()] == [(target.host, target.port)]


def test_command_is_replaced_by_exec(target: Sshd) -> None:
    """The command of a string is our child itself, the leader of a session of its own."""
    with connect(target, " ".join(RELAY)):
        (pid,) = started()
        process = read_process(pid)
        assert process is not None
        assert process.parent == os.getpid()
        assert process.argv[-2:] == (target.host, str(target.port))
        assert os.getsid(pid) == os.getpgid(pid) == pid


def test_slow_starter(target: Sshd, tmp_path: Path) -> None:
    """A command that takes its time is waited for, and no longer than it takes."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = ["/bin/sh", "-c", f'read x <{gate}; exec "$@"', "sh", *RELAY]
    done: list[Connection | BaseException] = []

    def work() -> None:
        try:
            done.append(connect(target, command))
        except BaseException as error:
            done.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    with gate.open("w") as file:  # opens once the command does
        assert not done
        file.write("go\n")
    thread.join()
    assert isinstance(done[0], Connection), done
    with done[0] as connection:
        assert connection.execute("true").status == 0


def test_tokens(target: Sshd) -> None:
    """Each token reaches the command as one argument; %% is a percent sign."""
    script = 'echo "$2|$3|$4|$5" >&2; exec "$0" -I -S "$1" "$2" "$3"'
    python, relay = RELAY[0], RELAY[3]
    command = ["/bin/sh", "-c", script, python, relay, "%h", "%p", "%r@%n", "100%%"]
    with connect(target, command) as connection:
        connection.execute("true")
        printed = connection._session.driver.program_text()  # type: ignore[union-attr]
    host = target.host
    assert printed == f"{host}|{target.port}|{target.alice.name}@{host}|100%"


def test_bastion_behind_a_proxy_command(bastion: Sshd, target: Sshd) -> None:
    """The bastion is reached by a command, the target through the bastion's session."""
    with (
        connect(bastion, NC) as jump,
        connect(target, proxy_jump=jump) as connection,
        connect(target, proxy_jump=jump) as another,
    ):
        _works(connection, target)
        _works(another, target)
        assert len(started()) == 1
    assert not started()


def test_string_jumps_behind_a_proxy_command(
    bastion: Sshd, target: Sshd, sshd_factory: object
) -> None:
    """A list goes on from a bastion behind a command by host names, in the order of travel."""
    middle = sshd_factory(name="middle")  # type: ignore[operator]
    with connect(bastion, NC) as jump:
        way = [jump, f"{middle.host}:{middle.port}"]
        with connect(target, proxy_jump=way) as connection:
            _works(connection, target)
    assert not started()
    assert [f.target for f in bastion.forwards()] == [(middle.host, middle.port)]
    assert [f.target for f in middle.forwards()] == [(target.host, target.port)]


def test_proxy_command_through_bastions(bastion: Sshd, target: Sshd, sshd_factory: object) -> None:
    """A command that is itself a way through a bastion carries a bastion, and that the target."""
    middle = sshd_factory(name="middle")  # type: ignore[operator]
    command = ["ssh", "-F", "none", "-i", str(bastion.alice.key.path), "-l", bastion.alice.name]
    command += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    command += ["-p", str(bastion.port), "-W", "%h:%p", bastion.host]
    with (
        connect(middle, command) as second,
        connect(target, proxy_jump=second) as connection,
    ):
        _works(connection, target)
    assert not started()
    assert [f.target for f in middle.forwards()] == [(target.host, target.port)]


def test_many_targets_and_threads_over_one_pipe_pair(bastion: Sshd, target: Sshd) -> None:
    """Eight targets at once, from a thread each, share the two pipes of one command."""
    outcomes: list[object] = []
    with connect(bastion, NC) as jump:

        def work(number: int) -> None:
            try:
                with connect(target, proxy_jump=jump) as connection:
                    text = f"{number} " * 50_000
                    outcomes.append(connection.execute("cat", input=text).stdout == text)
            except BaseException as error:
                outcomes.append(error)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert outcomes == [True] * 8


def test_jump_and_command_exclude_each_other(bastion: Sshd, target: Sshd) -> None:
    """Both at once are a TypeError before anything starts; "none" is no way."""
    for jump in (f"{bastion.host}:{bastion.port}", (bastion.host, bastion.port)):
        with pytest.raises(TypeError, match="mutually exclusive"):
            connect(target, NC, proxy_jump=jump)
    with connect(bastion) as first, pytest.raises(TypeError, match="mutually exclusive"):
        connect(target, NC, proxy_jump=first)
    assert not started()
    with connect(target, NC, proxy_jump="none") as connection:
        assert started()
        assert connection.execute("true").status == 0
    with connect(target, "none") as connection:
        assert not started()
        assert connection.execute("true").status == 0


def test_refusals_start_nothing(target: Sshd, tmp_path: Path) -> None:
    """Unknown tokens, wrong types and names that a shell would act on are refused first."""
    trace = tmp_path / "trace"
    for command in ("touch %x", f"touch {trace} %", "", " ", [], [""], "touch a\0b"):
        with pytest.raises(ValueError, match="proxy_command"):
            connect(target, command)
    for wrong in (b"nc %h %p", 7, ["nc", 22], {"nc"}):
        with pytest.raises(TypeError, match="proxy_command"):
            connect(target, wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="username contains one of"):
        connect(target, f"touch {trace} %r", username=f"$(touch {trace})")
    assert not trace.exists()
    assert not started()
