"""The proxy commands of docs/bastions.md, taken from the page as they are printed there.

The proxies of SOCKS and HTTP are our own. Where the real program cannot be had, one of its name
stands in that takes the same arguments and behaves as the real one is known to.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.proxy.commands import RELAY, connect, needs, started
from tests.support.sshd import Sshd

PAGE = (Path(__file__).parents[2] / "docs/bastions.md").read_text()
ROW = re.compile(r"^\| ([^|]+) \| `([\"\[].+?)` \| (yes|stand-in) \|$", re.MULTILINE)
RECIPES = {name: ast.literal_eval(text) for name, text, _ in ROW.findall(PAGE)}

#: aws, gcloud and cloudflared, as far as anybody behind their pipes can tell: a wrapper that takes
#: its time (until the gate opens), talks, and leaves the work to a descendant in another group.
STAND_IN = """#!/bin/sh
echo "$0 $*" >>{log}
echo "Starting session with SessionId: alice-0123" >&2
read go <{gate}
set -m
exec 3<&0
{relay} "$(cat {where}/host)" "$(cat {where}/port)" <&3 &
wait
"""


class Proxy:
    """A SOCKS 4a, SOCKS 5 and HTTP proxy on loopback; ``targets`` is what it was asked for."""

    def __init__(self) -> None:
        """Listen."""
        self.targets: list[tuple[str, int]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends = ExitStack()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """End it, with all that it carries."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for thread in self._threads:
            thread.join()
        self._ends.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._ends.enter_context(client)
            self._start(self._serve, client)

    def _start(self, call: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=call, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _serve(self, client: socket.socket) -> None:
        kind = _exactly(client, 1)
        answer = b""
        if kind == b"\5":
            _exactly(client, _exactly(client, 1)[0])  # methods
            client.sendall(b"\5\0")  # none is needed
            _exactly(client, 3)
            form = _exactly(client, 1)
            host = (
                socket.inet_ntoa(_exactly(client, 4))
                if form == b"\1"
                else _exactly(client, _exactly(client, 1)[0]).decode()
            )
            port = int.from_bytes(_exactly(client, 2), "big")
            answer = b"\5\0\0\1" + bytes(6)
        elif kind == b"\4":
            _exactly(client, 1)
            port = int.from_bytes(_exactly(client, 2), "big")
            address = _exactly(client, 4)
            _until(client, b"\0")  # user
            # Addresses 0.0.0.x are SOCKS 4a's sign that a name follows.
            is_name = address[:3] == bytes(3)
            host = _until(client, b"\0").decode() if is_name else socket.inet_ntoa(address)
            answer = b"\0\x5a" + bytes(6)
        else:
            request = (kind + _until(client, b"\r\n\r\n")).decode()
            host, _, number = request.split()[1].partition(":")
            port = int(number)
            answer = b"HTTP/1.1 200 Connection established\r\n\r\n"
        self.targets.append((host, port))
        server = self._ends.enter_context(socket.create_connection((host, port)))
        client.sendall(answer)
        self._start(_copy, client, server)
        _copy(server, client)


def _exactly(peer: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        part = peer.recv(count - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _until(peer: socket.socket, mark: bytes) -> bytes:
    data = b""
    while not data.endswith(mark):
        data += _exactly(peer, 1)
    return data.removesuffix(mark)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return  # one of them has gone


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """Return a running proxy."""
    running = Proxy()
    yield running
    running.close()


def test_every_recipe_is_tried() -> None:
    """No row of the page's table is forgotten here."""
    assert len(RECIPES) == PAGE.count("| yes |") + PAGE.count("| stand-in |") == 10


@needs("nc")
@needs("socat")
@pytest.mark.parametrize("name", ["netcat", "socat"])
def test_relays(target: Sshd, name: str) -> None:
    """netcat and socat carry a connection."""
    with connect(target, RECIPES[name]) as connection:
        assert connection.execute("cat", input="x" * 300_000).stdout == "x" * 300_000
    assert not started()


@needs("nc")
@needs("socat")
@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith(("SOCKS", "HTTP"))])
def test_proxies(target: Sshd, proxy: Proxy, name: str) -> None:
    """SOCKS and HTTP proxies carry a connection; they get the target's name and port."""
    command = RECIPES[name]
    for port in (1080, 3128):
        command = command.replace(f"proxy.example:{port}", f"127.0.0.1:{proxy.port}")
        command = command.replace(f"port={port}", f"port={proxy.port}")
    command = command.replace("proxy.example", "127.0.0.1")
    with connect(target, command) as connection:
        assert connection.execute("cat", input="x" * 300_000).stdout == "x" * 300_000
    assert not started()
    assert proxy.targets == [(target.host, target.port)]


def test_openssh(target: Sshd, bastion: Sshd, home: Path, tmp_path: Path) -> None:
    """`ssh -W` finds "bastion" in the user's own configuration, as it does at a terminal."""
    alice = bastion.alice
    config = tmp_path / "config"
    config.write_text(
        f"Host bastion\nHostName {bastion.host}\nPort {bastion.port}\nUser {alice.name}\n"
        f"IdentityFile {alice.key.path}\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n"
    )
    # ssh takes the home from the user database, so the test names the file.
    command = RECIPES["a jump by OpenSSH"].replace("ssh ", f"ssh -F {shlex.quote(str(config))} ")
    with connect(target, command) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert not started()
    assert [each.target for each in bastion.forwards()] == [(target.host, target.port)]


@pytest.mark.parametrize("name", [name for name in RECIPES if name[0] in "AGC"])
def test_stand_ins(
    target: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Programs that start slowly and leave descendants work under their own names for hosts."""
    command = RECIPES[name]
    program = command.split()[0] if isinstance(command, str) else command[0]
    tools, gate, log = tmp_path / "tools", tmp_path / "gate", tmp_path / "log"
    tools.mkdir()
    os.mkfifo(gate)
    (tmp_path / "host").write_text(target.host)
    (tmp_path / "port").write_text(str(target.port))
    stand_in = tools / program
    stand_in.write_text(
        STAND_IN.format(log=log, gate=gate, relay=shlex.join(RELAY[:4]), where=tmp_path)
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    known = tmp_path / "known"
    known.write_text(target.known_hosts_line("i-0123456789abcdef", target.port))

    def open_the_gate() -> None:
        with gate.open("w") as file:  # opens once the program reads
            file.write("go\n")

    opener = threading.Thread(target=open_the_gate)
    opener.start()
    with connect(
        target,
        command,
        host="i-0123456789abcdef",
        known_hosts=known,
        host_key_policy="strict",
    ) as connection:
        assert connection.execute("echo in").stdout == "in\n"
        assert len(started()) >= 2
    opener.join()
    assert not started()
    words = log.read_text().split()
    expected = command.split() if isinstance(command, str) else command
    filled = [word.replace("%h", "i-0123456789abcdef") for word in expected]
    assert words[1:] == [word.replace("%p", str(target.port)) for word in filled[1:]]
