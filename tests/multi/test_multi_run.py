"""``python -m hussh run``: one command on many hosts of a real server, as a user types it."""

from __future__ import annotations

import io
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from hussh._command_line.main import main
from hussh._protocol import host_key_check
from tests.multi.conftest import HOSTS
from tests.support.listeners import MuteListener
from tests.support.processes import wait_gone
from tests.support.sshd import Sshd
from tests.support.terminal import Terminal

TOP = Path(__file__).resolve().parents[2]
#: Ends at once on all hosts but the second, where it waits for its end.
WAITS = 'case $SSH_CONNECTION in *" 127.0.0.2 "*) echo begun; exec sleep 1000;; esac; echo done'

Run = Callable[..., int]


def options(server: Sshd) -> list[str]:
    """Return the options by which alice gets in."""
    account = server.alice
    return ["-l", account.name, "-i", str(account.key.path), "-p", str(server.port), "--no-agent",
            "--host-key-policy", "ignore"]  # fmt: skip


def place_of(server: Sshd) -> str:
    """Return where alice is on a server, as ``-J`` takes it."""
    return f"alice@{server.host}:{server.port}"


@pytest.fixture
def run(many: Sshd) -> Run:
    """Run the subcommand in this process, as alice; return the exit status."""
    return lambda *arguments: main(["run", *options(many), *arguments])


@contextmanager
def program(many: Sshd, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the subcommand as a process of its own, and let it end."""
    command = [sys.executable, "-m", "hussh", "run", *options(many), *arguments]
    with subprocess.Popen(
        command, cwd=TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[bytes], word: bytes) -> bytes:
    """Return what a program has printed once a word is in it."""
    assert process.stdout is not None
    text = b""
    while word not in text:
        assert select.select([process.stdout], [], [], 60)[0], text
        part = os.read(process.stdout.fileno(), 65536)
        assert part, text
        text += part
    return text


def test_each_line_has_its_host(run: Run, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Lines of both streams come with the host before them, and all bytes as they were."""
    assert run(*HOSTS[:2], "--", "printf", r"'a b\n\n\377'; echo e >&2; echo -n x;", "true") == 0
    out, err = capfdbinary.readouterr()
    for host in (b"127.0.0.1", b"127.0.0.2"):
        mine = [line for line in out.splitlines(True) if line.startswith(host)]
        assert mine == [b"%b: %b\n" % (host, line) for line in (b"a b", b"", b"\xffx")]
        assert b"%b: e\n" % host in err
    assert len(out.splitlines()) == 6
    assert len(err.splitlines()) == 2


def test_a_command_that_fails_among_others(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Another status or a signal on some hosts is told for each, and makes the exit status 1."""
    command = 'case $SSH_CONNECTION in *.2\\ *) exit 3;; *.3\\ *) kill -TERM $$;; esac; echo "<&>"'
    assert run(*HOSTS[:3], "--", command) == 1
    out, err = capfd.readouterr()
    assert out == "127.0.0.1: <&>\n"
    *lines, last = err.splitlines()
    assert sorted(lines) == ["127.0.0.2: exit status 3", "127.0.0.3: killed by SIGTERM"]
    assert last.startswith("hussh run: 3 of 3 hosts done, 1 succeeded, 2 failed; failed: 127.0.0.")


def test_a_host_that_fails_among_others(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """A host without a server is told with hop and phase, and gives 255, whatever others give."""
    assert run(HOSTS[0], "127.0.0.3:1", "--", "echo y; exit 1") == 255
    out, err = capfd.readouterr()
    assert out == "127.0.0.1: y\n"
    assert "127.0.0.1: exit status 1\n" in err
    assert "127.0.0.3:1: failed: " in err
    assert "[alice@127.0.0.3:1, connect]\n" in err


def test_example_of_the_page(
    many: Sshd, bastion: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The lines on the page are what the program prints, but for names and the order of hosts."""
    key = tmp_path / "key"
    key.write_text(bastion.alice.key.text)
    key.chmod(0o600)
    there = ["-l", "alice", "-i", str(key), "-p", str(many.port), "--no-agent",
             "--host-key-policy", "ignore", "-J", place_of(bastion)]  # fmt: skip
    missing = 'echo "cat: greeting: No such file or directory" >&2; exit 1'
    command = rf"case $SSH_CONNECTION in *.2\ *) {missing};; esac; echo hello"
    hosts = {HOSTS[0]: "web1", HOSTS[1]: "web2", f"{HOSTS[2]}:1": "web3"}
    assert main(["run", *there, *hosts, "--", command]) == 255
    shown = "".join(capfd.readouterr())
    for text, by in (
        (place_of(bastion), "alice@bastion:22"),
        *hosts.items(),
        ("to 127.0.0.3:", "to web3:"),
    ):
        shown = shown.replace(text, by)
    shown = shown.replace("failed: web3, web2", "failed: web2, web3")
    page = (TOP / "docs/run.md").read_text()
    example = re.search(r"\n    \$ .*\n((?:    .*\n)+)", page)
    assert example is not None
    lines = [line.removeprefix("    ") for line in example[1].splitlines()]
    assert sorted(lines) == sorted(shown.splitlines()), shown


@pytest.mark.parametrize("option", ["--timeout", "--connect-timeout"])
def test_no_time_left(
    run: Run, option: str, mute_listener: MuteListener, capfd: pytest.CaptureFixture[str]
) -> None:
    """A host that has no time left is told, and gives 255."""
    place = f"{mute_listener.host}:{mute_listener.port}"
    assert run(option, "0.2", place, "--", "true") == 255
    err = capfd.readouterr().err
    assert "timed out" in err
    assert f"[alice@{place}, banner]" in err


def test_json(run: Run, many: Sshd, capfd: pytest.CaptureFixture[str]) -> None:
    """With --json each host is one line, with all that its result has, and exact bytes."""
    hosts = ["bob@127.0.0.1", f"127.0.0.2:{many.port}", "127.0.0.3"]
    command = r"printf 'ab\377\nlong'; case $SSH_CONNECTION in *.3\ *) exit 7;; esac"
    assert run("--json", "--max-output", "4", *hosts, "--", command) == 255
    out, err = capfd.readouterr()
    told = {one["host"]: one for one in map(json.loads, out.splitlines())}
    assert [*sorted(told)] == sorted(hosts)
    refused, second, third = (told[host] for host in hosts)
    assert second == {
        "host": f"127.0.0.2:{many.port}", "status": 0, "signal": None, "stdout": "ab\ufffd\n",
        "stderr": "", "truncated": True, "error": None, "stdout_base64": "YWL/Cg==",
    }  # fmt: skip
    assert (third["status"], third["error"]) == (7, None)
    assert (refused["status"], refused["error"]["phase"]) == (-1, "auth")
    assert refused["error"]["hop"] == f"bob@127.0.0.1:{many.port}"
    assert err.startswith("hussh run: 3 of 3 hosts done, 1 succeeded, 2 failed; ")


def test_hosts_and_input_from_files(
    many: Sshd,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Hosts come from arguments and files, each once; a file or stdin is what all commands read."""
    file = tmp_path / "hosts"
    file.write_text("# all\n127.0.0.1  # first\n\n  127.0.0.2\r\n127.0.0.2\n")
    text = tmp_path / "text"
    text.write_text("given\n")
    assert run("--hosts", str(file), "127.0.0.1", "--input", str(text), "--", "cat") == 0
    assert sorted(capfd.readouterr().out.splitlines()) == ["127.0.0.1: given", "127.0.0.2: given"]
    text_of_hosts = f"ssh://alice@127.0.0.1:{many.port}/\n[::ffff:127.0.0.2]:{many.port}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text_of_hosts.encode())))
    assert run("--hosts", "-", "--", "cat") == 0
    assert capfd.readouterr() == ("", "")


def test_behind_a_bastion(
    many: Sshd, bastion: Sshd, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """All hosts share one login on the bastion that -J names; a proxy command works, too."""
    key = tmp_path / "key"  # for both servers
    key.write_text(bastion.alice.key.text)
    key.chmod(0o600)
    there = ["-l", "alice", "-i", str(key), "-p", str(many.port), "--no-agent"]
    host_key_check._warned.clear()  # each host is told of once, maybe in an earlier test
    assert (
        main(["run", "-J", place_of(bastion), *there, *HOSTS[:3], "--", "echo", "$SERVER_NAME"])
        == 0
    )
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == [f"{host}: many" for host in HOSTS[:3]]
    assert "HostKeyNotChecked" in err  # the log's warnings are printed
    assert bastion.connections() == 1
    relay = TOP / "tests/proxy/relay.py"
    command = f"{sys.executable} {relay} %h %p"
    assert main(["run", "--proxy-command", command, *there, HOSTS[0], "--", "echo", "y"]) == 0
    assert capfd.readouterr().out == f"{HOSTS[0]}: y\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["h"], "needs a command after --"),
        (["h", "--", " "], "needs a command after --"),
        (["--", "true"], "needs a host"),
        (["alice:S3CRET@h", "--", "true"], "--ask-password asks for it"),
        (["ssh://alice:S3CRET@h:1", "--", "true"], "--ask-password asks for it"),
        (["a", "h:x", "--", "true"], "hosts[1]: port must be a valid integer"),
        (["--concurrency", "0", "h", "--", "true"], "batch_size"),
        (["--timeout", "nan", "h", "--", "true"], "--timeout must be"),
        (["--hosts", "missing", "--", "true"], "cannot read missing: No such file"),
        (["--hosts", "-", "--input", "-", "--", "true"], "only one of"),
        (["--max-output", "5", "h", "--", "true"], "--json"),
        (["-J", "a", "--proxy-command", "b", "h", "--", "true"], "mutually exclusive"),
    ],
)
def test_usage(arguments: list[str], why: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Wrong usage gives 2, says what is wrong, and shows no password."""
    assert main(["run", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("hussh run: ")
    assert why in err
    assert "S3CRET" not in err


def test_the_password_is_asked_for_once(
    many: Sshd, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The password for all hosts is asked for, and never an argument or printed."""
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return many.alice.password

    monkeypatch.setattr("getpass.getpass", getpass)
    there = ["-l", "alice", "-p", str(many.port), "--no-agent", "-vv", "--ask-password"]
    assert main(["run", *there, *HOSTS[:2], "--", "echo y"]) == 0
    assert asked == ["password for 2 hosts: "]
    out, err = capfd.readouterr()
    assert sorted(out.splitlines()) == ["127.0.0.1: y", "127.0.0.2: y"]
    assert "auth" in err
    assert many.alice.password not in err


def test_interrupted(many: Sshd) -> None:
    """Ctrl-C gives 130, after the lines of the hosts that are done, and names the others."""
    with program(many, "--json", *HOSTS[:3], "--", WAITS) as process:
        text = b""
        while text.count(b"\n") < 2:
            text += read_until(process, b"\n")
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
        assert process.returncode == 130
    told = [json.loads(line) for line in (text + rest).splitlines()]
    assert sorted(one["host"] for one in told) == [HOSTS[0], HOSTS[2]]
    assert all(one["stdout"] == "done\n" for one in told)
    assert err.decode() == (
        "hussh run: interrupted; 2 of 3 hosts done, 2 succeeded, 0 failed; not done: 127.0.0.2\n"
    )


def test_interrupted_on_terminals(many: Sshd) -> None:
    """What came before Ctrl-C is printed, and with -t the commands end with their connections."""
    command = "printf 'begun\\nhalf'; exec sleep 1000"
    with program(many, "-t", *HOSTS[:1], "--", command) as process:
        text = read_until(process, b"begun\r\n")
        commands = [one.pid for one in many.processes() if "sleep" in one.argv]
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=60)
        assert process.returncode == 130
    assert (text + rest).replace(b"\r", b"").startswith(b"127.0.0.1: begun\n")
    assert err.decode().endswith("; not done: 127.0.0.1\n")
    assert wait_gone(commands, 20) == []


def test_nobody_reads(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """A reader that goes ends the work with 141, without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe, redirect_stdout(pipe):
        assert run(*HOSTS[:2], "--", "exec yes") == 141
    assert capfd.readouterr() == ("", "")


def test_a_full_disk(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Output that cannot be written ends the work, and the reason is told."""
    with open("/dev/full", "w") as full, redirect_stdout(full):
        assert run(HOSTS[0], "--", "exec yes") == 255
    assert capfd.readouterr().err == (
        "hussh run: cannot print: [Errno 28] No space left on device\n"
    )


def test_a_terminal_without_utf8(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    """Characters that a terminal does not have are printed as escapes, and end nothing."""

    class Latin1Terminal(io.TextIOWrapper):
        def isatty(self) -> bool:
            return True

    raw = io.BytesIO()
    with redirect_stdout(Latin1Terminal(raw, "iso-8859-1", newline="")):
        assert run(HOSTS[0], "--", r"printf '\342\202\254 \303\244\n'") == 0
        assert raw.getvalue() == b"127.0.0.1: \\u20ac \xe4\n"
    assert capfd.readouterr() == ("", "")


def test_progress(run: Run, terminal: Terminal, capfd: pytest.CaptureFixture[str]) -> None:
    """A terminal sees how far it is, unless it shall not; what hosts write goes to the file."""
    with redirect_stderr(terminal):
        assert run(*HOSTS[:2], "--", "echo y") == 0
    assert "2/2" in terminal.getvalue()
    assert ": y" not in terminal.getvalue()
    assert sorted(capfd.readouterr().out.splitlines()) == ["127.0.0.1: y", "127.0.0.2: y"]
    terminal.truncate(0)
    with redirect_stderr(terminal):
        assert run("--no-progress", *HOSTS[:2], "--", "true") == 0
    assert terminal.getvalue() == ""
