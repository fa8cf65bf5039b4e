"""Real services behind a bastion, in a network that the client cannot reach, and real clients."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from tests.support.netns import ADDRESSES, Network
from tests.support.sshd import Sshd
from tests.support.watch import wait_for_text

REDIS = shutil.which("redis-server")
RSYNC = shutil.which("rsync")


@contextlib.contextmanager
def redis(folder: Path, address: str) -> Iterator[None]:
    """Run a Redis that keeps nothing."""
    log = folder / "redis.log"
    log.touch()

    def ready(text: str) -> bool:
        return "Ready to accept connections" in text

    command = [
        str(REDIS), "--bind", address, "--port", "6379", "--save", "", "--protected-mode", "no",
        "--dir", str(folder), "--logfile", str(log),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for_text(log, ready, timeout=20, writer=process.pid)
            yield
        finally:
            process.kill()


def ask(sock: Any, *words: str) -> bytes:
    """Send one command of Redis and return the first line of its answer."""
    parts = [f"${len(word)}\r\n{word}\r\n" for word in words]
    sock.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
    with sock.makefile("rb") as lines:
        line: bytes = lines.readline()
        return line


class Page(http.server.BaseHTTPRequestHandler):
    """Answers with its path."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer."""
        body = self.path.encode() * 1000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server whose threads end with their connections."""

    request_queue_size = 128


@pytest.fixture
def web() -> Iterator[tuple[str, int]]:
    """Run an HTTP server; its address."""
    with Server(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield ("127.0.0.1", server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.fixture
def way(target: Sshd) -> Iterator[Connection]:
    """Connect to a server."""
    account = target.alice
    with Connection(target.host, target.port, account.name, private_key=account.key.path) as made:
        yield made


@pytest.mark.skipif(REDIS is None, reason="needs redis-server")
def test_redis_behind_the_bastion(
    network: Network, sshd_factory: Callable[..., Sshd], tmp_path: Path
) -> None:
    """A Redis that only the bastion reaches: by a stream, and by a local port."""
    with network.enter("bastion"):
        bastion = sshd_factory(
            name="bastion",
            address=ADDRESSES["bastion"],
            hosts={"redis.internal": ADDRESSES["target"]},
        )
    account = bastion.alice
    with network.enter("target"), redis(tmp_path, ADDRESSES["target"]), network.enter("client"):
        with pytest.raises(OSError, match=r"unreachable|timed out"):
            socket.create_connection((ADDRESSES["target"], 6379), 1)
        with Connection(
            bastion.host, bastion.port, account.name, private_key=account.key.path
        ) as connection:
            with connection.open_connection("redis.internal", 6379) as tunnel:
                assert ask(tunnel, "SET", "key", "value") == b"+OK\r\n"
            with (
                connection.forward_local(0, ("redis.internal", 6379)) as forward,
                socket.create_connection(forward.address) as sock,
            ):
                assert ask(sock, "PING") == b"+PONG\r\n"
                assert ask(sock, "STRLEN", "key") == b":5\r\n"


def test_http_with_fifty_connections(way: Connection, web: tuple[str, int]) -> None:
    """A pool of fifty HTTP connections works through a local port."""
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    limits = httpx.Limits(max_connections=50, max_keepalive_connections=50)
    with (
        way.forward_local(0, web) as forward,
        httpx.Client(limits=limits, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(50) as pool,
    ):

        def get(number: int) -> bool:
            answer = client.get(f"http://127.0.0.1:{forward.port}/{number}")
            return bool(answer.text == f"/{number}" * 1000)

        assert all(pool.map(get, range(200)))
        assert forward.errors == ()


def test_httpx_through_socks(way: Connection, web: tuple[str, int]) -> None:
    """httpx uses a SOCKS proxy of ours."""
    httpx = pytest.importorskip("httpx", reason="needs httpx")
    pytest.importorskip("socksio", reason="needs httpx[socks]")
    with way.forward_socks() as proxy:
        address = f"socks5://127.0.0.1:{proxy.port}"
        with httpx.Client(proxy=address, timeout=30, trust_env=False) as client:
            assert client.get(f"http://localhost:{web[1]}/a").text == "/a" * 1000


@contextlib.contextmanager
def rsync_daemon(folder: Path, shown: Path) -> Iterator[int]:
    """Run an rsync daemon that shows a folder as ``files``; its port."""
    log = folder / "rsync.log"
    log.touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    me = f"uid = {os.getuid()}\ngid = {os.getgid()}\n" if os.getuid() == 0 else ""
    config = folder / "rsyncd.conf"
    config.write_text(
        f"log file = {log}\nuse chroot = no\n{me}[files]\npath = {shown}\nread only = no\n"
    )
    command = [str(RSYNC), "--daemon", "--no-detach", f"--config={config}", f"--port={port}",
               "--address=127.0.0.1"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_for_text(log, lambda text: "listening" in text, timeout=20, writer=process.pid)
            yield port
        finally:
            process.terminate()


@pytest.mark.skipif(RSYNC is None, reason="needs rsync")
def test_rsync(way: Connection, tmp_path: Path) -> None:
    """rsync copies files both ways with a daemon behind a local port."""
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()
    data = random.Random(3).randbytes(8 << 20)
    (here / "big").write_bytes(data)
    for number in range(100):
        (here / str(number)).write_bytes(data[: number * 100])
    with (
        rsync_daemon(tmp_path, there) as port,
        way.forward_local(0, ("127.0.0.1", port)) as forward,
    ):
        module = f"rsync://127.0.0.1:{forward.port}/files/"
        for source, target in ((f"{here}/", module), (module, f"{tmp_path}/back/")):
            done = subprocess.run(
                [str(RSYNC), "-rt", source, target], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
        assert forward.errors == ()
    back = {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    assert back == {path.name: path.read_bytes() for path in here.iterdir()}


def test_http_client_at_the_server(way: Connection, web: tuple[str, int]) -> None:
    """An HTTP client that runs at the server fetches from a service of ours."""
    with way.forward_remote(0, web) as forward:
        script = (
            "import urllib.request as u;"
            f"print(len(u.urlopen('http://localhost:{forward.port}/abc').read()))"
        )
        assert way.execute(f'python3 -c "{script}"').stdout == "4000\n"


def test_ctrl_c_leaves_the_tunnels_alone(way: Connection, web: tuple[str, int]) -> None:
    """A KeyboardInterrupt in a call on the same connection ends that call and no tunnel."""
    main = threading.main_thread().ident
    assert main is not None
    runs = threading.Event()

    def interrupt() -> None:
        runs.wait(20)
        signal.pthread_kill(main, signal.SIGINT)

    with way.forward_local(0, web) as forward, socket.create_connection(forward.address) as sock:
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            way.execute("echo on; sleep 20", on_output=lambda *_: runs.set())
        thread.join()
        sock.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        assert sock.recv(8) == b"HTTP/1.1"
        assert not forward.closed
