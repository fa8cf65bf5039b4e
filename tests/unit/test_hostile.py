"""The hostile server against OpenSSH: polite it must serve, hostile it must be refused."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import hostile_catalogue as catalogue
from tests.support import hostile_wire as wire
from tests.support.hostile import (
    CIPHERS,
    MACS,
    Channel,
    Conn,
    HostileServer,
    Interactive,
    OpenReason,
    Password,
    PeerError,
    PublicKey,
    Refuse,
    Round,
    host_key,
    polite,
)

Attack = catalogue.Attack[Conn]

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="needs the OpenSSH client")


@dataclass
class Ssh:
    """Runs the OpenSSH client with nothing of this machine's configuration."""

    folder: Path

    def __call__(
        self,
        server: HostileServer,
        *arguments: str,
        password: str = "secret",
        stdin: bytes = b"",
        methods: str = "password",
        known_hosts: str | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        hosts = self.folder / "known_hosts"
        hosts.write_text(server.known_hosts if known_hosts is None else known_hosts)
        askpass = self.folder / "askpass"
        if not askpass.exists():
            askpass.write_text('#!/bin/sh\nprintf "%s\\n" "$HOSTILE_PASSWORD"\n')
            askpass.chmod(0o700)
        fixed = {
            "UserKnownHostsFile": str(hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "PreferredAuthentications": methods,
            "IdentityAgent": "none",
            "IdentitiesOnly": "yes",
            "NumberOfPasswordPrompts": "1",
            "ConnectTimeout": "5",
        }
        options = [word for name, value in fixed.items() for word in ("-o", f"{name}={value}")]
        env = os.environ | {
            "SSH_ASKPASS": str(askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "HOSTILE_PASSWORD": password,
        }
        command = ["ssh", "-F", "none", "-p", str(server.port), *options]
        return subprocess.run(
            [*command, "-l", "joe", server.host, *arguments],
            input=stdin,
            capture_output=True,
            env=env,
            timeout=10,
        )


@pytest.fixture
def ssh(tmp_path: Path) -> Ssh:
    """The OpenSSH client, working in the test's folder."""
    return Ssh(tmp_path)


def counted(channel: Channel, command: str) -> None:
    """Answers with both streams and status 7."""
    channel.send_data(f"out {command}".encode())
    channel.send_data(b"err", stderr=True)
    channel.finish(7)


ETM, PLAIN = MACS
SUITES = [(cipher, ETM) for cipher in CIPHERS] + [("aes128-ctr", PLAIN), ("aes256-ctr", PLAIN)]


@pytest.mark.parametrize(("cipher", "mac"), SUITES)
def test_ssh_logs_in_with_each_cipher_and_sees_the_exit_status(
    ssh: Ssh, cipher: str, mac: str
) -> None:
    """A password login, a command, both streams and the status pass under each cipher."""
    script = polite(Password("secret"), execute=counted)
    with HostileServer(script, ciphers=[cipher], macs=[mac]) as server:
        done = ssh(server, "who")
        conn = server.wait()
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out who", b"err")
    assert conn.negotiated["cipher_out"] == cipher
    assert conn.strict
    assert conn.auth_log[-1].password == "secret"


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("modern", [True, False])
def test_ssh_accepts_each_host_key_with_and_without_extensions(
    ssh: Ssh, kind: str, modern: bool
) -> None:
    """Host keys verify, and strict key exchange and EXT_INFO can be switched off."""
    with HostileServer(host_keys=[host_key(kind)], strict=modern, ext_info=modern) as server:
        done = ssh(server, "exit 3")
        conn = server.wait()
    assert done.returncode == 3
    assert conn.strict is modern


def test_ssh_refuses_an_unknown_host_key(ssh: Ssh) -> None:
    """Another key than the known one ends the connection before authentication."""
    with HostileServer() as server:
        other = host_key("ecdsa").known_hosts_line(server.host, server.port)
        done = ssh(server, "exit 0", known_hosts=other)
        conn = server.wait()
    assert done.returncode == 255
    assert conn.auth_log == []


@pytest.mark.parametrize("cipher", CIPHERS)
def test_ssh_survives_a_rekey_of_the_server(ssh: Ssh, cipher: str) -> None:
    """Key exchanges begun by the server in mid-output change keys and lose nothing."""

    def rekeying(channel: Channel, command: str) -> None:
        for part in (b"a", b"b", b"c"):
            channel.send_data(part * 40_000)
            channel.conn.rekey()
        channel.finish(4)

    with HostileServer(polite(execute=rekeying), ciphers=[cipher]) as server:
        done = ssh(server, "x")
        conn = server.wait()
    assert done.returncode == 4
    assert done.stdout == b"a" * 40_000 + b"b" * 40_000 + b"c" * 40_000
    assert conn.kex_count == 4


def test_rekey_of_the_client_is_answered(ssh: Ssh) -> None:
    """A client that rekeys after every 64 KiB gets all of its 300 KiB back."""
    data = os.urandom(300_000)
    with HostileServer() as server:
        done = ssh(server, "-o", "RekeyLimit=64K", "cat", stdin=data)
        conn = server.wait()
    assert done.stdout == data
    assert conn.kex_count > 3


def test_small_windows_are_kept_in_both_directions(ssh: Ssh) -> None:
    """The server adjusts its small window, waits for the client's, and loses no byte."""
    data = os.urandom(3_000_000)  # more than the client's first window
    with HostileServer(window=10_000, max_packet=3_000) as server:
        done = ssh(server, "cat", stdin=data)
        server.wait()
    assert done.stdout == data


def test_ssh_answers_every_round_of_prompts(ssh: Ssh) -> None:
    """keyboard-interactive runs several rounds, one of them without prompts."""
    rounds = [Round([("One: ", False), ("Two: ", True)]), Round(), Round([("Three: ", False)])]
    factor = Interactive(*rounds, answers=[["pw", "pw"], [], ["pw"]])
    with HostileServer(polite(factor)) as server:
        done = ssh(server, "exit 5", password="pw", methods="keyboard-interactive")
        conn = server.wait()
    assert done.returncode == 5
    assert conn.auth_log[-1].answers == [["pw", "pw"], [], ["pw"]]


def test_ssh_passes_two_factors_after_a_banner(ssh: Ssh, tmp_path: Path) -> None:
    """A verified key signature, then a password, count as partial and full success."""
    path = tmp_path / "id"
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=10
    )
    script = polite(PublicKey(), Password("secret"), require_all=True, banner="Hello\n")
    with HostileServer(script) as server:
        arguments = ["-i", str(path), "exit 6"]
        done = ssh(server, *arguments, methods="publickey,password")
        conn = server.wait()
    assert done.returncode == 6
    assert b"Hello" in done.stderr
    signed = [one.method for one in conn.auth_log if one.signature or one.password]
    assert signed == ["publickey", "password"]


def test_ssh_fails_with_a_wrong_password(ssh: Ssh) -> None:
    """A refused password is refused."""
    with HostileServer(polite(Password("right"))) as server:
        done = ssh(server, "exit 0", password="wrong")
        conn = server.wait()
    assert done.returncode == 255
    assert conn.auth_log[-1].password == "wrong"


def test_ssh_reports_a_missing_status_and_a_signal(ssh: Ssh) -> None:
    """CLOSE without a status, and exit-signal instead of one, are not taken for success."""

    def ends(channel: Channel, command: str) -> None:
        if command == "signal":
            channel.exit_signal("KILL", text="killed")
        channel.send_close()

    with HostileServer(polite(execute=ends)) as server:
        assert ssh(server, "nothing").returncode == 255
        assert ssh(server, "signal").returncode == 255
        server.wait(2)


def test_one_hostile_server_is_reached_through_another(ssh: Ssh) -> None:
    """`ssh -W` crosses a bastion whose channel is bridged to a second server."""
    with HostileServer() as target:
        with HostileServer(polite(forward=lambda host, port: target)) as bastion:
            done = ssh(bastion, "-W", "inner.example:2200", stdin=b"SSH-2.0-probe\r\n")
            conn = bastion.wait()
        inner = target.wait()
    assert done.stdout.startswith(target.options.version)
    assert conn.opens[0].target == ("inner.example", 2200)
    assert inner.client_version == b"SSH-2.0-probe"


def test_ssh_reports_a_refused_forward(ssh: Ssh) -> None:
    """The reason of a refused direct-tcpip open reaches the user."""
    refuse = Refuse(OpenReason.CONNECT_FAILED, "no route to nowhere")
    with HostileServer(polite(forward=lambda host, port: refuse)) as server:
        done = ssh(server, "-W", "nowhere:22")
    assert done.returncode != 0
    assert b"no route to nowhere" in done.stderr


def by_verdict(
    attacks: Iterable[catalogue.Attack[Any]], *verdicts: bool | None
) -> pytest.MarkDecorator:
    """Parametrizes over the attacks with these verdicts."""
    chosen = [attack for attack in attacks if attack.fatal in verdicts]
    return pytest.mark.parametrize("attack", chosen, ids=str)


@by_verdict(catalogue.VERSIONS, True)
def test_ssh_hangs_up_on_a_bad_version(ssh: Ssh, attack: Attack) -> None:
    """Wrong versions, over-long lines and endless banners end the connection."""

    def script(conn: Conn) -> None:
        attack.act(conn)
        conn.wait_closed()

    with HostileServer(script) as server:
        done = ssh(server, "exit 0")
        conn = server.wait()
    assert done.returncode == 255
    assert 20 not in conn.received


@pytest.mark.parametrize("attack", catalogue.KEX, ids=str)
def test_ssh_refuses_a_tampered_key_exchange(ssh: Ssh, attack: catalogue.KexAttack) -> None:
    """No tampered key exchange leads to authentication."""
    with HostileServer(polite(tamper=attack.tamper)) as server:
        done = ssh(server, "exit 0")
        conn = server.wait()
    assert done.returncode == 255
    assert conn.auth_log == []


@by_verdict(catalogue.AUTH, True)
def test_ssh_hangs_up_on_a_malformed_answer_to_its_login(ssh: Ssh, attack: Attack) -> None:
    """Malformed authentication messages that must be fatal are fatal to OpenSSH."""

    def script(conn: Conn) -> None:
        catalogue.until("auth", attack.act)(conn)
        conn.wait_closed()

    with HostileServer(script) as server:
        done = ssh(server, "exit 0")
        server.wait()
    assert done.returncode == 255


FATAL = [attack for attack in catalogue.PACKETS if attack.fatal]
FRAMING = [attack for attack in FATAL if attack.name.startswith(("packet length", "padding"))]


@pytest.mark.parametrize(
    ("cipher", "attack"),
    [*((CIPHERS[0], one) for one in FATAL), *(("aes128-ctr", one) for one in FRAMING)],
    ids=str,
)
def test_ssh_hangs_up_on_a_malformed_packet(ssh: Ssh, cipher: str, attack: Attack) -> None:
    """Each malformed encrypted packet that must be fatal is fatal to OpenSSH."""

    def script(conn: Conn) -> None:
        catalogue.until("exec", attack.act)(conn)
        conn.wait_closed()

    with HostileServer(script, ciphers=[cipher], macs=[ETM]) as server:
        done = ssh(server, "true")
        server.wait()
    assert done.returncode == 255


@by_verdict(catalogue.PACKETS, False)
def test_ssh_carries_on_after_an_odd_packet(ssh: Ssh, attack: Attack) -> None:
    """What the protocol tells clients to ignore or to refuse does not end the command."""
    with HostileServer(polite(after_auth=attack.act)) as server:
        done = ssh(server, "exit 9")
        server.wait()
    assert done.returncode == 9


@by_verdict(catalogue.CHANNELS, True, False, None)
def test_ssh_ends_after_hostile_channel_messages(
    ssh: Ssh, attack: catalogue.Attack[Channel]
) -> None:
    """After each channel attack the client gives up or finishes; it neither hangs nor dies."""

    def attacking(channel: Channel, command: str) -> None:
        attack.act(channel)
        channel.finish(8)

    with HostileServer(polite(execute=attacking)) as server:
        done = ssh(server, "true")
        server.wait()
    assert done.returncode in (8, 255)


@pytest.mark.parametrize("phase", catalogue.PHASES)
def test_connection_can_be_dropped_in_every_phase(ssh: Ssh, phase: str) -> None:
    """`until` gets as far as it says, and a drop there is a failure for the client."""
    reached: list[Conn] = []
    with HostileServer(catalogue.until(phase, reached.append)) as server:
        done = ssh(server, "exit 0")
        conn = server.wait()
    assert done.returncode == 255
    assert reached == [conn]


def test_unread_flood_is_cut_short_by_the_client_leaving() -> None:
    """`flood` reports how much it sent once the client hangs up."""
    sent: list[int] = []

    def script(conn: Conn) -> None:
        sent.append(conn.flood(wire.ignore(bytes(1000))))

    with HostileServer(script) as server, server.connect() as client:
        assert client.recv(4096)
        client.close()
        server.wait()
    assert sent[0] >= 1


def test_error_of_the_script_is_raised_at_the_end() -> None:
    """A failed assertion in a script fails the test; a hang-up of the client does not."""

    def misbehave() -> None:
        with HostileServer() as server, server.connect() as client:
            client.sendall(b"HELLO\r\n")
            assert client.recv(100).startswith(b"SSH-2.0-Hostile")

    with pytest.raises(PeerError, match="bad client version"):
        misbehave()
    with HostileServer() as server:
        socket.create_connection(server.address).close()
        assert server.wait().received == []


def test_silent_client_runs_into_the_deadline() -> None:
    """Every wait of the server ends, even if the client says nothing and stays."""
    with HostileServer(timeout=0.01) as server, server.connect(), pytest.raises(TimeoutError):
        server.wait()


def test_stopping_interrupts_a_waiting_script() -> None:
    """The end of the block ends a script whose client is still connected."""
    started = threading.Event()

    def script(conn: Conn) -> None:
        started.set()
        conn.wait_closed()

    with HostileServer(script, grace=0.01) as server:
        client = server.connect()
        assert started.wait(10)
    with client:
        assert client.recv(1) == b""
    assert server.errors == []
