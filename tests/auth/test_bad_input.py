"""Arguments that cannot be used: refused with the right error before any socket opens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from hussh._connect import connect as module
from hussh._connect import owned_sockets
from tests.support.sshd import Sshd


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every attempt to resolve, dial or start anything a failure of the test."""

    def never(*_given: Any, **_named: Any) -> None:
        pytest.fail("something was opened")

    monkeypatch.setattr(module, "dial", never)
    monkeypatch.setattr(socket, "socket", never)
    monkeypatch.setattr(owned_sockets, "Socket", never)
    monkeypatch.setattr(socket, "getaddrinfo", never)


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"host": None}, TypeError, "host must be a string"),
    ({"host": b"h"}, TypeError, "host must be a string"),
    ({"host": ""}, ValueError, "host is empty"),
    ({"host": "[]"}, ValueError, "host is empty"),
    ({"host": "h\0x"}, ValueError, "control"),
    ({"host": "h\nx"}, ValueError, "control"),
    ({"host": "h x"}, ValueError, "blanks"),
    ({"host": "-oProxyCommand=x"}, ValueError, "begins with"),
    ({"host": "user@h"}, ValueError, "not a host name"),
    ({"host": "h:22"}, ValueError, "not a host name"),
    ({"host": "h\udcff"}, ValueError, "control"),
    ({"port": 0}, TypeError, "valid integer"),
    ({"port": 65536}, TypeError, "valid integer"),
    ({"port": -1}, TypeError, "valid integer"),
    ({"port": 22.0}, TypeError, "valid integer"),
    ({"port": True}, TypeError, "valid integer"),
    ({"port": "ssh"}, TypeError, "valid integer"),
    ({"username": 7}, TypeError, "username"),
    ({"username": "a\nb"}, ValueError, "username"),
    ({"username": "a\0b"}, ValueError, "username"),
    ({"password": 7}, TypeError, "password must be a string"),
    ({"password": b"secret-4711"}, TypeError, "password must be a string"),
    ({"password": "secret-4711\0x"}, ValueError, "password"),
    ({"password": "secret-4711\ud800"}, ValueError, "password"),
    ({"private_key": 7}, TypeError, ""),
    ({"proxy_jump": 7}, TypeError, "proxy_jump must be a Connection, "),
    ({"proxy_jump": ("h", "x")}, TypeError, "port must be a valid integer"),
    ({"proxy_jump": "h:x"}, TypeError, "port must be a valid integer"),
    ({"proxy_jump": "u:secret-4711@h"}, ValueError, "password"),
    ({"proxy_jump": ""}, ValueError, "host is empty"),
    ({"proxy_jump": "a,,b"}, ValueError, "host is empty"),
    ({"proxy_jump": "u@h,u@h"}, ValueError, "twice"),
    ({"proxy_jump": ",".join(f"h{n}" for n in range(11))}, ValueError, "more than 10"),
    ({"proxy_jump": "h", "proxy_command": "nc"}, TypeError, "mutually exclusive"),
    ({"proxy_command": "nc %z"}, ValueError, "token"),
    ({"timeout": -1}, ValueError, "timeout"),
    ({"timeout": float("nan")}, ValueError, "timeout"),
    ({"timeout": float("inf")}, ValueError, "timeout"),
    ({"timeout": "5"}, TypeError, "timeout"),
    ({"timeout": True}, TypeError, "timeout"),
    ({"host_key_policy": "no"}, ValueError, "accept-unknown, accept-new, strict, ignore"),
    ({"host_key_policy": None}, ValueError, "host_key_policy"),
    ({"known_hosts": 7}, TypeError, "a path or a list of paths"),
    ({"known_hosts": None}, TypeError, 'host_key_policy="ignore"'),
    ({"known_hosts": ["k", 7]}, TypeError, "a path or a list of paths"),
    ({"known_hosts": ["a\0b"]}, ValueError, "known_hosts"),
    ({"known_hosts": [], "host_key_policy": "accept-new"}, ValueError, "known_hosts"),
    ({"agent": 7}, TypeError, "agent must be"),
    ({"agent": b"path"}, TypeError, "agent must be"),
    ({"agent": "a\0b"}, ValueError, "agent"),
    ({"prompt": "secret-4711"}, TypeError, "prompt must be callable"),
    ({"ciphers": "aes256-ctr"}, TypeError, "ciphers must be a list"),
    ({"ciphers": []}, ValueError, "ciphers is empty"),
    ({"ciphers": ["aes256-ctr", "aes256-crt"]}, ValueError, "'aes256-crt' is not one of"),
    ({"ciphers": [7]}, TypeError, "ciphers must be a list"),
    ({"ciphers": None}, TypeError, ""),
    ({"ciphers": ["aes256-ctr,3des-cbc"]}, ValueError, "is not one of"),
    ({"key_exchange": ["ext-info-c"]}, ValueError, "key_exchange"),
    ({"macs": ["none"]}, ValueError, "macs"),
    ({"host_key_algorithms": ["ssh-dss"]}, ValueError, "host_key_algorithms"),
    (
        {"host_key_algorithms": ["ssh-ed25519-cert-v00@openssh.com"]},
        ValueError,
        "host_key_algorithms",
    ),
    ({"unknown": 1}, TypeError, "unknown"),
]


@pytest.mark.parametrize(
    ("given", "error", "says"), BAD, ids=[f"{n}-{','.join(each[0])}" for n, each in enumerate(BAD)]
)
def test_bad_argument(given: dict[str, Any], error: type[Exception], says: str) -> None:
    """The error has the class that says whose fault it is, and repeats no secret."""
    with pytest.raises(error) as caught:
        Connection(**{"host": "host.example", **given})
    assert type(caught.value) is error
    assert says in str(caught.value)
    assert "secret-4711" not in f"{caught.value!r} {caught.value.__context__!r}"


@pytest.mark.parametrize("kind", [str, Path, lambda path: str(path).encode()])
def test_paths_of_every_type(
    kind: Callable[[Path], Any], target: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key and known_hosts files may be given as text, as a path object or as bytes."""
    monkeypatch.undo()
    known = tmp_path / "known"
    known.write_text(target.known_hosts_line())
    key = target.alice.key.path
    with Connection(
        target.host,
        str(target.port),  # type: ignore[arg-type]
        target.alice.name,
        private_key=kind(key),
        known_hosts=kind(known),
        host_key_policy="strict",
    ) as connection:
        assert connection.private_key == str(key)
        assert connection.port == target.port
