"""Bastions that refuse, and names that only a bastion knows."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKeyError, JumpRefused
from tests.jump.conftest import Login
from tests.support.processes import clean_environment
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
INNER = "db.inner.example"
MANY = 500 if os.environ.get("HUSSH_LONG") == "1" else 12


@contextmanager
def _free_port() -> Iterator[int]:
    """A port that is bound, so that nobody takes it, but where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.mark.parametrize(
    ("options", "place", "code", "hint"),
    [
        ({"AllowTcpForwarding": "no"}, "127.0.0.1", 1, "AllowTcpForwarding"),
        ({"PermitOpen": "none"}, "127.0.0.1", 1, "PermitOpen"),
        ({}, "127.0.0.1", 2, "cannot reach"),
        ({}, "no.such.host.example", 2, "check the name"),
    ],
    ids=["forwarding-off", "permit-none", "closed-port", "unknown-name"],
)
def test_refusals(
    options: dict[str, str],
    place: str,
    code: int,
    hint: str,
    sshd_factory: SshdFactory,
    login: Login,
) -> None:
    """A refusal says who refused what, why, in the server's words, and what to look at."""
    server = sshd_factory(options=options)
    bastion = login(server)
    with _free_port() as port:
        for _ in range(2):
            with pytest.raises(JumpRefused) as refused:
                login(server, host=place, port=port, proxy_jump=bastion)
            error = refused.value
            assert error.reason_code == code
            assert error.reason_text
            assert error.reason_text in str(error)
            assert error.target == f"{place}:{port}"
            assert error.target in str(error)
            assert error.hop == f"{server.alice.name}@{server.host}:{server.port}"
            assert (error.hop_index, error.phase) == (0, "channel")
            assert hint in str(error)
            assert isinstance(error, OSError)
            assert isinstance(error, RuntimeError)
            assert bastion.execute("echo usable").stdout == "usable\n"
    assert server.connections() == 1


def test_refusal_by_a_hidden_hop(sshd_factory: SshdFactory, login: Login) -> None:
    """In a chain the error names the hop that refused, and nothing of the chain stays."""
    first = sshd_factory()
    second = sshd_factory(options={"AllowTcpForwarding": "no"})
    last = sshd_factory()
    chain = [(first.host, first.port), (second.host, second.port)]
    with pytest.raises(JumpRefused) as refused:
        login(last, proxy_jump=chain)
    assert refused.value.hop == f"{last.alice.name}@{second.host}:{second.port}"
    assert refused.value.hop_index == 1
    assert last.connections() == 0
    first.wait_for_log("^(Received disconnect|Disconnected from)|Broken pipe")


def test_name_known_to_the_bastion_only(
    sshd_factory: SshdFactory, login: Login, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The bastion resolves the target's name; the key is looked up under the name, not here."""
    last = sshd_factory(name="inner")
    server = sshd_factory(hosts={INNER: last.host})
    known = tmp_path / "known"
    known.write_text(server.known_hosts_line() + last.known_hosts_line(host=INNER))
    asked: list[str] = []

    def spy(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(host: Any, *rest: Any, **named: Any) -> Any:
            asked.append(str(host))
            return function(host, *rest, **named)

        return call

    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        monkeypatch.setattr(socket, name, spy(getattr(socket, name)))
    strict = {"known_hosts": str(known), "host_key_policy": "strict"}
    bastion = login(server, **strict)
    jumped = login(last, host=INNER, proxy_jump=bastion, **strict)
    assert jumped.execute("echo $SERVER_NAME").stdout == "inner\n"
    assert jumped.host == INNER
    assert [each.target for each in server.forwards()] == [(INNER, last.port)]
    hidden = login(last, host=INNER, proxy_jump=(server.host, server.port), **strict)
    assert hidden.execute("true").status == 0
    assert set(asked) == {server.host}
    # An entry for the address does not count for the name.
    known.write_text(server.known_hosts_line() + last.known_hosts_line())
    with pytest.raises(HostKeyError) as refused:
        login(last, host=INNER, proxy_jump=bastion, **strict)
    assert refused.value.host == f"[{INNER}]:{last.port}"
    assert refused.value.hop == f"{last.alice.name}@{INNER}:{last.port}"


_CONNECT = """
import sys
import hussh
host, port, user, key, bastion = sys.argv[1:]
with hussh.Connection(host, int(port), user, private_key=key, proxy_jump=bastion) as jumped:
    assert jumped.execute("echo $SERVER_NAME").stdout == "inner\\n"
"""


def test_no_resolver_is_asked(sshd_factory: SshdFactory, tmp_path: Path) -> None:
    """The system calls of a whole connect show no look at hosts files, no query of a server."""
    last = sshd_factory(name="inner")
    server = sshd_factory(hosts={INNER: last.host})
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-s", "256", "-e", "trace=openat,connect,sendto,sendmsg"]
    alice = last.alice
    arguments = [
        INNER,
        str(last.port),
        alice.name,
        str(alice.key.path),
        f"{server.host}:{server.port}",
    ]
    try:
        done = subprocess.run(
            [*strace, "-o", str(trace), sys.executable, "-c", _CONNECT, *arguments],
            capture_output=True,
            text=True,
            env=clean_environment(PYTHONPATH=str(Path(__file__).parents[2]), HOME=str(tmp_path)),
            timeout=60,
        )
    except FileNotFoundError:
        pytest.skip("needs strace")
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")
    text = trace.read_text()
    assert f"sin_port=htons({server.port})" in text  # it does show what is looked at
    for sign in ("/etc/hosts", "resolv.conf", "nscd", "htons(53)", INNER):
        assert sign not in text, sign


def test_names_in_a_chain(sshd_factory: SshdFactory, login: Login) -> None:
    """Each name of a chain is resolved by the hop before it."""
    last = sshd_factory(name="last")
    second = sshd_factory(hosts={"last.example": last.host})
    first = sshd_factory(hosts={"second.example": second.host})
    chain = [(first.host, first.port), f"second.example:{second.port}"]
    jumped = login(last, host="last.example", proxy_jump=chain)
    assert jumped.execute("echo $SERVER_NAME").stdout == "last\n"
    with pytest.raises(JumpRefused) as refused:
        login(last, host="second.example", proxy_jump=chain)
    assert refused.value.hop == f"{last.alice.name}@second.example:{second.port}"


def test_one_session_and_many_targets(sshd_factory: SshdFactory, login: Login) -> None:
    """`MaxSessions 1` is for commands: beside one that runs any number of targets is carried."""
    server = sshd_factory(options={"MaxSessions": 1})
    last = sshd_factory(name="last", options={"UsePAM": "no"}, pam=None)
    bastion = login(server)
    with bastion.popen("cat") as running:
        jumped = [login(last, proxy_jump=bastion) for _ in range(MANY)]
        for number, each in enumerate(jumped):
            assert each.execute(f"echo {number}").stdout == f"{number}\n"
        running.stdin.write(b"still there\n")
        running.stdin.flush()
        assert running.stdout.readline() == b"still there\n"
        running.stdin.close()
        assert running.wait() == 0
    assert server.connections() == 1
    assert len(server.forwards()) == MANY


def test_maxsessions_does_not_limit_targets(sshd_factory: SshdFactory, login: Login) -> None:
    """A bastion that allows no session at all still carries targets."""
    server = sshd_factory(options={"MaxSessions": 0})
    last = sshd_factory(name="last")
    bastion = login(server)
    jumped: list[Connection] = [login(last, proxy_jump=bastion) for _ in range(3)]
    assert {each.execute("echo $SERVER_NAME").stdout for each in jumped} == {"last\n"}
