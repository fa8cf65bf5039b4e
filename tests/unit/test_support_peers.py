"""Relays and awkward peers of `tests/support` do to a stream what they say."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import pytest

from tests.support.client import SshProgram
from tests.support.listeners import FullBacklog, MuteListener, SlowBanner
from tests.support.relay import Faults, Relay
from tests.support.sshd import Sshd

SshdFactory = Callable[..., Sshd]
RelayFactory = Callable[..., Relay]
needs_root = pytest.mark.needs_root


def read_all(peer: socket.socket) -> bytes:
    """Read until the other side closes."""
    return b"".join(iter(lambda: peer.recv(65536), b""))


def read_exactly(peer: socket.socket, count: int) -> bytes:
    """Read ``count`` bytes, or what came before the end."""
    data = b""
    while len(data) < count and (more := peer.recv(count - len(data))):
        data += more
    return data


@pytest.fixture
def ends(
    relay_factory: RelayFactory, mute_listener: MuteListener
) -> Callable[..., tuple[Relay, socket.socket, socket.socket]]:
    """Return relay, client end and server end of one relayed connection."""

    def connect(**settings: object) -> tuple[Relay, socket.socket, socket.socket]:
        relay = relay_factory(mute_listener, **settings)
        client = socket.create_connection((relay.host, relay.port), timeout=20)
        server = mute_listener.accept()
        server.settimeout(20)
        return relay, client, server

    return connect


Ends = Callable[..., tuple[Relay, socket.socket, socket.socket]]


def test_relay_carries_a_login_and_records_it(
    relay_factory: RelayFactory, sshd_factory: SshdFactory, ssh: SshProgram
) -> None:
    """A login works in chunks of a few bytes, and the record starts with both banners."""
    server = sshd_factory()
    relay = relay_factory(
        server, record=True, to_server=Faults(chunks=[1, 7, 3]), to_client=Faults(chunks=[5])
    )
    options = [f"Port={relay.port}", f"HostKeyAlias=[{server.host}]:{server.port}"]
    ran = ssh.run(server, server.alice, "echo hello", key=server.alice.key, options=options)
    assert ran.stdout == "hello\n", ran.stderr
    relay.wait_closed()
    assert relay.recorded("to_server").startswith(b"SSH-2.0-")
    assert relay.recorded("to_client").startswith(b"SSH-2.0-")
    assert relay.connections()[0]["to_client"] == len(relay.recorded("to_client"))


def test_relay_half_close(ends: Ends) -> None:
    """The end of one direction is passed on while the other still carries bytes."""
    relay, client, server = ends()
    with client, server:
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert read_all(server) == b"question"
        server.sendall(b"answer" * 100_000)
        server.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"answer" * 100_000
    relay.wait_closed()


def test_relay_cuts_after_a_byte_count(ends: Ends) -> None:
    """The stream ends after exactly the given bytes, at both ends."""
    _, client, server = ends(to_client=Faults(cut_after=5))
    with client, server:
        server.sendall(b"0123456789")
        assert read_all(client) == b"01234"
        assert read_all(server) == b""


def test_relay_cuts_with_a_reset(ends: Ends) -> None:
    """Cut with "reset", the ends see a reset connection and not an end of file."""
    _, client, server = ends(to_client=Faults(cut_after=1, cut_with="reset"))
    with client, server:
        server.sendall(b"0")
        with pytest.raises(ConnectionResetError):
            read_all(server)


def test_relay_flips_one_bit(ends: Ends) -> None:
    """Exactly the bit that was asked for differs, wherever the stream was split."""
    _, client, server = ends(to_server=Faults(flip=(3, 6), chunks=[1]))
    with client, server:
        client.sendall(b"\0" * 2)
        client.sendall(b"\0" * 6)
        assert read_exactly(server, 8) == b"\0\0\0\x40\0\0\0\0"


def test_relay_freezes_and_thaws(ends: Ends) -> None:
    """A frozen direction holds bytes back, the other goes on; thawed, nothing is lost."""
    relay, client, server = ends(to_server=Faults(freeze_after=4))
    with client, server:
        client.sendall(b"abcdefgh")
        assert read_exactly(server, 4) == b"abcd"
        server.sendall(b"back")
        assert read_exactly(client, 4) == b"back"
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1)
        server.settimeout(20)
        relay.thaw()
        assert read_exactly(server, 4) == b"efgh"
        relay.freeze("to_client")
        server.sendall(b"more")
        client.setblocking(False)
        relay.connections()
        with pytest.raises(BlockingIOError):
            client.recv(1)


def test_relay_delays(ends: Ends) -> None:
    """A byte and its echo take no less than the round-trip time."""
    _, client, server = ends(rtt=0.2)
    with client, server:
        start = time.monotonic()
        client.sendall(b"x")
        server.sendall(read_exactly(server, 1))
        assert read_exactly(client, 1) == b"x"
        assert time.monotonic() - start >= 0.2


def test_relay_drops_and_refuses(ends: Ends) -> None:
    """Open connections end when dropped, and new ones end at once when refused."""
    relay, client, server = ends()
    with client, server:
        relay.drop()
        assert read_all(client) == b""
        relay.refuse()
        with socket.create_connection((relay.host, relay.port), timeout=20) as refused:
            assert read_all(refused) == b""


def test_full_backlog_makes_connect_hang(full_backlog: FullBacklog) -> None:
    """A connection attempt is neither accepted nor refused."""
    with pytest.raises(TimeoutError):
        socket.create_connection((full_backlog.host, full_backlog.port), timeout=0.3)


def test_mute_listener_accepts_and_says_nothing(mute_listener: MuteListener) -> None:
    """The connection stands, the peer is silent, and the test can see what was sent."""
    with socket.create_connection((mute_listener.host, mute_listener.port)) as client:
        client.sendall(b"hello")
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
        with mute_listener.accept() as server:
            assert read_exactly(server, 5) == b"hello"


def test_slow_banner_sends_what_it_may(slow_banner: Callable[..., SlowBanner]) -> None:
    """Bytes come one by one, as many as were released."""
    peer = slow_banner()
    with socket.create_connection((peer.host, peer.port), timeout=20) as client:
        peer.release(4)
        assert read_exactly(client, 4) == b"SSH-"
        peer.wait_sent(4)
        client.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.recv(1)
