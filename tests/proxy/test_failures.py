"""What the caller gets to know when a proxy command fails, dies, stalls or talks."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hussh
from hussh import CommandTimeout, ConnectionLost, ConnectTimeout, ProxyCommandError, SSHResult
from tests.proxy.commands import NC, PIPELINE, RELAY, connect, started
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd
from tests.support.watch import wait_for_text


def _shell(script: str, *arguments: str) -> list[str]:
    return ["/bin/sh", "-c", script, "sh", *arguments]


def _behind(script: str) -> list[str]:
    """Run a relay as "$@" within a shell script."""
    return _shell(script, *RELAY)


class _Execution:
    """A command that runs in a thread of its own, and how that ended."""

    def __init__(self, connection: hussh.Connection, server: Sshd, command: str) -> None:
        self.error: BaseException | None = None
        self.result: SSHResult | None = None
        self.ended_at = self.cpu = 0.0
        self._call: Callable[[], SSHResult] = lambda: connection.execute(command, 30_000)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()
        server.wait_for_log("Starting session: command")

    def _work(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error
        self.ended_at = time.monotonic()
        self.cpu = time.thread_time()

    def wait(self) -> Any:
        self._thread.join()
        return self.error


# -- before the banner


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("hussh-no-such-program %h", 127, "hussh-no-such-program"),
        ("sh -c 'echo boom >&2; exit 7'", 7, "boom"),
        (["/bin/sh", "-c", "echo boom >&2; exit 7"], 7, "boom"),
        ("sh -c 'exit 0'", 0, "nothing on its stderr"),
        ("sh -c 'echo late; echo boom >&2; exit 3'", 3, "it said: late"),
        ("sh -c 'kill -9 $$'", -9, "killed by SIGKILL"),
    ],
)
def test_failing_command(
    target: Sshd,
    command: str | list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Exit status, words on stderr, hop and phase are in the error, which is a RuntimeError."""
    # Where a folder in $PATH may not be read, sh says 126 of what is in none of them.
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(RuntimeError, match="Failed to start proxy command") as caught:
        connect(target, command)
    error = caught.value
    assert isinstance(error, ProxyCommandError)
    assert error.exit_code == code
    assert words in str(error)
    assert ("boom" in error.stderr_tail) == ("boom" in str(command))
    if code >= 0:
        assert f"(exited with exit status: {code}): " in str(error)
    assert (error.hop, error.hop_index) == (f"alice@{target.host}:{target.port}", 0)
    assert error.phase == "proxy"
    assert not started()


def test_command_that_cannot_be_run(target: Sshd, tmp_path: Path) -> None:
    """A list whose program is missing or not executable fails by name, with hop and phase."""
    plain = tmp_path / "plain"
    plain.touch()
    for program in ("/nonexistent/proxy", str(plain)):
        with pytest.raises(ProxyCommandError, match="Failed to start proxy command") as caught:
            connect(target, [program, "%h"])
        assert program in str(caught.value)
        assert caught.value.exit_code is None
        assert (caught.value.hop_index, caught.value.phase) == (0, "proxy")


def test_failure_is_reported_although_an_heir_holds_the_pipes(target: Sshd) -> None:
    """A command that fails is reported at once, not when what it left behind ends, too."""
    command = _shell("sleep 100 & echo boom >&2; exit 9")
    begin = time.monotonic()
    with pytest.raises(ProxyCommandError, match=r"status: 9.*boom"):
        connect(target, command)
    assert time.monotonic() - begin < 20
    assert not started()


def test_heir_of_a_command_that_succeeded(target: Sshd) -> None:
    """A command may end with status 0 and leave the stream to what it started."""
    with connect(target, _behind('exec 3<&0; "$@" <&3 & exit 0')) as connection:
        cpu = time.thread_time()
        assert connection.execute("sleep 0.3; echo hi").stdout == "hi\n"
        assert time.thread_time() - cpu < 0.2
    assert not started()


def test_stderr_tail_is_bounded_and_clean(target: Sshd) -> None:
    """At most the last 4 KiB are kept, without terminal escapes."""
    script = r"head -c 200000 /dev/zero | tr '\0' a >&2; printf '\033[31mthe\007 end' >&2; exit 2"
    with pytest.raises(ProxyCommandError) as caught:
        connect(target, _shell(script))
    tail = caught.value.stderr_tail
    assert len(tail) <= 4096
    assert tail.startswith("aaaa")
    assert tail.endswith(" [31mthe  end")


def test_bastion_command_fails(bastion: Sshd) -> None:
    """A failing command of a bastion names the bastion, before any target is spoken of."""
    with pytest.raises(ProxyCommandError) as caught:
        connect(bastion, "sh -c 'echo no way >&2; exit 5'")
    assert caught.value.hop == f"alice@{bastion.host}:{bastion.port}"


# -- time-outs


def test_timeout_of_a_silent_command(target: Sshd) -> None:
    """A command that never speaks costs the time-out, and the error has its stderr's end."""
    with pytest.raises(ConnectTimeout) as caught:
        connect(target, _shell("echo looking for the way >&2; exec sleep 100"), timeout=400)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert "looking for the way" in str(error)
    assert (error.hop, error.hop_index) == (f"alice@{target.host}:{target.port}", 0)
    assert error.phase in ("proxy", "banner")
    assert not started()


def test_timeout_behind_the_command(mute_listener: MuteListener) -> None:
    """The same where the command connects to a peer that says nothing."""
    with pytest.raises(ConnectTimeout, match="after 300 ms while waiting for the SSH banner"):
        hussh.Connection(
            mute_listener.host, mute_listener.port, "u", "p", proxy_command=RELAY, timeout=300
        )
    assert not started()


# -- later


@pytest.mark.parametrize("command", [NC, RELAY, PIPELINE], ids=["nc", "relay", "pipeline"])
def test_command_killed_during_execute(target: Sshd, command: str | list[str]) -> None:
    """It is a typed error at once, with what the server had sent; no thread spins."""
    connection = connect(target, command)
    running = _Execution(connection, target, "echo begun; sleep 100")
    (leader,) = (pid for pid in started() if os.getsid(pid) == pid)
    begin = time.monotonic()
    os.kill(leader, signal.SIGKILL)
    error = running.wait()
    assert running.ended_at - begin < 20  # 1 s, with slack for a busy machine
    assert running.cpu < 0.5
    assert isinstance(error, ProxyCommandError)
    assert error.exit_code == -9
    assert "the proxy command ended (killed by SIGKILL)" in str(error)
    assert (error.hop_index, error.phase) == (0, "exec")
    with pytest.raises(ConnectionLost):
        connection.execute("true")
    connection.close()
    assert not started()


def test_target_behind_a_bastion_whose_command_dies(bastion: Sshd, target: Sshd) -> None:
    """The target's connection is lost, and the cause names the bastion and its command."""
    with connect(bastion, NC) as jump, connect(target, proxy_jump=jump) as connection:
        running = _Execution(connection, target, "sleep 100")
        (leader,) = started()
        os.kill(leader, signal.SIGKILL)
        error = running.wait()
    assert isinstance(error, ConnectionLost)
    assert error.hop == f"alice@{target.host}:{target.port}"
    cause = error.__cause__
    assert isinstance(cause, ProxyCommandError)
    assert cause.hop == f"alice@{bastion.host}:{bastion.port}"
    assert cause.exit_code == -9


def test_server_that_ends_the_connection_is_not_blamed_on_the_command(
    sshd_factory: Callable[..., Sshd],
) -> None:
    """Where the server says why it disconnects, the caller reads that."""
    server = sshd_factory(options={"MaxAuthTries": 1})
    with pytest.raises(hussh.HusshError, match=r"authentication failures|refuse") as caught:
        connect(server, NC, private_key=None, password="wrong", username="bob")
    assert not isinstance(caught.value, ProxyCommandError)


@pytest.mark.parametrize("others", [0, 1], ids=["alone", "beside-a-reader"])
def test_command_that_stops_reading(target: Sshd, tmp_path: Path, others: int) -> None:
    """With its stdin closed and its stdout open, a write ends the connection; nobody hangs."""
    ack = tmp_path / "ack"
    ack.touch()
    connection = connect(target, [*RELAY, "--deaf", "--ack", str(ack)])
    running = [_Execution(connection, target, "sleep 100") for _ in range(others)]
    (pid,) = started()
    os.kill(pid, signal.SIGUSR1)
    wait_for_text(ack, lambda text: "done" in text, timeout=20)
    with pytest.raises(ProxyCommandError) as caught:
        connection.execute("true", 20_000)
    assert caught.value.exit_code in (None, 0)
    for execution in running:
        assert isinstance(execution.wait(), ProxyCommandError)
    connection.close()
    assert not started()


def test_command_that_closes_its_output(target: Sshd, tmp_path: Path) -> None:
    """A command that closes stdout but runs on is reported as that, within a second or so."""
    ack = tmp_path / "ack"
    ack.touch()
    connection = connect(target, [*RELAY, "--mute", "--ack", str(ack)])
    (pid,) = started()
    running = _Execution(connection, target, "sleep 100")
    os.kill(pid, signal.SIGUSR1)
    error = running.wait()
    assert isinstance(error, ProxyCommandError)
    assert "closed its output" in str(error)
    assert error.exit_code is None
    connection.close()
    assert not started()


# -- stderr


def test_ten_megabytes_of_stderr_during_a_transfer(target: Sshd, tmp_path: Path) -> None:
    """They neither block the transfer nor get into it."""
    ack = tmp_path / "ack"
    ack.touch()
    command = [*RELAY, "--noise", str(10 << 20), "--ack", str(ack)]
    with connect(target, command) as connection:
        data = os.urandom(1 << 20) * 16
        result = connection.execute("sha256sum", input=data)
        back = connection.execute("head -c 16777216 /dev/zero | tr '\\0' x").stdout
        wait_for_text(ack, lambda text: "noise is out" in text, timeout=20)
    assert result.stdout.split()[0] == hashlib.sha256(data).hexdigest()
    assert back == "x" * (16 << 20)


def test_much_stderr_while_idle(target: Sshd, tmp_path: Path) -> None:
    """What a command writes to its stderr while nobody uses the connection does not block it."""
    ack = tmp_path / "ack"
    ack.touch()
    with connect(target, [*RELAY, "--burst", "1000000", "--ack", str(ack)]) as connection:
        (pid,) = started()
        os.kill(pid, signal.SIGUSR1)
        wait_for_text(ack, lambda text: "done" in text, timeout=20)
        assert connection.execute("cat", input="x" * 500_000).stdout == "x" * 500_000


def test_endless_stderr(target: Sshd) -> None:
    """A command that never stops talking does not keep operations from their turn."""
    with connect(target, _behind('yes noise >&2 & exec "$@"')) as connection:
        assert connection.execute("echo hi").stdout == "hi\n"
        with pytest.raises(CommandTimeout):
            connection.execute("sleep 100", 300)
    assert not started()


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/null"])
def test_command_without_stderr(target: Sshd, redirect: str) -> None:
    """A closed stderr is not polled for ever: waiting costs no processor time."""
    with connect(target, _behind(f'exec "$@" {redirect}')) as connection:
        cpu = time.thread_time()
        assert connection.execute("sleep 0.3; echo hi").stdout == "hi\n"
        assert time.thread_time() - cpu < 0.2


def test_stderr_is_logged_line_by_line(target: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG the logger hussh.proxy gets each line, without control characters."""
    script = r"printf 'one\ntwo\033[2J\r\n' >&2; head -c 3000 /dev/zero | tr '\0' a >&2; exit 1"
    with caplog.at_level(logging.DEBUG, "hussh"), pytest.raises(ProxyCommandError):
        connect(target, _shell(script))
    records = [record for record in caplog.records if record.name == "hussh.proxy"]
    lines = [record.getMessage().partition("] ")[2] for record in records]
    assert lines[:2] == ["one", "two [2J"]
    assert "".join(lines[2:]) == "a" * 3000
    assert all(record.levelno == logging.DEBUG for record in records)
