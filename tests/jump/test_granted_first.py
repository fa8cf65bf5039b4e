"""Bastions that grant a way before they have connected to its end, and close it if they cannot."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, JumpRefused, ServerBusy
from hussh.multi_conn import MultiConnection
from tests.jump.test_jump_refused import _free_port
from tests.support.hostile import Channel, Conn, HostileServer, polite
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd


@pytest.fixture
def twisted() -> Iterator[int]:
    """Return the port of a bastion of Twisted Conch."""
    pytest.importorskip("twisted.conch", reason="twisted[conch] is in the test group")
    script = Path(__file__).with_name("twisted_bastion.py")
    with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


def shared(port: int, target: int, **options: Any) -> MultiConnection:
    """One host behind the bastion, in a batch that tries again what is refused."""
    return MultiConnection.from_shared_auth(
        [{"host": "127.0.0.1", "port": target}],
        username="alice",
        host_key_policy="ignore",
        proxy_jump=f"alice@127.0.0.1:{port}",
        **{"timeout": 60, **options},
    )


def test_twisted(twisted: int, target: Sshd) -> None:
    """A closed port behind Twisted is a refusal by the bastion; a server there is reached."""
    bastion = Connection("127.0.0.1", twisted, "alice", "secret", host_key_policy="ignore")
    with bastion, _free_port() as port:
        with pytest.raises(JumpRefused, match="closed it before a byte came") as refused:
            Connection("127.0.0.1", port, "x", "x", proxy_jump=bastion, host_key_policy="ignore")
        error = refused.value
        assert (error.hop, error.hop_index) == (f"alice@127.0.0.1:{twisted}", 0)
        assert (error.phase, error.reason_code) == ("channel", 2)
        assert error.target == f"127.0.0.1:{port}"
        with Connection(target.host, target.port, target.alice.name, proxy_jump=bastion,
                        private_key=target.alice.key.path) as through:  # fmt: skip
            assert through.execute("echo here").stdout == "here\n"
        with contextlib.closing(shared(twisted, port, password="secret")) as multi:
            (result,) = multi.execute("true").values()
            assert "closed it before a byte came" in result.stderr
            assert "tries" not in result.stderr


class Granting:
    """Grants each way and closes it at once, in its own manner; counts the ways."""

    def __init__(self, close: Callable[[Channel], object]) -> None:
        self.close = close
        self.ways = 0

    def __call__(self, conn: Conn) -> None:
        conn.login()
        while True:
            channel = conn.accept_channel("direct-tcpip")
            self.ways += 1
            self.close(channel)


def _with_eof(channel: Channel) -> None:
    channel.send_eof()
    channel.send_close()


PARAMIKO = {"version": b"SSH-2.0-paramiko_3.4.0"}


@pytest.mark.parametrize(
    ("close", "options", "kind"),
    [
        (Channel.send_close, {}, JumpRefused),
        (_with_eof, PARAMIKO, JumpRefused),
        (Channel.send_eof, PARAMIKO, JumpRefused),  # the CLOSE may come in a later packet
        (_with_eof, {}, ServerBusy),  # whoever was there has hung up
    ],
    ids=["at-once", "paramiko", "paramiko-before-close", "with-eof"],
)
def test_by_how_it_closes(
    close: Callable[[Channel], object], options: dict[str, Any], kind: type[Exception]
) -> None:
    """What led nowhere is tried once; what was connected and hung up counts as busy."""
    granting = Granting(close)
    with HostileServer(granting, **options) as server:
        with contextlib.closing(shared(server.port, 22, password="secret", timeout=5)) as multi:
            (result,) = multi.execute("true").values()
        assert isinstance(result.error, kind)
    assert (granting.ways == 1) is (kind is JumpRefused)


@pytest.mark.parametrize(
    ("version", "hint", "not_there"),
    [
        (b"SSH-2.0-OpenSSH_9.2", "see AllowTcpForwarding and PermitOpen", "dropbear"),
        (b"SSH-2.0-dropbear_2022.83", "see its options -j and -b", "AllowTcpForwarding"),
        (b"SSH-2.0-lshd", "see what it calls TCP forwarding", "AllowTcpForwarding"),
    ],
)
def test_advice(version: bytes, hint: str, not_there: str) -> None:
    """What one can do about a refused way is told in the words of that server."""
    with HostileServer(polite(), version=version) as server:
        bastion = Connection("127.0.0.1", server.port, "u", "p", host_key_policy="ignore")
        with bastion, pytest.raises(JumpRefused) as refused:
            Connection("127.0.0.1", 1, "x", "x", proxy_jump=bastion)
        assert hint in str(refused.value)
        assert not_there not in str(refused.value)


def test_silence_is_no_refusal(twisted: int, mute_listener: MuteListener) -> None:
    """A peer behind such a bastion that accepts and says nothing is waited for."""
    bastion = Connection("127.0.0.1", twisted, "alice", "secret", host_key_policy="ignore")
    with bastion, pytest.raises(TimeoutError) as timeout:
        Connection(mute_listener.host, mute_listener.port, "x", "x", proxy_jump=bastion,
                   timeout=300, host_key_policy="ignore")  # fmt: skip
    assert not isinstance(timeout.value, JumpRefused)
