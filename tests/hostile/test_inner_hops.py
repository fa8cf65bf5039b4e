"""A bastion that attacks the connection which it carries."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, HostKeyError, PromptRequest, ProtocolError
from tests.support import hostile_wire as wire
from tests.support.hostile import (
    HostileServer,
    Interactive,
    Password,
    Round,
    Services,
    polite,
)
from tests.support.hostile_wire import Msg, PeerError
from tests.support.keys import Keys

CHACHA = "chacha20-poly1305@openssh.com"
SIG_ALGS = ("ssh-ed25519", "rsa-sha2-512")


class PrefixTruncation:
    """A way to a server that adds an IGNORE within the key exchange, and removes the EXT_INFO.

    That is the attack "Terrapin" (CVE-2023-48795): the numbers of the packets are right again.
    """

    def __init__(self, server: HostileServer) -> None:
        self.server = server
        self.removed = b""
        self.threads: list[threading.Thread] = []

    def connect(self) -> socket.socket:
        """Return the client's end of a new connection."""
        near, far = socket.socketpair()
        upstream = self.server.connect()
        for target in (self.down, self.up):
            self.threads.append(threading.Thread(target=target, args=(upstream, far)))
            self.threads[-1].start()
        return near

    def up(self, upstream: socket.socket, client: socket.socket) -> None:
        """Carry what the client sends."""
        with upstream, contextlib.suppress(OSError):  # the other direction may have ended it
            while data := client.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_RDWR)

    def down(self, upstream: socket.socket, client: socket.socket) -> None:
        """Carry what the server sends, after the attack."""
        with client, client.makefile("wb", 0) as sink, upstream.makefile("rb") as source:
            try:
                sink.write(source.readline())
                kind = 0
                while kind != Msg.NEWKEYS:
                    head = source.read(4)
                    body = source.read(int.from_bytes(head, "big"))
                    kind = body[1]
                    if kind == Msg.NEWKEYS:
                        sink.write(plain(wire.ignore()))
                    sink.write(head + body)
                self.removed = source.read(self.sealed_size())
                while data := source.read1(65536):
                    sink.write(data)
            except (OSError, IndexError):
                pass  # one side has gone
            client.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def sealed_size() -> int:
        """Return the size of the encrypted EXT_INFO."""
        size = 1 + len(wire.ext_info({"server-sig-algs": ",".join(SIG_ALGS)}))
        padding = -size % 8
        return 4 + size + padding + (8 if padding < 4 else 0) + 16


def plain(payload: bytes) -> bytes:
    """Return a packet that is not encrypted."""
    padding = 8 - (5 + len(payload)) % 8 + 8
    body = bytes([padding]) + payload + bytes(padding)
    return len(body).to_bytes(4, "big") + body


@contextmanager
def bastion(way: PrefixTruncation) -> Iterator[Connection]:
    """Yield a connection to a bastion that leads every way through the attack."""
    script = polite(Password("p"), services=Services(forward=lambda host, port: way))
    with (
        HostileServer(script) as server,
        Connection(*server.address, "u", "p", timeout=20_000) as connection,
    ):
        yield connection
    for thread in way.threads:
        thread.join(20)
        assert not thread.is_alive()


@pytest.mark.parametrize("strict", [True, False])
def test_prefix_truncation(strict: bool) -> None:
    """Strict key exchange finds it before the login; without it nothing is lost but EXT_INFO."""
    target = HostileServer(
        polite(Password("secret")), strict=strict, ciphers=[CHACHA], sig_algs=SIG_ALGS
    )
    with target:
        way = PrefixTruncation(target)
        with bastion(way) as jump:
            options: dict[str, Any] = {
                "username": "alice",
                "password": "secret",
                "proxy_jump": jump,
            }
            if strict:
                with pytest.raises(ProtocolError) as caught:
                    Connection("target", timeout=20_000, **options)
                assert (caught.value.hop_index, caught.value.phase) == (1, "kex")
            else:
                with Connection("target", timeout=20_000, **options) as connection:
                    assert connection._get_session().link.signature_algorithms is None
                    assert connection.execute("echo in").stdout == "in\n"
                assert len(way.removed) == way.sealed_size()
        with contextlib.suppress(PeerError):  # our last words come without the new keys
            target.wait()
        (conn,) = target.conns
    assert conn.strict == strict
    assert (Msg.USERAUTH_REQUEST in conn.received) != strict


def test_questions_that_seem_to_be_the_target_s(keys: Keys, tmp_path: Path) -> None:
    """A bastion that asks in the target's name, and then plays it, gets only what is its own."""
    round_ = Round([("alice@target's password: ", False)], "target", "Enter alice's password")
    own = Interactive(round_, answers=[["bastion-secret"]])
    with HostileServer(polite(Password("target-secret"))) as impostor:
        script = polite(own, services=Services(forward=lambda host, port: impostor))
        known = tmp_path / "known"
        known.write_text(f"target {keys.get(name='real target').public_line}\n")
        with HostileServer(script) as server:
            asked: list[PromptRequest] = []

            def answer(request: PromptRequest) -> list[str]:
                asked.append(request)
                return ["bastion-secret"]

            each: dict[str, Any]
            for each in ({"password": "bastion-secret"}, {"prompt": answer}):
                with (
                    Connection(*server.address, "u", timeout=20_000, **each) as jump,
                    pytest.raises(HostKeyError) as caught,
                ):
                    Connection(
                        "target", username="alice", password="target-secret", proxy_jump=jump,
                        known_hosts=known, prompt=answer, timeout=20_000,
                    )  # fmt: skip
                assert caught.value.hop_index == 1
                assert server.conns[-1].auth_log[-1].answers == [["bastion-secret"]]
            assert [request.hop for request in asked] == [f"u@{server.host}:{server.port}"]
        assert all(Msg.USERAUTH_REQUEST not in conn.received for conn in impostor.conns)
