"""`config=` on real servers: hussh goes where ssh goes by the same file, and asks once."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

import hussh.aio
from hussh import ConfigError, Connection, ConnectTimeout, HostKeyError
from hussh._runtime import idle_thread
from hussh._runtime.keepalive import Keepalive
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.support.agent import SshAgent
from tests.support.keys import Keys
from tests.support.listeners import MuteListener
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd
from tests.support.sshd_log import ENDED, Authentication

SSH = shutil.which("ssh") or "ssh"


def write(folder: Path, text: str, *servers: Sshd) -> Path:
    """Write a configuration whose servers are all known; returns its path."""
    known = folder / "known_by_config"
    known.write_text("".join(server.known_hosts_line() for server in servers))
    path = folder / "config"
    path.write_text(f"{text}\nHost *\n  UserKnownHostsFile {known}\n  GlobalKnownHostsFile none\n")
    path.chmod(0o600)
    return path


def block(name: str, server: Sshd, *lines: str, user: str = "alice") -> str:
    """Return a block for a server."""
    rest = "".join(f"  {line}\n" for line in lines)
    return f"Host {name}\n  HostName {server.host}\n  Port {server.port}\n  User {user}\n{rest}"


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """Put an ssh before the real one; returns what it was asked since the last call."""
    folder, log = tmp_path / "bin", tmp_path / "questions"
    folder.mkdir()
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\necho "$*" >>{shlex.quote(str(log))}\nexec {SSH} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    log.touch()

    def asked() -> list[list[str]]:
        lines = [line.split() for line in log.read_text().splitlines()]
        log.write_text("")
        return [line for line in lines if line[:3] != ["-G", "-F", "none"]]

    return asked


def seen(server: Sshd) -> tuple[list[Authentication], list[tuple[str, int]]]:
    """Return the logins that a server accepted since the last look, and whereto it forwarded."""
    server.wait_for_log(ENDED)
    logins = [one for one in server.authentications() if one.accepted]
    targets = [forward.target for forward in server.forwards()]
    server.settle()
    return logins, targets


def run_ssh(config: Path, host: str) -> str:
    """Run OpenSSH's client by a configuration; returns what `id -un` says there."""
    done = subprocess.run(
        [SSH, "-F", str(config), "-o", "BatchMode=yes", host, "id -un"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_same_as_ssh(bastion: Sshd, target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """By one file with a chain, patterns, tokens, Include and Match both log in alike."""
    shutil.copy(bastion.alice.key.path, tmp_path / "id_alice_first")
    shutil.copy(target.bob.key.path, tmp_path / "id_bob")
    for name in ("id_alice_first", "id_bob"):
        (tmp_path / name).chmod(0o600)
    (tmp_path / "more").write_text(
        "Match originalhost second\n ProxyJump first\nMatch user bob\n IdentitiesOnly yes\n"
    )
    config = write(
        tmp_path,
        f"Include {tmp_path}/more\n"
        + block("first", bastion, f"IdentityFile {tmp_path}/id_%r_%n", "IdentitiesOnly yes")
        + block("sec*", target, f"IdentityFile {tmp_path}/id_%r", "SetEnv LC_A=1", user="bob"),
        bastion,
        target,
    )
    said = run_ssh(config, "second")
    theirs = seen(bastion), seen(target)
    with Connection("second", config=config, agent=False) as connection:
        assert connection.execute("id -un").stdout == said
        assert (connection.host, connection.username) == ("second", "bob")
        assert connection.port == target.port
        assert [hop.username for hop in connection._plan.hops] == ["alice", "bob"]
    assert (seen(bastion), seen(target)) == theirs


async def _go(config: Path, host: str) -> str:
    async with AsyncConnection(host, config=config) as connection:
        return (await connection.execute("id -un")).stdout


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks(backend: str, bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """The async API goes the same way, and asks again each time that it connects."""
    identity = f"IdentityFile {target.alice.key.path}"
    config = write(
        tmp_path,
        block("b", bastion, identity) + block("t", target, identity, "ProxyJump b"),
        bastion,
        target,
    )
    assert anyio.run(_go, config, "t", backend=backend) == "alice\n"
    assert bastion.connections() == 1

    async def twice() -> None:
        connection = AsyncConnection("t", config=config)
        assert (connection.host, connection.port, connection.username) == ("t", 22, "root")
        await connection.connect()
        assert (connection.port, connection.username) == (target.port, "alice")
        await connection.close()
        config.write_text(config.read_text().replace("User alice", "User nobody"))
        with pytest.raises(hussh.AuthenticationError, match="nobody"):
            await connection.connect()

    anyio.run(twice, backend=backend)


def test_arguments_win(bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """User, port, key, policy, known hosts and way that are given replace the configuration's."""
    config = write(
        tmp_path,
        f"Host t\n  HostName {target.host}\n  Port 1\n  User nobody\n  ProxyJump nowhere\n"
        "  StrictHostKeyChecking yes\n  IdentityFile /nowhere\n  Compression yes\n",
    )
    own = tmp_path / "own"
    own.write_text(target.known_hosts_line())
    with Connection(
        "t",
        target.port,
        "bob",
        private_key=target.bob.key.path,
        config=config,
        proxy_jump="none",
        known_hosts=own,
        compression=False,
    ) as connection:
        assert connection.execute("id -un").stdout == "bob\n"
        options = connection._options
        assert options.settings["host_key_policy"] == "strict"
        assert (options.settings["compression"], options.known_hosts) == (False, (str(own),))
        assert options.configured.names == {"host", "host_key_policy"}
    with pytest.raises(HostKeyError, match="not known"):
        Connection(
            "t", target.port, "bob", private_key=target.bob.key.path, config=config,
            proxy_jump="none", known_hosts=[],
        )  # fmt: skip


def test_default_values_as_arguments_win(
    questions: Callable[[], list[list[str]]], tmp_path: Path
) -> None:
    """Port 22 and root count as given where they are, and not where nobody wrote them."""
    config = write(tmp_path, "Host t\n  HostName 127.0.0.1\n  Port 1\n  User me\n")
    cases: list[tuple[list[str], dict[str, Any]]] = [
        ([], {}),
        (["-l", "root", "-p", "22"], {"port": 22, "username": "root"}),
    ]
    for given, options in cases:
        with pytest.raises(hussh.HusshError) as caught:
            Connection("t", config=config, **options)
        (line,) = questions()
        assert line[:3] == ["-G", "-F", str(config)]
        assert line[5:] == [*given, "--", "t"]
        del caught


def test_jump_by_argument(bastion: Sshd, target: Sshd, tmp_path: Path) -> None:
    """A host of `proxy_jump=` is looked up, too; credentials go to hosts that are named only."""
    config = write(tmp_path, block("b", bastion) + block("t", target), bastion, target)
    key = bastion.alice.key.path
    with Connection("t", config=config, proxy_jump="b", private_key=key) as there:
        assert there.execute("id -un").stdout == "alice\n"
    config.write_text(config.read_text().replace("Host t\n", "Host t\n  ProxyJump b\n"))
    bastion.settle()
    cases: tuple[dict[str, Any], ...] = ({"private_key": key}, {"password": target.alice.password})
    for options in cases:
        with pytest.raises(hussh.AuthenticationError) as caught:
            Connection("t", config=config, agent=False, **options)
        assert caught.value.hop == f"alice@{bastion.host}:{bastion.port}"
    bastion.wait_for_log(ENDED, count=2)
    assert {one.method for one in bastion.authentications()} <= {"none"}


def test_proxy_command(target: Sshd, tmp_path: Path) -> None:
    """ProxyCommand is run with its tokens, and %n is the name as it was given."""
    log = tmp_path / "tokens"
    config = write(
        tmp_path,
        block(
            "t",
            target,
            f"IdentityFile {target.alice.key.path}",
            f"ProxyCommand sh -c 'echo %h %p %r %n %% >{log}; exec nc %h %p'",
        ),
        target,
    )
    with Connection("t", config=config) as connection:
        assert connection.execute("id -un").stdout == "alice\n"
    assert log.read_text() == f"{target.host} {target.port} alice t %\n"


def test_true_and_none(
    questions: Callable[[], list[list[str]]], tmp_path: Path, target: Sshd
) -> None:
    """True names no file, so that ssh reads its own ones; without config= nobody is asked."""
    with pytest.raises(hussh.HusshError):
        Connection("host.invalid", config=True, proxy_command="false")
    (line,) = questions()
    assert line[:2] == ["-G", "-o"]
    key = target.alice.key.path
    with Connection(target.host, target.port, "alice", private_key=key):
        assert questions() == []
    wrong: tuple[Any, ...] = (1, b"x", "", [], "a\0b")
    for one in wrong:
        with pytest.raises(TypeError, match="config"):
            Connection("host", config=one)


@pytest.mark.parametrize("backend", ["", "asyncio", "trio"])
def test_a_batch_asks_once(
    backend: str,
    questions: Callable[[], list[list[str]]],
    bastion: Sshd,
    target: Sshd,
    tmp_path: Path,
) -> None:
    """Many hosts: one question for each name, the bastion included, and one login there."""
    identity = f"IdentityFile {target.alice.key.path}"
    config = write(
        tmp_path,
        block("b", bastion, identity) + block("t?", target, identity, "ProxyJump b"),
        bastion,
        target,
    )
    hosts = ["t1", "t2", "t1", "t3", "t1"]

    def check(results: Any) -> None:
        assert [result.stdout for _, result in results.items()] == ["alice\n"] * len(hosts)
        assert sorted(line[-1] for line in questions()) == ["b", "t1", "t2", "t3"]
        assert bastion.connections() == 1

    group = MultiConnection.from_shared_auth(hosts, config=config, loops=1)
    assert group.hosts == hosts
    if not backend:
        with group:
            check(group.execute("id -un"))
        return

    async def go() -> None:
        async with group as tasks:
            check(await tasks.execute("id -un"))

    anyio.run(go, backend=backend)


def test_time_limit(tmp_path: Path, target: Sshd) -> None:
    """A `Match exec` that does not end costs no more than the time-out, and is ended itself."""
    config = write(tmp_path, 'Match exec "exec sleep 1000"\n  Port 1\n')
    with pytest.raises(ConnectTimeout, match="ssh configuration") as caught:
        Connection("t", config=config, timeout=300)
    assert caught.value.phase == "config"

    async def go() -> None:
        with pytest.raises(ConnectTimeout) as caught:
            await AsyncConnection("t", config=config, timeout=0.3)
        assert (caught.value.phase, caught.value.hop) == ("config", "root@t:22")

    anyio.run(go)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_loop_is_blocked(backend: str, tmp_path: Path, target: Sshd) -> None:
    """The loop goes on while ssh thinks: here it is the loop that lets ssh go on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = write(
        tmp_path,
        f'Match exec "cat {fifo}"\n'
        + block("t", target, f"IdentityFile {target.alice.key.path}").replace("Host t\n", ""),
        target,
    )

    async def let_go() -> None:
        async with await anyio.open_file(fifo, "w") as file:
            await file.write("go on\n")

    async def go() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(let_go)
            assert await _go(config, "t") == "alice\n"

    anyio.run(go, backend=backend)


def test_errors_have_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What the configuration does wrong is an error with hop, phase and a line in the log."""
    caplog.set_level("INFO", "hussh")
    config = write(tmp_path, "Host t\n  VerifyHostKeyDNS yes\n  SendEnv X\n")
    with pytest.raises(ConfigError, match="DNS") as caught:
        Connection("t", config=config)
    assert (caught.value.hop, caught.value.phase) == ("root@t:22", "config")
    report = hussh.explain("t", config=config)
    assert (report.error, report.phase) == ("ConfigError", "config")
    assert "block" in report.cause
    assert [text for text in caplog.messages if "config: failed" in text]
    caplog.clear()
    config.write_text("Host t\n  HostName 127.0.0.1\n  Port 1\n  SendEnv X\n")
    with pytest.raises(hussh.ConnectError):
        Connection("t", config=config)
    assert "[t] not followed: sendenv" in caplog.text


def test_keys_as_ssh_tries_them(agent: SshAgent, keys: Keys, target: Sshd, tmp_path: Path) -> None:
    """Named keys first, the agent's others after them, files last; IdentitiesOnly: no others."""
    for number in range(2):
        agent.add(keys.get(name=f"decoy-{number}"))
    named = keys.get(name="named")
    agent.add(named)
    files = [named, keys.get("ecdsa-256", name="file"), target.alice.key]
    lines = [f"IdentityFile {one.path}" for one in files] + ["IdentityFile /nowhere/id"]
    for only in ("yes", "no"):
        config = write(tmp_path, block("t", target, *lines, f"IdentitiesOnly {only}"), target)
        config.write_text("IdentityAgent SSH_AUTH_SOCK\n" + config.read_text())
        tried = []
        subprocess.run(
            [SSH, "-F", str(config), "-o", "BatchMode=yes", "t", "true"],
            stdin=subprocess.DEVNULL, check=True, timeout=60, capture_output=True,
            env=clean_environment(SSH_AUTH_SOCK=str(agent.socket)),
        )  # fmt: skip
        for _ in range(2):
            target.wait_for_log(ENDED)
            offered = [one.detail for one in target.authentications() if one.detail]
            tried.append(list(dict.fromkeys(offered)))
            target.settle()
            if len(tried) == 1:
                Connection("t", config=config).close()
        assert tried[0] == tried[1]
        assert len(tried[0]) == {"yes": 3, "no": 5}[only]


def test_methods_and_signatures(target: Sshd, keys: Keys, tmp_path: Path) -> None:
    """What the file forbids is not tried, unless the caller gave the credential."""
    rsa = keys.get("rsa", name="alice")
    lines = [f"IdentityFile {rsa.path}", "PubkeyAcceptedAlgorithms rsa-sha2-256"]
    config = write(tmp_path, block("t", target, *lines), target)
    with Connection("t", config=config):
        target.wait_for_log("Accepted publickey")
    assert "rsa-sha2-512" not in "".join(
        line for line in target.log_text().splitlines() if "userauth_pubkey" in line
    )
    target.settle()
    config = write(tmp_path, block("t", target, *lines, "PubkeyAuthentication no"), target)
    with pytest.raises(hussh.AuthenticationError, match="configuration permits: keyboard") as no:
        Connection("t", config=config)
    assert no.value.tried == ()
    with Connection("t", config=config, private_key=rsa.path):
        pass
    config = write(tmp_path, block("t", target, "PasswordAuthentication no"), target)
    with Connection("t", config=config, password=target.alice.password):
        pass
    order = "PreferredAuthentications keyboard-interactive,password"
    config = write(tmp_path, block("t", target, order), target)
    report = hussh.explain("t", config=config, password=target.alice.password)
    assert report.hops[0].attempts == (("keyboard-interactive", "accepted"),)


def test_certificate_file(
    target: Sshd, keys: Keys, tmp_path: Path, sshd_factory: Callable[..., Sshd]
) -> None:
    """A certificate that lies elsewhere than beside its key is found by CertificateFile."""
    authority, key = keys.get(name="ca"), keys.get(name="certified")
    own = tmp_path / "id"
    shutil.copy(key.path, own)
    (tmp_path / "id.pub").write_text(key.public_line)
    own.chmod(0o600)
    subprocess.run(
        [
            "ssh-keygen",
            "-q",
            "-s",
            str(authority.path),
            "-I",
            "x",
            "-n",
            "alice",
            str(own) + ".pub",
        ],
        check=True,
    )
    elsewhere = tmp_path / "elsewhere-cert.pub"
    (tmp_path / "id-cert.pub").rename(elsewhere)
    trusted = tmp_path / "authority.pub"
    trusted.write_text(authority.public_line)
    server = sshd_factory()
    server.authorize(server.alice, authority, options="cert-authority")
    lines = [f"IdentityFile {own}", f"CertificateFile {elsewhere}"]
    config = write(tmp_path, block("t", server, *lines), server)
    with Connection("t", config=config) as connection:
        assert connection.execute("id -un").stdout == "alice\n"
    with pytest.raises(hussh.AuthenticationError):
        Connection("t", config=write(tmp_path, block("t", server, lines[0]), server))


def test_environment(sshd_factory: Callable[..., Sshd], tmp_path: Path) -> None:
    """SetEnv holds for each command, by threads, tasks and batches; what a call gives wins."""
    server = sshd_factory(options={"AcceptEnv": "A B"})
    lines = (f"IdentityFile {server.alice.key.path}", 'SetEnv A=1 "B=x y"')
    config = write(tmp_path, block("t", server, *lines), server)
    show = 'echo "$A-$B"'
    with Connection("t", config=config) as connection:
        assert connection.execute(show).stdout == "1-x y\n"
        with connection.popen(show, env={"A": "2"}) as process:
            assert process.stdout.read() == b"2-x y\n"
    with MultiConnection.from_shared_auth(["t"], config=config) as group:
        assert group.execute(show)["t"].stdout == "1-x y\n"

    async def go() -> None:
        async with AsyncConnection("t", config=config) as connection:
            assert (await connection.execute(show)).stdout == "1-x y\n"

    anyio.run(go)


def test_times(tmp_path: Path, mute_listener: MuteListener, target: Sshd) -> None:
    """ConnectTimeout limits connecting where no time-out was given; the keepalive is as set."""
    config = write(
        tmp_path,
        f"Host m\n HostName {mute_listener.host}\n Port {mute_listener.port}\n ConnectTimeout 1\n"
        + block("t", target, f"IdentityFile {target.alice.key.path}", "ServerAliveInterval 7",
                "ServerAliveCountMax 2"),
        target,
    )  # fmt: skip
    with pytest.raises(ConnectTimeout, match=r"1 s \(ConnectTimeout\)"):
        Connection("m", config=config)
    with pytest.raises(ConnectTimeout, match="after 500 ms"):
        Connection("m", config=config, timeout=500)
    with Connection("t", config=config) as connection:
        assert connection._options.keepalive_interval == 7
        thread = idle_thread._current
        assert thread is not None
        (entry,) = thread.rounds._due
        assert cast(Keepalive, entry[3]).misses == 2
    with Connection("t", config=config, keepalive_interval=9) as connection:
        assert connection._options.keepalive_interval == 9


def test_socket(target: Sshd, bastion: Sshd, tmp_path: Path) -> None:
    """BindAddress and AddressFamily are those of the first hop's socket."""
    identity = f"IdentityFile {target.alice.key.path}"
    lines = (identity, "BindAddress 127.0.0.3", "AddressFamily inet")
    config = write(
        tmp_path,
        block("b", bastion, *lines) + block("t", target, identity, "ProxyJump b"),
        bastion,
        target,
    )
    with Connection("t", config=config):
        assert "Connection from 127.0.0.3 " in bastion.log_text()
    bad = block("t", target, identity, "AddressFamily inet6")
    with pytest.raises(hussh.ConnectError):
        Connection("t", config=write(tmp_path, bad, target))


def test_what_this_version_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A setting that hussh does not have is named."""
    caplog.set_level("INFO", "hussh.config")
    place = "Host t\n  HostName 127.0.0.1\n  Port 1\n"
    with pytest.raises(hussh.ConnectError):
        Connection("t", config=write(tmp_path, f"{place}  HashKnownHosts yes\n"))
    assert caplog.messages == ["[t] not followed: hashknownhosts"]


def test_forward_agent(agent: SshAgent, target: Sshd, tmp_path: Path) -> None:
    """ForwardAgent lends the agent to each command, of a batch, too, unless the call says no."""
    agent.add(target.alice.key)
    config = write(tmp_path, block("t", target, "ForwardAgent yes"), target)
    with Connection("t", config=config) as connection:
        assert connection.execute("ssh-add -l").stdout == agent_keys(agent)
        refused = connection.execute("ssh-add -l", forward_agent=False)
        assert refused.stdout == ""
        assert refused.status != 0
    with MultiConnection.from_shared_auth(["t"], config=config) as batch:
        assert batch.execute("ssh-add -l")["t"].stdout == agent_keys(agent)
        assert batch.execute("ssh-add -l", forward_agent=False)["t"].stdout == ""


def agent_keys(agent: SshAgent) -> str:
    """Return what ssh-add says of an agent."""
    return subprocess.run(
        ["ssh-add", "-l"], check=True, capture_output=True, text=True,
        env=clean_environment(SSH_AUTH_SOCK=str(agent.socket)),
    ).stdout  # fmt: skip
