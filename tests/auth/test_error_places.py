"""Every failure says on which hop and in which phase: faults of all kinds on each of three hops."""

from __future__ import annotations

import contextlib
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hussh import (
    AuthenticationError,
    ConnectError,
    Connection,
    ConnectionLost,
    ConnectTimeout,
    HostKeyError,
    HusshError,
    JumpRefused,
    KeyRefused,
    NegotiationError,
    ProtocolError,
    ServerBusy,
)
from tests.auth.steps import SshdFactory
from tests.hostkeys.lines import line
from tests.support.hostile import Conn, HostileServer, Password, Script, Tamper, polite
from tests.support.hostile_catalogue import until
from tests.support.keys import Keys
from tests.support.sshd import Sshd

TIMEOUT = 600  # milliseconds, of which a fault that is no time-out uses few


@dataclass(frozen=True)
class Fault:
    """What is wrong with one hop, and what the error must be.

    Attributes:
        direct, behind: class and phase when dialled from here, and through a bastion.
        says: what its text tells about the cause, or what to do.
    """

    name: str
    script: Script | None
    direct: tuple[type[HusshError], str]
    says: str
    behind: tuple[type[HusshError], str] | None = None
    options: tuple[tuple[str, Any], ...] = ()
    key: bool = False  # log in with a key, not with a password


def _corrupt(signature: bytes) -> bytes:
    return signature[:-1] + bytes((signature[-1] ^ 1,))


def _say(text: bytes) -> Script:
    return lambda conn: conn.send_raw(text)


def _goodbye(conn: Conn) -> None:
    conn.send_disconnect(11, "closed for maintenance")


FAULTS = [
    Fault("unknown name", None, (ConnectError, "dns"), "not known", (JumpRefused, "channel")),
    Fault("nobody listens", None, (ConnectError, "connect"), "refused", (JumpRefused, "channel")),
    Fault("hangs up", until("connect", lambda _: None), (ServerBusy, "banner"), "busy"),
    Fault(
        "says why and hangs up",
        _say(b"Exceeded MaxStartups\r\n"),
        (ServerBusy, "banner"),
        "Exceeded MaxStartups",
    ),
    Fault("mute", until("connect", Conn.wait_closed), (ConnectTimeout, "banner"), "SSH banner"),
    Fault("no SSH", _say(b"HTTP/1.1 400\r\n" * 5000), (ProtocolError, "banner"), "protocol"),
    Fault("mute in kex", until("version", Conn.wait_closed), (ConnectTimeout, "kex"), "keys"),
    Fault("ends in kex", until("reply", lambda _: None), (ConnectionLost, "kex"), "lost"),
    Fault(
        "nothing in common",
        polite(),
        (NegotiationError, "kex"),
        "ciphers=",
        options=(("ciphers", ("aes128-cbc",)),),
    ),
    Fault("bad signature", polite(tamper=Tamper(edit_signature=_corrupt)),
          (ProtocolError, "kex"), "key exchange"),
    Fault("changed key", polite(), (HostKeyError, "hostkey"), "ssh-keygen -R"),
    Fault("mute in auth", until("auth", Conn.wait_closed), (ConnectTimeout, "auth"), "authentic"),
    Fault("ends in auth", until("auth", lambda _: None), (ConnectionLost, "auth"), "lost"),
    Fault("says goodbye", until("auth", _goodbye), (ConnectionLost, "auth"), "maintenance"),
    Fault("refuses", polite(Password("other")), (AuthenticationError, "auth"), "password"),
    Fault("refuses the key", polite(Password("other")), (KeyRefused, "auth"), "key", key=True),
]  # fmt: skip


@contextlib.contextmanager
def carriers(count: int, *servers: Sshd) -> Iterator[list[Connection]]:
    """Connect so many hops in a row."""
    with contextlib.ExitStack() as stack:
        made: list[Connection] = []
        for server in servers[:count]:
            made.append(
                stack.enter_context(
                    Connection(
                        server.host,
                        server.port,
                        server.alice.name,
                        private_key=server.alice.key.path,
                        proxy_jump=made[-1] if made else None,
                    )
                )
            )
        yield made


@contextlib.contextmanager
def place_of(fault: Fault) -> Iterator[tuple[str, int]]:
    """Make what the fault is about; yields where to find it."""
    if fault.script is not None:
        with HostileServer(fault.script, **dict(fault.options)) as server:
            yield server.address
        return
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        host = "127.0.0.1" if fault.name == "nobody listens" else "unknown-name.invalid"
        yield host, taken.getsockname()[1]


def _unknown(real: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(host: str, *rest: Any, **more: Any) -> Any:
        if str(host).endswith(".invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, *rest, **more)

    return getaddrinfo


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault_on_each_hop(
    fault: Fault,
    index: int,
    bastion: Sshd,
    target: Sshd,
    keys: Keys,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error has the right class, hop, index and phase, says something useful, and pickles."""
    # The resolver of this machine could ask the network.
    monkeypatch.setattr(socket, "getaddrinfo", _unknown(socket.getaddrinfo))
    cls, phase = fault.behind if index and fault.behind else fault.direct
    with carriers(index, bastion, target) as way, place_of(fault) as (host, port):
        known_hosts = tmp_path / "known_hosts"
        known_hosts.write_text(line(f"[{host}]:{port}", keys.get(name="other-host")))
        # What lies behind the faulty hop is never reached, and so need not be there.
        jumps = [*way[-1:], f"mallory@{host}:{port}"]
        with pytest.raises(HusshError) as caught:
            Connection(
                "behind.invalid",
                22,
                "mallory",
                None if fault.key else "secret-4711",
                keys.get(name="stranger").path if fault.key else None,
                jumps,
                timeout=TIMEOUT if cls is ConnectTimeout else 20_000,
                known_hosts=known_hosts if fault.name == "changed key" else [],
            )
        for carrier in way:
            assert carrier.execute("echo alive").stdout == "alive\n"
    error = caught.value
    assert (type(error), error.phase) == (cls, phase)
    hop, at = f"mallory@{host}:{port}", index
    if cls is JumpRefused:  # it is the bastion that says no
        assert f"the way to {host}:{port}" in str(error)
        hop, at = f"alice@{way[-1].host}:{way[-1].port}", index - 1
    assert (error.hop, error.hop_index) == (hop, at)
    assert fault.says in str(error)
    assert str(error).endswith(f" [{hop}, {phase}]")
    assert "secret-4711" not in f"{error!r} {error}"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.__dict__) == (cls, str(error), error.__dict__)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"AllowTcpForwarding": "no"}, "AllowTcpForwarding"),
        ({"PermitOpen": "192.0.2.1:22"}, "PermitOpen"),
        ({"DisableForwarding": "yes"}, "AllowTcpForwarding"),
    ],
)
@pytest.mark.parametrize("index", [1, 2])
def test_bastion_that_forbids_the_way(
    options: dict[str, str],
    says: str,
    index: int,
    bastion: Sshd,
    target: Sshd,
    sshd_factory: SshdFactory,
) -> None:
    """A bastion's policy is told as the bastion's, with the target that cannot be reached."""
    strict = sshd_factory(options=options)
    ahead = [bastion][: index - 1]
    with carriers(index, *ahead, strict) as way:
        with pytest.raises(JumpRefused) as caught:
            Connection(target.host, target.port, "alice", "x", proxy_jump=way[-1])
        assert way[-1].execute("echo alive").stdout == "alive\n"
    error = caught.value
    assert (error.hop, error.hop_index) == (f"alice@{strict.host}:{strict.port}", index - 1)
    assert (error.phase, error.reason_code) == ("channel", 1)
    assert error.target == f"{target.host}:{target.port}"
    assert f"{strict.alice.name}@{strict.host}:{strict.port} refused the way to" in str(error)
    assert says in str(error)
