"""What `config=` makes of a file, option by option, as the machine's own ``ssh -G`` reads it."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from hussh import ConfigError
from hussh._api.check_options import list_supported_algorithms
from hussh._connect.ssh_program import SshProgram
from hussh._policy.route import HopSpec
from hussh._policy.ssh_config.answer import (
    CONTROL_PATH,
    USUAL,
    Answer,
    Question,
    parse_answer,
)
from hussh._policy.ssh_config.settings import Followed, Reader, follow
from hussh._policy.ssh_config.way import ConfiguredHop, find_way
from tests.support.kerberos import NO_GSSAPI, gssapi_of_ssh
from tests.support.processes import wait_gone

ME = pwd.getpwuid(os.getuid())
HOME = ME.pw_dir  # ssh does not look at $HOME
ENVIRON = {"WHERE": "/env", "SOCK": "/run/sock"}


@pytest.fixture(scope="module")
def usual() -> Answer:
    """Return what this ssh says without a configuration."""
    return SshProgram("none").ask(USUAL, 20)


def read(path: Path, text: str, usual: Answer, question: Question) -> Followed:
    """Return what a file means for a host."""
    path.write_text(text)
    os.environ.setdefault("WHERE", "/env")
    answer = SshProgram(str(path)).ask(question, 20)
    return follow(Reader(answer, usual, ENVIRON, list_supported_algorithms()))


#: Lines of a block for `box`, with what they give: arguments, and what no argument can say.
ROWS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("StrictHostKeyChecking yes", {"host_key_policy": "strict"}, {}),
    ("StrictHostKeyChecking ask", {"host_key_policy": "strict"}, {}),
    ("StrictHostKeyChecking accept-new", {"host_key_policy": "accept-new"}, {}),
    ("StrictHostKeyChecking no", {"host_key_policy": "accept-unknown"}, {}),
    ("StrictHostKeyChecking off", {"host_key_policy": "accept-unknown"}, {}),
    (
        "UserKnownHostsFile ~/a %d/b-%h-%r\nGlobalKnownHostsFile /g",
        {"known_hosts": (f"{HOME}/a", f"{HOME}/b-box.example-me", "/g")},
        {},
    ),
    (
        'UserKnownHostsFile "/with a blank/k" /two\nGlobalKnownHostsFile none',
        {"known_hosts": ("/with a blank/k", "/two")},
        {},
    ),
    (
        "UserKnownHostsFile none\nGlobalKnownHostsFile /g\nStrictHostKeyChecking accept-new",
        {"known_hosts": ("/g",), "host_key_policy": "accept-unknown"},
        {},
    ),
    ("HostKeyAlias Other", {"host_key_alias": "other"}, {}),
    ("RevokedHostKeys ~/revoked", {}, {"revoked_host_keys": f"{HOME}/revoked"}),
    (
        "KnownHostsCommand /usr/bin/keys %H %d/x ${WHERE} %%",
        {},
        {"known_hosts_command": ("/usr/bin/keys", "\0", f"{HOME}/x", "/env", "%")},
    ),
    (
        "IdentityFile ~/.ssh/%r_%h\nIdentityFile ${WHERE}/%n-%p-%%",
        {},
        {"identity_files": (f"{HOME}/.ssh/me_box.example", "/env/box-2200-%")},
    ),
    ("IdentityFile none", {}, {"identity_files": ()}),
    ("IdentitiesOnly yes", {}, {"identities_only": True}),
    ("CertificateFile ~/c-%u", {}, {"certificate_files": (f"{HOME}/c-{ME.pw_name}",)}),
    ("IdentityAgent none", {"agent": False}, {}),
    ("IdentityAgent SSH_AUTH_SOCK", {}, {}),
    ("IdentityAgent $SOCK", {"agent": "/run/sock"}, {}),
    ("IdentityAgent ~/agent-%r", {"agent": f"{HOME}/agent-me"}, {}),
    (
        "KexAlgorithms ecdh-sha2-nistp384,curve25519-sha256",
        {"key_exchange": ("ecdh-sha2-nistp384", "curve25519-sha256")},
        {},
    ),
    ("Ciphers aes256-ctr,aes128-gcm@openssh.com",
     {"ciphers": ("aes256-ctr", "aes128-gcm@openssh.com")}, {}),
    ("MACs hmac-sha2-512", {"macs": ("hmac-sha2-512",)}, {}),
    ("HostKeyAlgorithms rsa-sha2-512", {"host_key_algorithms": ("rsa-sha2-512",)}, {}),
    ("PubkeyAcceptedAlgorithms rsa-sha2-256", {}, {"signature_algorithms": ("rsa-sha2-256",)}),
    ("CASignatureAlgorithms ssh-ed25519", {}, {"ca_algorithms": ("ssh-ed25519",)}),
    ("RequiredRSASize 3072", {"required_rsa_size": 3072}, {}),
    ("PasswordAuthentication no", {}, {"methods": ("publickey", "keyboard-interactive")}),
    ("KbdInteractiveAuthentication no\nPubkeyAuthentication no", {}, {"methods": ("password",)}),
    (
        "PreferredAuthentications password,gssapi-with-mic,publickey",
        {},
        {"methods": ("password", "publickey")},
    ),
    ("ConnectTimeout 7", {}, {"connect_timeout": 7.0}),
    ("ServerAliveInterval 15\nServerAliveCountMax 2",
     {"keepalive_interval": 15}, {"keepalive_count": 2}),
    ("Compression yes", {"compression": True}, {}),
    ("BindAddress 127.0.0.2", {"bind_address": "127.0.0.2"}, {}),
    ("AddressFamily inet6", {"family": "inet6"}, {}),
    ("ForwardAgent yes", {}, {"forward_agent": True}),
    ("ForwardAgent $SOCK", {}, {"forward_agent": "/run/sock"}),
    ('SetEnv A=1 "B=x y"', {}, {"env": (("A", "1"), ("B", "x y"))}),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "options", "more"), ROWS, ids=lambda row: str(row)[:40])
def test_option(
    lines: str,
    options: dict[str, Any],
    more: dict[str, Any],
    usual: Answer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each keyword gives its option, expanded as ssh does; for other hosts it gives nothing."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    block = "\n".join(f"  {line}" for line in lines.splitlines())
    text = f"Host box\n  HostName %h.example\n{block}\n"
    found = read(tmp_path / "config", text, usual, Question("box", "me", 2200))
    assert found.options == {"host_key_policy": "strict"} | options
    assert found.more == more
    assert found.ignored == ()
    other = read(tmp_path / "config", text, usual, Question("crate"))
    assert (other.options, other.more) == ({"host_key_policy": "strict"}, {})


def test_match_include_and_wildcards(usual: Answer, tmp_path: Path) -> None:
    """Match, Include, patterns and the rule of the first value are ssh's own."""
    (tmp_path / "more").write_text(
        "Match host *.lab user me\n  ConnectTimeout 3\n  SetEnv A=first\n"
    )
    text = (
        f"Include {tmp_path}/more\n"
        "Host *.lab !old.lab\n  Compression yes\n  SetEnv A=second\n"
        f'Match exec "test %n = new.lab"\n  ServerAliveInterval 9\n'
    )
    path = tmp_path / "config"
    new = read(path, text, usual, Question("new.lab", "me"))
    assert new.options["compression"] is True
    assert new.options["keepalive_interval"] == 9
    assert (new.more["connect_timeout"], new.more["env"]) == (3.0, (("A", "first"),))
    old = read(path, text, usual, Question("old.lab", "you"))
    assert (old.options, old.more) == ({"host_key_policy": "strict"}, {})


def test_what_is_not_followed_is_named(usual: Answer, tmp_path: Path) -> None:
    """Other settings that differ from the defaults are named; unknown algorithms, too."""
    text = (
        "SendEnv LANG\nHashKnownHosts yes\nLocalForward 8080 x:80\nForwardX11 yes\n"
        "MACs hmac-sha2-256,umac-64@openssh.com\nTCPKeepAlive yes\n"
    )
    found = read(tmp_path / "config", text, usual, Question("box"))
    named = {"sendenv", "hashknownhosts", "localforward", "forwardx11"}
    assert named <= {*found.ignored}
    assert "tcpkeepalive" not in found.ignored  # it is the default
    assert found.options["macs"] == ("hmac-sha2-256",)
    assert found.unknown == {"macs": ("umac-64@openssh.com",)}


def test_kerberos(usual: Answer, tmp_path: Path) -> None:
    """GSSAPIAuthentication is the argument, and one of the methods where these are named."""
    if not gssapi_of_ssh():
        pytest.skip(NO_GSSAPI)
    on = "GSSAPIAuthentication yes\n"
    found = read(tmp_path / "config", on, usual, Question("box"))
    assert (found.options.get("gssapi"), "methods" in found.more) == (True, False)
    text = f"{on}PreferredAuthentications publickey,gssapi-with-mic\n"
    found = read(tmp_path / "config", text, usual, Question("box"))
    assert found.more["methods"] == ("publickey", "gssapi-with-mic")
    found = read(tmp_path / "config", f"{on}PubkeyAuthentication no\n", usual, Question("box"))
    assert found.more["methods"] == ("gssapi-with-mic", "keyboard-interactive", "password")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("VerifyHostKeyDNS yes", "DNS"),
        ("CheckHostIP yes", "address"),
        ("ProxyUseFdpass yes", "descriptor"),
        (
            "KnownHostsCommand /bin/keys %K",
            "KnownHostsCommand /bin/keys %K .*that the server shows",
        ),
        ("KnownHostsCommand keys %H", "path is not absolute"),
        ("KnownHostsCommand /bin/keys %I", "key that the server shows"),
        ("MACs umac-64@openssh.com", "names no algorithm"),
        ("IdentityFile ${NOBODY_HAS_SET_THIS}/x", "NOBODY_HAS_SET_THIS"),
        ("IdentityFile /x/%Z", "%Z"),
    ],
)
def test_what_cannot_be_ignored(line: str, says: str, usual: Answer, tmp_path: Path) -> None:
    """What would be less safe without, or means nothing, is an error that names it."""
    with pytest.raises(ConfigError, match=says) as caught:
        read(tmp_path / "config", f"Host box\n {line}\n", usual, Question("box"))
    assert "box" in str(caught.value)
    assert read(tmp_path / "config", f"Host box\n {line}\n", usual, Question("crate")).more == {}


def test_harmless_values_pass(usual: Answer, tmp_path: Path) -> None:
    """Values with which ignoring takes nothing from the safety are no error."""
    text = "VerifyHostKeyDNS ask\nProxyUseFdpass no\nCheckHostIP no\nKnownHostsCommand none\n"
    assert read(tmp_path / "config", text, usual, Question("box")).ignored == ("verifyhostkeydns",)


@pytest.mark.parametrize(
    ("text", "says"),
    [("Nonsense 1\n", "Nonsense|nonsense"), ("Port x\n", "line 1"), (None, "No such file")],
)
def test_ssh_refuses_the_file(text: str | None, says: str, tmp_path: Path) -> None:
    """A file that ssh refuses is an error in ssh's words."""
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        SshProgram(str(path)).ask(Question("box"), 20)


def test_no_ssh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenSSH's client the error says that it is needed, and what to install."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match=r"no program called ssh.*openssh-client"):
        SshProgram(None).ask(Question("box"), 20)


@pytest.mark.parametrize("output", ["", "nonsense", "hostname x\nport 22\n"])
def test_another_program(output: str) -> None:
    """What is no answer of ssh -G is an error."""
    with pytest.raises(ConfigError, match=r"OpenSSH 8\.4"):
        parse_answer(Question("box"), output)


def test_home_called_hussh() -> None:
    """A home folder or a user called hussh does not shift what the tokens stand for."""
    told = CONTROL_PATH.replace("%d", "/home/hussh").replace("%h", "box").replace("%r", "hussh")
    answer = parse_answer(Question("box"), f"hostname box\ncontrolpath {told}\n")
    assert answer.expand("~/.ssh/%r_%h", "IdentityFile", {}) == "/home/hussh/.ssh/hussh_box"


def test_only_newlines_end_a_line() -> None:
    """A character that Unicode counts as a line break is part of a value."""
    text = f"hostname box\nsetenv A=x\u2028user evil\ncontrolpath {CONTROL_PATH}\n"
    answer = parse_answer(Question("box"), text)
    assert answer.get_one("setenv") == "A=x\u2028user evil"
    assert answer.get_one("user") == ""


def test_what_match_exec_leaves_behind(tmp_path: Path) -> None:
    """A program that `Match exec` starts in the background is neither waited for nor ended."""
    pid = tmp_path / "pid"
    path = tmp_path / "config"
    path.write_text(f'Match exec "sleep 60 & echo $! >{pid}"\n  Port 2222\n')
    try:
        assert SshProgram(str(path)).ask(Question("box"), 20).get_one("port") == "2222"
        assert wait_gone([int(pid.read_text())], 0), "it still runs"
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert not wait_gone([int(pid.read_text())], 20)


# -- the way


def drive(
    asking: Generator[Question, Answer, list[ConfiguredHop]], told: dict[str, str]
) -> list[str]:
    """Answer a way's questions; returns its hops as ``user@host:port``, with a proxy command."""
    try:
        question = next(asking)
        while True:
            jump = told.get(question.host, "")
            keyword = "proxycommand" if " " in jump else "proxyjump"
            values = {keyword: (jump,)} if jump else {}
            question = asking.send(Answer(question, values))
    except StopIteration as end:
        hops: list[ConfiguredHop] = end.value
    return [
        f"{hop.answer.question.username or ''}@{hop.answer.question.host}:"
        f"{hop.answer.question.port or ''}{hop.proxy_command and ' by ' + hop.proxy_command}"
        for hop in hops
    ]


@pytest.mark.parametrize(
    ("told", "hops"),
    [
        ({}, ["@t:"]),
        ({"t": "none"}, ["@t:"]),
        ({"t": "a"}, ["@a:", "@t:"]),
        ({"t": "u@a:2,[::1]:22"}, ["u@a:2", "@::1:22", "@t:"]),
        ({"t": "b", "b": "a"}, ["@a:", "@b:", "@t:"]),
        # Only the first of a list has a way of its own.
        ({"t": "a,b", "a": "x", "b": "y"}, ["@x:", "@a:", "@b:", "@t:"]),
        ({"t": "a", "a": "nc %h %p"}, ["@a: by nc %h %p", "@t:"]),
        ({"t": "nc %h %p"}, ["@t: by nc %h %p"]),
        ({"t": "a", "a": "none"}, ["@a:", "@t:"]),
    ],
)
def test_way(told: dict[str, str], hops: list[str]) -> None:
    """Jump hosts have blocks and ways of their own, as where ssh runs itself for each."""
    assert drive(find_way(Question("t"), None, has_way=False, has_bastion=False), told) == hops


def test_way_by_argument() -> None:
    """A way that is given replaces the target's own; the first named host still has its own."""
    named = [HopSpec("a"), HopSpec("b", 2222, "u")]
    told = {"t": "never", "a": "x", "b": "never"}
    given = find_way(Question("t"), named, has_way=True, has_bastion=False)
    assert drive(given, told) == ["@x:", "@a:", "u@b:2222", "@t:"]
    carried = find_way(Question("t"), named, has_way=True, has_bastion=True)
    assert drive(carried, told) == ["@a:", "u@b:2222", "@t:"]


@pytest.mark.parametrize("told", [{"t": "a", "a": "t"}, {"t": "t"}, {"t": "a", "a": "a"}])
def test_circles(told: dict[str, str]) -> None:
    """A way in a circle is an error, before anything is opened."""
    with pytest.raises(ConfigError, match="circle"):
        drive(find_way(Question("t"), None, has_way=False, has_bastion=False), told)
