"""`explain` where all is well: what it tells, what it leaves alone; and the command line."""

from __future__ import annotations

import builtins
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import hussh
import hussh.aio
from hussh import Connection, Report
from hussh._command_line.main import main
from hussh.aio import AsyncConnection
from tests.support.agent import SshAgent
from tests.support.keys import Keys
from tests.support.sshd import Sshd
from tests.support.sshd_log import ENDED

#: What an sshd logs last of a connection.
TOP = Path(__file__).resolve().parents[2]


def place(server: Sshd, user: str = "alice") -> str:
    """Return where a user of a server is, as ``-J`` takes it."""
    return f"{user}@{server.host}:{server.port}"


def test_whole_story(bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """Each hop tells settings with sources, address, server, algorithms, key, login and times."""
    known_hosts = tmp_path / "known"
    known_hosts.write_text("# first\n" + bastion.known_hosts_line())
    report = hussh.explain(
        target.host,
        port=target.port,
        username="alice",
        private_key=target.alice.key.path,
        proxy_jump=place(bastion),
        known_hosts=known_hosts,
    )
    assert report.connected
    assert (report.hop, report.phase, report.cause, report.advice) == (None, None, "", "")
    first, last = report.hops
    assert (first.hop, first.index, first.state) == (place(bastion), 0, "connected")
    assert (last.hop, last.index, last.state) == (place(target), 1, "connected")
    assert (first.addresses, first.address, first.carrier) == (("127.0.0.1",), "127.0.0.1", "")
    assert (last.addresses, last.address, last.carrier) == ((), "", place(bastion))
    for hop in report.hops:
        assert hop.banner.startswith("SSH-2.0-OpenSSH")
        assert {"kex", "hostkey", "cipher"} <= {*hop.algorithms}
        assert hop.post_quantum is any(
            name in hop.algorithms["kex"] for name in ("mlkem", "sntrup")
        )
        ((name, result),) = hop.attempts
        assert name.startswith(f"key {target.alice.key.path} (SHA256:")
        assert result == "accepted"
        sources = {setting.name: setting.source for setting in hop.settings}
        assert sources["host"] == sources["port"] == sources["private_key"] == "argument"
        assert sources["host_key_policy"] == "default"
    assert first.host_key is not None
    assert (first.host_key.verdict, first.host_key.places) == ("known", (f"{known_hosts}:2",))
    assert last.host_key is not None
    assert last.host_key.verdict == "unknown, accepted unrecorded"
    rest = {"banner", "kex", "hostkey", "auth"}
    assert {*first.milliseconds} == {"dns", "connect"} | rest
    assert {*last.milliseconds} == {"channel"} | rest
    assert json.loads(report.to_json()) == report.to_dict()


def test_no_more_than_a_login(
    agent: SshAgent, keys: Keys, target: Sshd, tmp_path: Path, home: Path
) -> None:
    """The server sees the attempts that a login makes, in their order, and no session."""
    for number in range(3):
        agent.add(keys.get(name=f"decoy-{number}"))
    (home / ".ssh").mkdir()
    (home / ".ssh/id_ed25519").write_text(keys.get(name="nobody").text)
    (home / ".ssh/id_ed25519").chmod(0o600)
    with pytest.raises(hussh.AuthenticationError):
        Connection(target.host, target.port, "alice")
    target.wait_for_log(ENDED)
    usual = target.authentications()
    target.settle()
    report = hussh.explain(target.host, port=target.port, username="alice")
    target.wait_for_log(ENDED)
    assert target.authentications() == usual
    assert len(usual) >= 4
    assert "Starting session" not in target.log_text()
    assert [result for _, result in report.hops[0].attempts] == ["refused"] * 5
    assert report.hops[0].attempts[0][0] == "none"
    assert "publickey" in report.hops[0].methods
    target.settle()
    key = target.alice.key.path
    assert hussh.explain(target.host, port=target.port, username="alice", private_key=key).connected
    target.wait_for_log(ENDED)
    assert "Starting session" not in target.log_text()


def test_secrets_do_not_show(target: Sshd, tmp_path: Path) -> None:
    """A password, and the arguments of a proxy command, stand nowhere in a report."""
    password = target.alice.password
    command = f"nc -v %h %p 2>{tmp_path}/log-{password}"
    report = hussh.explain(
        target.host, port=target.port, username="alice", password=password, proxy_command=command
    )
    assert report.connected
    for text in (str(report), repr(report), report.to_json()):
        assert password not in text
    shown = {setting.name: setting.value for setting in report.hops[0].settings}
    assert (shown["password"], shown["proxy_command"]) == ("given", "nc")
    assert report.hops[0].carrier == "proxy command nc"


def test_advice_fits_who_refused(target: Sshd) -> None:
    """A pin, a function and a certificate that are at fault are what the advice is about."""
    place = {"port": target.port, "username": "alice", "private_key": target.alice.key.path}
    pin = "SHA256:" + 43 * "A"
    for options, words in (
        ({"host_key": pin}, "name it in host_key="),
        ({"host_key_policy": lambda _: False}, "The function decided so"),
        ({"certificate": "/nonexistent"}, "that it is the certificate"),
    ):
        report = hussh.explain(target.host, **place, **options)  # type: ignore[arg-type]
        assert words in report.advice


def test_settings_are_arguments(target: Sshd) -> None:
    """What a report calls a setting is an argument of `Connection`, and stands there once."""
    report = hussh.explain(
        target.host,
        port=target.port,
        username="alice",
        private_key=target.alice.key.path,
        host_key=" ".join(target.known_hosts_line().split()[1:3]),
        timeout=20_000,
    )
    assert report.connected
    names = [setting.name for setting in report.hops[0].settings]
    assert sorted(names) == sorted(set(names) & {*inspect.signature(Connection).parameters})
    assert "host_key" in names


@pytest.mark.parametrize(
    ("function", "kind", "unit"),
    [(hussh.explain, Connection, "milliseconds"), (hussh.aio.explain, AsyncConnection, "seconds")],
    ids=["sync", "async"],
)
def test_takes_what_a_connection_takes(function: Any, kind: type, unit: str) -> None:
    """Its signature, types and help name the arguments of a connection, but all by keyword."""
    shown, taken = inspect.signature(function).parameters, inspect.signature(kind).parameters
    assert {*shown} == {*taken}
    for name, parameter in shown.items():
        assert parameter.default == taken[name].default
        assert parameter.kind is (
            parameter.POSITIONAL_OR_KEYWORD if name == "host" else parameter.KEYWORD_ONLY
        )
        assert re.search(rf"^ +{name}: ", function.__doc__, re.MULTILINE)
    assert f"timeout: **{unit}**" in function.__doc__
    assert {*get_type_hints(function)} >= {*taken}


def test_bad_arguments() -> None:
    """What is no argument of a connection is an error, and no report."""
    with pytest.raises(TypeError):
        hussh.explain("host", nonsense=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="host"):
        hussh.explain("-host")


# -- the command line


def test_exit_status(
    bastion: Sshd, target: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """0: connected; 1: not connected, with hop, cause and advice; 2: usage."""
    key = ["-i", str(target.alice.key.path)]
    there = ["-p", str(target.port), f"alice@{target.host}"]
    assert main(["explain", "-J", place(bastion), *key, *there]) == 0
    out = capsys.readouterr().out
    assert f"1. {place(bastion)}: connected\n" in out
    assert out.endswith(f"connected to {place(target)}\n")
    assert main(["explain", *key, f"ssh://nobody@{target.host}:{target.port}", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["connected"], told["hop"]) == (False, place(target, "nobody"))
    assert told["phase"] == "auth"
    assert "authorized_keys" in told["advice"]
    for wrong in ([], ["explain"], ["explain", "-p", "x", "h"], ["explain", "-p", "0", "h"],
                  ["explain", "--timeout", "-1", "h"], ["explain", "a@b@-c"]):  # fmt: skip
        assert main(wrong) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "port must be a valid integer" in captured.err


def test_password_is_asked_for(
    target: Sshd, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A password is never an argument: it is asked for, and not shown."""
    asked: list[str] = []

    def getpass(prompt: str) -> str:
        asked.append(prompt)
        return target.alice.password

    monkeypatch.setattr("getpass.getpass", getpass)
    there = ["-p", str(target.port), f"alice@{target.host}"]
    assert main(["explain", "--ask-password", *there]) == 0
    assert asked == [f"password for alice@{target.host}: "]
    out, err = capsys.readouterr()
    assert target.alice.password not in out + err
    assert "password: accepted" in out


def test_as_a_program(target: Sshd) -> None:
    """``python -m hussh`` is the same, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "hussh", "explain", "-p", str(target.port),
         "--no-agent", "-l", "bob", "-i", str(target.bob.key.path), target.host],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"connected to {place(target, 'bob')}\n")


@pytest.mark.parametrize("place", ["alice:S3CRET@127.0.0.1", "ssh://alice:S3CRET@127.0.0.1:1"])
def test_password_as_argument(place: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A password before the host is refused, not taken for a part of the user's name and shown."""
    assert main(["explain", "-p", "1", place]) == 2
    output = "".join(capsys.readouterr())
    assert "--ask-password" in output
    assert "S3CRET" not in output


def test_no_password_and_no_reader() -> None:
    """An end of input in place of a password is told; a pipe that nobody reads is no error."""
    command = [sys.executable, "-m", "hussh", "explain", "-p", "1", "alice@127.0.0.1"]
    unanswered = subprocess.run(
        [*command, "--ask-password"], stdin=subprocess.DEVNULL, capture_output=True, text=True,
        cwd=TOP, timeout=60, start_new_session=True,
    )  # fmt: skip
    assert unanswered.returncode == 2
    assert "the input has ended" in unanswered.stderr
    assert "Traceback" not in unanswered.stderr
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        unread = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, text=True, cwd=TOP, timeout=60
        )
    assert (unread.returncode, unread.stderr) == (1, "")


def test_without_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: Sshd
) -> None:
    """Where `rich` is not installed a report is plain text."""
    really = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name.split(".")[0] == "rich":
            raise ImportError(name)
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    assert main(["explain", "--no-agent", "-p", str(target.port), target.host]) == 1
    assert "advice" in capsys.readouterr().out


def test_with_rich(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], target: Sshd
) -> None:
    """On a terminal `rich` draws the same, and takes no word of a server for its markup."""
    from hussh._command_line import explain

    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    hop = hussh.HopReport("u@h:22", 0, "failed", banner="SSH-2.0-[bold]x[/nonsense]")
    explain.show(Report(False, (hop,), "u@h:22", "auth", "[red]why[/]", "what", "X"))
    out = capsys.readouterr().out
    assert "SSH-2.0-[bold]x[/nonsense]" in out
    assert "[red]why[/]" in out
    assert "\x1b[" in out


def plain(text: str) -> str:
    """Return a report without what differs from run to run."""
    text = re.sub(r"SHA256:[\w+/…]+", "SHA256:…", text)
    text = re.sub(r"\d+ ms", "1 ms", text)
    text = re.sub(r"known_hosts [^;\n]*", "known_hosts …", text)
    text = re.sub(r"^( +cause [^;]*).*$", r"\1", text, flags=re.MULTILINE)
    text = re.sub(r"SSH-2.0-OpenSSH\S*(?: \S+)?$", "SSH-2.0-OpenSSH", text, flags=re.MULTILINE)
    text = re.sub(r"^( +algorithms +).*$", r"\1…", text, flags=re.MULTILINE)
    return re.sub(r"^( +quantum +).*$", r"\1…", text, flags=re.MULTILINE)


def test_example_of_the_page(
    bastion: Sshd, target: Sshd, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The example on the page is what the program prints, but for names, times and versions."""
    (home / ".ssh").mkdir()
    key = home / ".ssh/id_ed25519"
    key.write_text(bastion.alice.key.text)
    key.chmod(0o600)
    arguments = ["-J", place(bastion), "-i", "~/.ssh/id_ed25519", "-p", str(target.port)]
    assert main(["explain", *arguments, f"bob@{target.host}"]) == 1
    shown = capsys.readouterr().out
    for server, name in ((bastion, "bastion"), (target, "target.internal")):
        for text, by in (
            (f"[{server.host}]:{server.port}", name),
            (f"{server.host}:{server.port}", f"{name}:22"),
            (f"port {server.port}", "port 22"),
        ):
            shown = shown.replace(text, by)
    shown = shown.replace(f"host {bastion.host}", "host bastion", 1)
    shown = shown.replace(f"host {target.host}", "host target.internal", 1)
    shown = shown.replace(bastion.host, "198.51.100.1").replace(str(home), "/home/alice")
    page = (TOP / "docs/explain.md").read_text()
    example = re.search(r"\n    \$ .*\n((?:    .*\n)+)", page)
    assert example is not None
    lines = [line.removeprefix("    ") for line in example[1].splitlines()]
    assert plain("\n".join(lines)).splitlines() == plain(shown).splitlines(), shown


def test_configuration_is_a_source(
    target: Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With -F the settings of a file are told as the configuration's."""
    config = tmp_path / "config"
    config.write_text(
        f"Host t\n HostName {target.host}\n Port {target.port}\n User alice\n"
        f" StrictHostKeyChecking no\n IdentityFile {target.alice.key.path}\n"
        " SetEnv TOKEN=S3CRET\n IdentitiesOnly yes\n PubkeyAuthentication yes\n"
    )
    assert main(["explain", "-F", str(config), "t", "--json"]) == 0
    (hop,) = json.loads(capsys.readouterr().out)["hops"]
    sources = {setting["name"]: setting["source"] for setting in hop["settings"]}
    assert sources["host"] == sources["port"] == sources["username"] == "configuration"
    assert sources["host_key_policy"] == "configuration"
    shown = {
        setting["name"]: setting["value"]
        for setting in hop["settings"]
        if setting["source"] == "configuration"
    }
    assert shown["IdentityFile"] == str(target.alice.key.path)
    assert (shown["SetEnv"], shown["IdentitiesOnly"]) == ("TOKEN", "yes")
    assert "S3CRET" not in str(hop)
    config.write_text("Host t\n VerifyHostKeyDNS yes\n")
    assert main(["explain", "-F", str(config), "t"]) == 1
    assert "in phase config" in capsys.readouterr().out
