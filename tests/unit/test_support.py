"""The fixtures themselves: what the other tests rely on, checked with OpenSSH's own programs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hussh import Connection
from tests.support import outside
from tests.support.accounts import IS_ROOT
from tests.support.agent import SshAgent
from tests.support.client import SshProgram
from tests.support.keys import FORMATS, KINDS, Keys
from tests.support.netns import ADDRESSES, Network, mount_folder
from tests.support.processes import wait_gone
from tests.support.relay import Relay
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
RelayFactory = Callable[..., Relay]
needs_root = pytest.mark.needs_root


# -- servers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_login_with_every_kind_of_key(kind: str, target: Sshd, keys: Keys, ssh: SshProgram) -> None:
    """Alice's key of each kind opens the shared target, and the log names the method."""
    ran = ssh.run(target, target.alice, "echo $SERVER_NAME", key=keys.get(kind, name="alice"))
    assert (ran.status, ran.stdout) == (0, "target\n"), ran.stderr
    accepted = [each for each in target.authentications() if each.accepted]
    assert [(each.user, each.method) for each in accepted] == [(target.alice.name, "publickey")]
    assert keys.get(kind, name="alice").fingerprint in accepted[0].detail


def test_refused_key_is_logged_as_failed(target: Sshd, keys: Keys, ssh: SshProgram) -> None:
    """A key that nobody authorised fails, and the log says so."""
    stranger = keys.get(name="stranger")
    assert ssh.run(target, target.alice, key=stranger).status == 255
    target.wait_for_log(r"^Failed publickey")
    tried = [each for each in target.authentications() if each.method == "publickey"]
    assert [each.outcome for each in tried] == ["failed"]
    target.authorize(target.bob, stranger)
    assert ssh.run(target, target.bob, key=stranger).status == 0


@pytest.mark.parametrize("pam", ["password", None])
def test_login_with_password(pam: str | None, sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """A right password logs in, through PAM or without it; a wrong one does not."""
    server = sshd_factory(pam=pam)
    alice = server.alice
    ran = ssh.run(server, alice, "id -un; pwd", methods="password", answers=[alice.password])
    assert (ran.status, ran.stdout) == (0, f"alice\n{alice.home}\n"), ran.stderr
    wrong = ssh.run(server, alice, methods="password", answers=[server.bob.password])
    assert wrong.status == 255
    server.wait_for_log("^Failed password")
    outcomes = [each.outcome for each in server.authentications() if each.method == "password"]
    assert outcomes == ["accepted", "failed"]


def test_keyboard_interactive_in_two_rounds(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """The stack password+otp asks twice, wants both answers, and serves no plain password."""
    server = sshd_factory(pam="password+otp", options={"PasswordAuthentication": "no"})
    alice = server.alice
    kbd = "keyboard-interactive"
    ran = ssh.run(server, alice, methods=kbd, answers=[alice.password, alice.otp])
    assert ran.status == 0, ran.stderr
    assert len(ran.prompts) == 2
    assert ran.prompts[0] != ran.prompts[1]
    wrong = ssh.run(server, alice, methods=kbd, answers=[alice.password, server.bob.otp])
    assert (wrong.status, len(wrong.prompts)) == (255, 2)
    assert ssh.run(server, alice, methods="password", answers=[alice.password]).status == 255


def test_keyboard_interactive_with_a_text(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """A stack of the test's choice greets before it asks."""
    server = sshd_factory(pam="text+password")
    alice = server.alice
    kbd = "keyboard-interactive"
    ran = ssh.run(server, alice, methods=kbd, answers=[alice.password])
    assert (ran.status, len(ran.prompts)) == (0, 1), ran.stderr
    assert "Hello alice" in ran.stderr + ran.prompts[0]


def test_partial_success_is_logged(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """With two required methods the log tells of a partial success, then of the login."""
    server = sshd_factory(options={"AuthenticationMethods": "publickey,keyboard-interactive"})
    alice = server.alice
    methods = "publickey,keyboard-interactive"
    ran = ssh.run(server, alice, key=alice.key, methods=methods, answers=[alice.password])
    assert ran.status == 0, ran.stderr
    outcomes = [each.outcome for each in server.authentications() if each.outcome != "postponed"]
    assert outcomes[-2:] == ["partial", "accepted"]


@needs_root
def test_login_as_root_stays_in_the_namespace(target: Sshd, ssh: SshProgram) -> None:
    """Even root's files, as a session sees them, are the server's own."""
    command = "cat /etc/passwd /etc/hosts; echo $HOME"
    ran = ssh.run(target, target.accounts["root"], command, key=target.accounts["root"].key)
    assert ran.stdout.endswith(target.accounts["root"].home + "\n"), ran.stderr
    assert "alice:" in ran.stdout
    assert "alice:" not in Path("/etc/passwd").read_text()


@needs_root
def test_files_of_etc_may_be_replaced(tmp_path: Path, keys: Keys, ssh: SshProgram) -> None:
    """Accounts outlive that a process of the machine replaces files of /etc, as useradd does."""
    machine = tmp_path / "etc"
    (machine / "pam.d").mkdir(parents=True)
    (machine / "shadow").touch(mode=0o600)
    for name in ("passwd", "group", "hosts", "nsswitch.conf", "pam.d/sshd", "ld.so.cache"):
        if (Path("/etc") / name).exists():
            shutil.copy(Path("/etc") / name, machine / name)

    def scenario() -> None:
        # This thread's machine, so that nobody else's is touched: the same files, other folder.
        mount_folder(machine, Path("/etc"))
        with Sshd(tmp_path / "server", keys) as server:
            for name in ("passwd", "group", "shadow", "hosts", "nsswitch.conf", "pam.d/sshd"):
                copy = Path("/etc") / f"{name}.new"
                shutil.copy(Path("/etc") / name, copy)
                copy.rename(Path("/etc") / name)
            command = "id -un; cat /etc/passwd"
            ran = ssh.run(server, server.alice, command, key=server.alice.key)
            assert ran.stdout.startswith("alice\n"), ran.stderr
            assert "bob:" in ran.stdout
            password = [server.bob.password]
            assert ssh.run(server, server.bob, answers=password, methods="password").status == 0

    with ThreadPoolExecutor(1) as thread:
        thread.submit(scenario).result()


def test_names_that_only_the_server_knows(
    sshd_factory: SshdFactory, target: Sshd, ssh: SshProgram
) -> None:
    """A host given to one server is resolved there, forwards are logged, nobody else knows it."""
    gate = sshd_factory(hosts={"inner.invalid": target.host})
    line = ssh.arguments(gate, gate.alice, key=gate.alice.key)
    line[1:1] = ["-W", f"inner.invalid:{target.port}"]
    banner = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert banner.stdout.startswith(b"SSH-2.0-OpenSSH"), banner.stderr
    assert [forward.target for forward in gate.forwards()] == [("inner.invalid", target.port)]
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("inner.invalid", target.port)


def test_sessions_start_in_a_home_of_the_server(target: Sshd, ssh: SshProgram) -> None:
    """Commands, terminals and SFTP start in the account's home, and that is the server's own."""
    alice = target.alice
    assert not any(alice.files.is_relative_to(folder) for folder in outside.WATCHED)
    records = [Path("/var/log/wtmp"), Path("/var/log/lastlog"), Path("/run/utmp")]
    before = [path.read_bytes().count(b"alice") for path in records if path.exists()]
    for options in ([], ["RequestTTY=force"]):
        ran = ssh.run(target, alice, "pwd; echo ~", key=alice.key, options=options)
        assert ran.stdout.split() == [alice.home] * 2, ran.stderr
    with Connection(
        target.host, target.port, alice.name, private_key=alice.key.path, host_key_policy="ignore"
    ) as connection:
        assert connection.sftp.realpath() == alice.home
    # Nor is the machine told of logins.
    assert before == [path.read_bytes().count(b"alice") for path in records if path.exists()]


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "::1"])
def test_addresses_and_host_keys(address: str, sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """A server listens where it is told and shows the host keys that it claims to have."""
    server = sshd_factory(address=address, host_keys=("ecdsa-256", "rsa"))
    assert set(server.host_public_keys) == {"ecdsa-sha2-nistp256", "ssh-rsa"}
    assert ssh.run(server, server.alice, key=server.alice.key).status == 0
    assert server.connections() == 1


def test_options_replace_ours(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """An option given for one server wins over our default, however it is spelt."""
    server = sshd_factory(options={"subsystem": "sftp /bin/false", "AcceptEnv": ["A", "B_*"]})
    effective = server._config.joinpath("sshd_config").read_text()
    assert "internal-sftp" not in effective
    assert effective.count("AcceptEnv") == 2
    assert ssh.run(server, server.alice, key=server.alice.key).status == 0


def test_bad_option_is_an_error_with_the_log(sshd_factory: SshdFactory) -> None:
    """A server that cannot start raises, and the error quotes what sshd said."""
    with pytest.raises(OSError, match="NoSuchKeyword"):
        sshd_factory(options={"NoSuchKeyword": "yes"})


def test_stop_ends_sessions_and_their_orphans(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """After stop() nothing runs that a session started, not even in the background."""
    server = sshd_factory()
    command = "sleep 987 >/dev/null 2>&1 </dev/null & echo started"
    assert ssh.run(server, server.alice, command, key=server.alice.key).stdout == "started\n"
    running = [process for process in server.processes() if process.argv == ("sleep", "987")]
    assert len(running) == 1
    port = server.port
    server.stop()
    assert wait_gone([process.pid for process in running], 0.0) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((server.host, port))
    server.start()
    server.restart()
    assert ssh.run(server, server.alice, key=server.alice.key).status == 0


def test_killed_sessions_leave_the_daemon(sshd_factory: SshdFactory, ssh: SshProgram) -> None:
    """kill_sessions() cuts a running command off; the next login works."""
    server = sshd_factory()
    line = [*ssh.arguments(server, server.alice, key=server.alice.key), "echo up; exec cat"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        server.kill_sessions()
        assert running.wait(30) != 0
    assert ssh.run(server, server.alice, key=server.alice.key).status == 0


def test_two_servers_are_two_worlds(bastion: Sshd, target: Sshd) -> None:
    """The shared servers differ in port, host key and the home of the same account."""
    assert bastion.port != target.port
    assert bastion.host_public_keys != target.host_public_keys
    if IS_ROOT:
        assert bastion.alice.files != target.alice.files
        assert bastion.alice.password != target.alice.password
        assert bastion.alice.password not in repr(bastion.alice)


def test_only_the_bastion_reaches_the_target(
    network: Network, sshd_factory: SshdFactory, ssh: SshProgram
) -> None:
    """The client cannot connect to the target; a forward of the bastion can."""
    with network.enter("target"):
        target = sshd_factory(address=ADDRESSES["target"])
    with network.enter("bastion"):
        bastion = sshd_factory(address=ADDRESSES["bastion"])
    line = ssh.arguments(bastion, bastion.alice, key=bastion.alice.key)
    line[1:1] = ["-W", f"{target.host}:{target.port}"]
    with network.enter("client"):
        with pytest.raises(OSError, match="unreachable"):
            socket.create_connection((target.host, target.port), timeout=20)
        banner = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    assert banner.stdout.startswith(b"SSH-2.0-OpenSSH"), banner.stderr


# -- keys and agents -------------------------------------------------------------------------------


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", KINDS)
def test_key_files(kind: str, format: str, keys: Keys) -> None:
    """Each variant is in the format that it names, and encrypted when it says so."""
    if (kind, format) == ("ed25519", "PEM"):
        with pytest.raises(ValueError, match="no PEM format"):
            keys.get(kind, format=format)
        return
    plain = keys.get(kind, format=format)
    locked = keys.get(kind, format=format, passphrase="correct horse")
    assert plain.blob == locked.blob
    heading = {"OpenSSH": "OPENSSH ", "PEM": r"(RSA|EC) ", "PKCS8": ""}[format]
    assert re.match(rf"-----BEGIN {heading}PRIVATE KEY-----", plain.text)
    assert plain.text != locked.text
    assert "correct horse" not in repr(locked)
    if (kind, format) != ("ed25519", "PKCS8"):  # ssh-keygen reads that from 9.6 on
        listed = subprocess.run(
            ["ssh-keygen", "-y", "-P", "correct horse", "-f", str(locked.path)],
            capture_output=True,
            text=True,
        )
        assert listed.stdout.split()[:2] == plain.public_line.split()[:2], listed.stderr


def test_agent(agent: SshAgent, keys: Keys, target: Sshd, ssh: SshProgram) -> None:
    """A real agent takes plain and encrypted keys, lets us log in, forgets and locks."""
    alice = keys.get("ed25519", name="alice", passphrase="open sesame")
    other = keys.get("ecdsa-384", name="other")
    agent.add(alice)
    agent.add(other)
    assert [line.split()[1] for line in agent.public_lines()] == [
        each.public_line.split()[1] for each in (alice, other)
    ]
    line = ssh.arguments(target, target.alice)
    line[1:1] = ["-o", "IdentitiesOnly=no", "-o", "BatchMode=yes"]
    assert subprocess.run([*line, "true"], stdin=subprocess.DEVNULL).returncode == 0
    agent.remove(other)
    assert len(agent.public_lines()) == 1
    agent.lock("secret")
    assert agent.public_lines() == []


def test_agent_refuses_a_wrong_passphrase(
    agent_factory: Callable[[], SshAgent], keys: Keys, tmp_path: Path
) -> None:
    """Loading a key that cannot be read raises instead of leaving the agent empty unnoticed."""
    broken = keys.get("ed25519", name="alice", passphrase="right")
    wrong = type(broken)(broken.path, broken.kind, broken.format, "wrong", broken.public_line)
    with pytest.raises(OSError, match="ssh-add"):
        agent_factory().add(wrong)


def test_environment_is_isolated(home: Path) -> None:
    """A test sees an empty home directory of its own and nobody's agent."""
    assert Path.home() == home
    assert os.environ["HOME"] == str(home)
    assert list(home.iterdir()) == []
    assert "SSH_AUTH_SOCK" not in os.environ
