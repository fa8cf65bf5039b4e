"""`forward_local`, `forward_socks` and `forward_remote` in every API, over real servers."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import socket
import stat
import struct
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection, ConnectionLost, ForwardRefused, TunnelRefused
from tests.conformance.client import Client
from tests.conformance.conftest import FOUR, NINE, THREE
from tests.support.sshd import Sshd
from tests.support.tunnel_peers import Peer, connect, echo, exchange, read_all
from tests.tunnels.conftest import apart

MIB = 1 << 20
CURL = shutil.which("curl")


def login(server: Sshd) -> Connection:
    """Connect as alice."""
    account = server.alice
    return Connection(server.host, server.port, account.name, private_key=account.key.path)


@pytest.mark.parametrize("client", NINE, indirect=True)
async def test_local(client: Client) -> None:
    """Connections to a local port reach the far end, many at once, with the half-close."""
    data = random.Random(2).randbytes(2 * MIB)
    with Peer(echo) as peer:
        async with client.awaited.forward_local(0, peer.address) as forward:
            host, port = forward.address
            assert host == "127.0.0.1"
            assert port == forward.port
            assert await apart(client, exchange, (host, port), data) == data
            count = 300 if os.environ.get("HUSSH_LONG") == "1" else 30
            got = await apart(client, many, (host, port), count)
            assert got == [str(number).encode() * 1000 for number in range(count)]
            assert forward.errors == ()
            assert not forward.closed
        assert forward.closed
        with pytest.raises(ConnectionRefusedError):
            await apart(client, exchange, (host, port), b"")
    assert (await client.execute("echo on")).stdout == "on\n"


def many(address: tuple[str, int], count: int) -> list[bytes]:
    """So many exchanges at once, each in a thread."""
    got: dict[int, bytes] = {}

    def work(number: int) -> None:
        got[number] = exchange(address, str(number).encode() * 1000)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [got[number] for number in range(count)]


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_local_unix(client: Client, tmp_path: Path) -> None:
    """A forward's Unix socket is for its user alone, and goes with it; a file is kept."""
    path = tmp_path / "s"
    with Peer(echo) as peer:
        async with client.awaited.forward_local(str(path), peer.address) as forward:
            assert forward.address == str(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert await apart(client, exchange, str(path), b"abc") == b"abc"
        assert not path.exists()
        path.write_text("mine")
        with pytest.raises(ForwardRefused, match="in use"):
            await client.awaited.forward_local(str(path), peer.address)
        assert path.read_text() == "mine"


def test_remote_answers_each_connection(target: Sshd) -> None:
    """A connection that cannot be carried on is refused at once, whatever the reason is."""
    to = ("x" * 64 + ".example", 9)
    with login(target) as connection, connection.forward_remote(0, to) as forward:
        for _ in range(2):
            with contextlib.suppress(ConnectionResetError):
                assert exchange(forward.address, b"x") == b""
        assert [type(error) for error in forward.errors] == [ForwardRefused] * 2
        assert forward.connections == 0


def interrupt(connection: Connection, tasks: list[Any], name: str) -> None:
    """Let Ctrl-C come while a background operation of this name has its step."""
    session: Any = connection._session
    [task] = [task for task in tasks if task.op.gi_code.co_name == name]
    with session.driver.locked(), pytest.raises(KeyboardInterrupt):
        task.op.throw(KeyboardInterrupt)
    assert connection.execute("echo still").stdout == "still\n"


def test_interrupt_ends_no_forward(target: Sshd) -> None:
    """A Ctrl-C that comes while a forward takes a connection leaves the forward as it is."""
    with Peer(echo) as peer, login(target) as connection:
        with connection.forward_local(0, peer.address) as forward:
            interrupt(connection, list(forward._forwarding._tasks), "_accept")
            interrupt(connection, list(forward._forwarding._tasks), "_wait_lost")
            assert not forward.closed
            assert exchange(forward.address, b"abc") == b"abc"
        with connection.forward_remote(0, peer.address) as forward:
            remote: Any = forward._forwarding
            interrupt(connection, [remote._incoming._task], "_serve")
            assert exchange(forward.address, b"abc") == b"abc"


class ShortOfDescriptors:
    """A listening socket whose first accept finds no descriptor."""

    def __init__(self, real: socket.socket) -> None:
        self._real = real
        self.failed = 0

    def _accept(self) -> Any:
        if not self.failed:
            self.failed += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._real._accept()  # type: ignore[attr-defined]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def test_shortage_of_descriptors_passes(target: Sshd) -> None:
    """A connection that came while there was no descriptor is carried once there is one."""
    with (
        Peer(echo) as peer,
        login(target) as connection,
        connection.forward_local(0, peer.address) as forward,
    ):
        listener: Any = forward._forwarding._listener  # type: ignore[attr-defined]
        listener.sock = short = ShortOfDescriptors(listener.sock)
        assert exchange(forward.address, b"abc") == b"abc"
        assert short.failed == 1
        assert [str(error) for error in forward.errors] == ["[Errno 24] Too many open files"]


def test_fork_keeps_unix_socket(target: Sshd, tmp_path: Path) -> None:
    """A forked child that closes a forward leaves the parent's Unix socket where it is."""
    path = tmp_path / "s"
    with Peer(echo) as peer, login(target) as connection:
        with connection.forward_local(str(path), peer.address) as forward:
            pid = os.fork()
            if not pid:
                forward.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            assert exchange(str(path), b"abc") == b"abc"
        assert not path.exists()


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_refused_target_closes_that_one(client: Client) -> None:
    """A refused target ends its connection and is in `.errors`; the forward goes on."""
    # Nobody listens there, and nobody else gets that port.
    with Peer(echo) as peer, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()
        async with client.awaited.forward_local(0, free[:2]) as forward:
            with contextlib.suppress(ConnectionResetError):
                assert await apart(client, exchange, forward.address, b"x") == b""
            [error] = forward.errors
            assert isinstance(error, TunnelRefused)
            assert error.reason_code == 2
            assert error.hop
            assert not forward.closed
        async with client.awaited.forward_local(0, peer.address) as forward:
            with pytest.raises(ForwardRefused, match="in use") as caught:
                await client.awaited.forward_local(forward.address, peer.address)
            assert caught.value.errno is not None


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_stalled_readers(client: Client, target: Sshd) -> None:
    """Who reads nothing, on either side, holds a bounded number of bytes, and hurts nobody."""
    over = threading.Event()
    flooded = [0]

    def flood(sock: socket.socket) -> None:
        if sock.recv(1) == b"f":  # wants to be flooded, and will not read
            while True:
                flooded[0] += sock.send(bytes(1 << 16))
        over.wait(60)  # reads nothing more

    with Peer(flood) as stalling, Peer(echo) as peer:
        async with client.awaited.forward_local(0, stalling.address) as stalled:
            async with client.awaited.forward_local(0, peer.address) as good:

                def work() -> int:
                    with connect(stalled.address) as deaf, connect(stalled.address) as stuck:
                        deaf.sendall(b"f")
                        stuck.sendall(b"s")
                        stuck.settimeout(0.5)
                        sent = 0
                        with contextlib.suppress(TimeoutError):
                            while True:
                                sent += stuck.send(bytes(1 << 16))
                        data = bytes(3 * MIB)
                        assert exchange(good.address, data) == data
                        return sent

                sent = await apart(client, work)
            over.set()
        assert 0 < sent < 40 * MIB, "what lies in sockets and windows, and no more"
        assert 0 < flooded[0] < 40 * MIB


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_resets(client: Client) -> None:
    """A reset on either side ends the tunnel's other side at once, and no other tunnel."""
    sudden = struct.pack("ii", 1, 0)
    noticed = threading.Event()

    def answer(sock: socket.socket) -> None:
        if sock.recv(1) == b"r":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, sudden)
            return
        with contextlib.suppress(ConnectionResetError):
            while sock.recv(1):
                sock.sendall(b"x")
        noticed.set()

    with Peer(answer) as peer:
        async with client.awaited.forward_local(0, peer.address) as forward:

            def work() -> None:
                with connect(forward.address) as other, connect(forward.address) as sock:
                    for one in (other, sock):
                        one.sendall(b"aa")
                        assert one.recv(1) == b"x"
                    with connect(forward.address) as far:
                        far.sendall(b"r")
                        with contextlib.suppress(ConnectionResetError):
                            assert far.recv(1) == b""
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, sudden)
                    sock.close()
                    assert noticed.wait(20)
                    other.sendall(b"a")
                    assert other.recv(1) == b"x"

            await apart(client, work)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_closing_with_connections(client: Client) -> None:
    """Closing a forward ends its connections at once, and both ends notice."""
    with Peer(echo) as peer:
        async with client.awaited.forward_local(0, peer.address) as forward:
            sock = socket.create_connection(forward.address)
            sock.settimeout(20)

            def work() -> None:
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"

            await apart(client, work)
            assert forward.connections == 1
        with sock:
            assert await apart(client, sock.recv, 1) == b""
        assert forward.connections == 0


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_lost_connection(client: Client, target: Sshd) -> None:
    """Where the server dies, tunnels are reset, listeners end, and each forward says why."""
    with Peer(echo) as peer:
        remote = await client.awaited.forward_remote(0, peer.address)
        proxy = await client.awaited.forward_socks()
        async with client.awaited.forward_local(0, peer.address) as forward:

            def work() -> None:
                with connect(forward.address) as sock:
                    sock.sendall(b"x")
                    assert sock.recv(1) == b"x"
                    target.kill_sessions()
                    with pytest.raises(ConnectionResetError):
                        sock.recv(1)

            await apart(client, work)
            with pytest.raises(ConnectionLost):
                await client.execute("true")
            for one in (forward, remote, proxy):
                assert one.closed
                assert any(isinstance(error, ConnectionLost) for error in one.errors)


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_thousands_of_short_connections(client: Client) -> None:
    """After a thousand short connections no descriptor and no channel is left."""
    with Peer(lambda sock: sock.sendall(b"hello")) as peer:
        async with client.awaited.forward_local(0, peer.address) as forward:

            def work() -> None:
                for _ in range(30):
                    assert exchange(forward.address, b"") == b"hello"

            await apart(client, work)
            before = len(os.listdir("/proc/self/fd"))

            def more() -> None:
                for _ in range(1000 if os.environ.get("HUSSH_LONG") == "1" else 150):
                    assert exchange(forward.address, b"") == b"hello"

            await apart(client, more)
            peer.seen.clear()
            assert len(os.listdir("/proc/self/fd")) <= before + 20
            assert forward.connections <= 1


@pytest.mark.parametrize("client", FOUR, indirect=True)
async def test_remote(client: Client) -> None:
    """A program at the server connects to a port there and reaches a service of ours."""
    with Peer(lambda sock: sock.sendall(b"got " + read_all(sock))) as peer:
        async with client.awaited.forward_remote(0, peer.address) as forward:
            host, port = forward.address
            assert host == "localhost"
            assert port
            script = (
                f"import socket; s=socket.create_connection(('127.0.0.1',{port}));"
                "s.sendall(b'x'*10**6); s.shutdown(1); print(len(s.makefile('rb').read()))"
            )
            result = await client.execute(f'python3 -c "{script}"')
            assert result.stdout == "1000004\n", result
        gone = await client.execute(f'python3 -c "{script}"')
        assert "refused" in gone.stderr


@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_remote_unix_and_refused(client: Client) -> None:
    """A remote Unix socket leads to ours; a service that is not there closes that connection."""
    path = (await client.execute("rm -f ~/r.sock; echo ~/r.sock")).stdout.strip()
    script = (
        f"import socket; s=socket.socket(socket.AF_UNIX); s.connect('{path}'); print(s.recv(9))"
    )
    with Peer(lambda sock: sock.sendall(b"hello")) as peer:
        async with client.awaited.forward_remote(path, peer.address) as forward:
            assert (await client.execute(f'python3 -c "{script}"')).stdout == "b'hello'\n"
            with pytest.raises(ForwardRefused):
                await client.awaited.forward_remote(path, peer.address)
        assert forward.errors == ()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # the port is taken, and nobody listens
        async with client.awaited.forward_remote(0, nobody.getsockname()) as forward:
            place = f"('localhost',{forward.port})"
            again = f"import socket; s=socket.create_connection({place}); print(s.recv(9))"
            result = await client.execute(f'python3 -c "{again}"')
            assert result.stdout == "b''\n" or "reset" in result.stderr
            [error] = forward.errors
            assert isinstance(error, ForwardRefused)
            assert "could not be carried" in str(error)


def test_permit_listen(sshd_factory: Callable[..., Sshd]) -> None:
    """A server that permits only some addresses: typed errors for others, and the rest works."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = sshd_factory(options={"PermitListen": f"localhost:{port}"})
    with Peer(echo) as peer, login(server) as connection:
        with pytest.raises(ForwardRefused, match="PermitListen"):
            connection.forward_remote(port + 1 if port < 65535 else 1025, peer.address)
        with connection.forward_remote(port, peer.address) as forward:
            assert exchange(forward.address, b"abc") == b"abc"


@pytest.mark.skipif(CURL is None, reason="needs curl")
@pytest.mark.parametrize("kind", ["socks4a", "socks5h", "socks5", "socks4"])
@pytest.mark.parametrize("client", THREE, indirect=True)
async def test_socks_with_curl(client: Client, kind: str) -> None:
    """curl fetches through the proxy in each version of the protocol; names go to the server."""

    def answer(sock: socket.socket) -> None:
        while not sock.recv(1 << 16).endswith(b"\r\n\r\n"):
            pass
        sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    name = "localhost" if kind.endswith(("a", "h")) else "127.0.0.1"
    with Peer(answer) as peer:
        async with client.awaited.forward_socks(0) as forward:
            proxy = f"{kind}://127.0.0.1:{forward.port}"
            command = [str(CURL), "-sS", "--max-time", "20", "-x", proxy]

            def work(url: str) -> Any:
                return subprocess.run([*command, url], capture_output=True, text=True)

            done = await apart(client, work, f"http://{name}:{peer.address[1]}/")
            assert done.stdout == "hello", done
            if kind == "socks5h":
                bad = await apart(client, work, "http://127.0.0.1:1/")
                assert bad.returncode == 97
                assert isinstance(forward.errors[0], TunnelRefused)


def test_fork(target: Sshd) -> None:
    """A forked child leaves the parent's tunnels alone, and holds none of them open."""
    with Peer(echo) as peer, login(target) as connection:
        forward = connection.forward_local(0, peer.address)
        with connect(forward.address) as sock:
            sock.sendall(b"a")
            assert sock.recv(1) == b"a"
            reading, writing = os.pipe()
            staying, leaving = os.pipe()
            pid = os.fork()
            if not pid:
                try:
                    sock.close()
                    os.write(writing, b"c" if forward.closed else b"o")
                    os.read(staying, 1)
                finally:
                    os._exit(0)
            assert os.read(reading, 1) == b"c"
            sock.sendall(b"b")
            assert sock.recv(1) == b"b"
            forward.close()
            assert sock.recv(1) == b""
            os.write(leaving, b"x")
            os.waitpid(pid, 0)
            for fd in (reading, writing, staying, leaving):
                os.close(fd)


def test_bad_arguments(target: Sshd) -> None:
    """What is no address is refused before anything is opened."""
    with login(target) as connection:
        for listen in (True, 70_000, "", ("h",), (1, 2, 3), None, b"x\0"):
            with pytest.raises((TypeError, ValueError)):
                connection.forward_local(listen, ("127.0.0.1", 1))  # type: ignore[arg-type]
        for to in (22, ("127.0.0.1", 0), ("-x", 1), ("a b", 1), "", None):
            with pytest.raises((TypeError, ValueError)):
                connection.forward_local(0, to)  # type: ignore[arg-type]


def test_pexpect_on_a_forward(target: Sshd) -> None:
    """A socket to a forward has a descriptor, so the spawns of pexpect for these work on it."""
    fdpexpect = pytest.importorskip("pexpect.fdpexpect")
    account = target.alice
    with (
        Connection(target.host, target.port, "alice", private_key=account.key.path) as connection,
        connection.forward_local(0, (target.host, target.port)) as forward,
        socket.create_connection(("127.0.0.1", forward.port)) as sock,
    ):
        child = fdpexpect.fdspawn(sock, timeout=30)
        assert child.expect([rb"never", rb"SSH-2.0-([A-Za-z]+)"]) == 1
        assert child.match.group(1) == b"OpenSSH"
