"""The recipes of docs/tunnels.md run as they are printed, against real services (root only).

A recipe is a Python block whose first line has a word behind ``python``. It uses the ``bastion`` of
the page. The services are in a network that only the bastion reaches.
"""

from __future__ import annotations

import contextlib
import http.server
import io
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hussh import Connection
from tests.docs.test_examples import TOP, _teach_names, expected
from tests.support.netns import ADDRESSES, Network
from tests.support.postgres import WHY_NOT, postgres
from tests.support.sshd import Sshd

CURL = shutil.which("curl")
PAGE = TOP / "docs/tunnels.md"
RECIPES = dict(
    re.findall(r"^```python (\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)
#: The names that the bastion knows, and the client does not.
HOSTS = {"db.internal": ADDRESSES["target"], "intranet.internal": ADDRESSES["target"]}


@pytest.fixture
def bastion(network: Network, sshd_factory: Callable[..., Sshd]) -> Sshd:
    """Run the bastion."""
    with network.enter("bastion"):
        return sshd_factory(name="bastion", address=ADDRESSES["bastion"], port=22, hosts=HOSTS)


def run(name: str, network: Network, server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a recipe; what it prints must be what it says."""
    code = RECIPES[name]
    _teach_names(monkeypatch)
    output = io.StringIO()
    with (
        network.enter("client"),
        Connection("bastion", username="alice", password=server.alice.password) as connection,
    ):
        names: dict[str, Any] = {"__name__": "example", "bastion": connection}
        with contextlib.redirect_stdout(output):
            exec(compile(code, f"{PAGE.name}: {name}", "exec"), names)
        names.clear()
    assert [line.rstrip() for line in output.getvalue().splitlines()] == expected(code)


def test_all_are_run() -> None:
    """Each recipe of the page has its test."""
    assert sorted(RECIPES) == ["database", "debugger", "http"]


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
def test_database(
    network: Network, bastion: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """psycopg and SQLAlchemy use a PostgreSQL that only the bastion reaches."""
    pytest.importorskip("psycopg", reason="needs psycopg[binary]")
    pytest.importorskip("sqlalchemy", reason="needs SQLAlchemy")
    with contextlib.ExitStack() as stack:
        with network.enter("target"):
            stack.enter_context(postgres(tmp_path, ADDRESSES["target"]))
        run("database", network, bastion, monkeypatch)


class Greeting(http.server.BaseHTTPRequestHandler):
    """Tells by which name it was asked for."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello from {self.headers['Host']}".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def intranet(network: Network) -> Iterator[None]:
    """Run an HTTP server in the target's network."""
    with network.enter("target"):
        server = http.server.ThreadingHTTPServer((ADDRESSES["target"], 80), Greeting)
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


def test_http(network: Network, bastion: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """httpx fetches by a name that only the bastion resolves."""
    pytest.importorskip("httpx", reason="needs httpx")
    pytest.importorskip("socksio", reason="needs httpx[socks]")
    for name in ("ALL_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with intranet(network):
        run("http", network, bastion, monkeypatch)


@pytest.mark.skipif(CURL is None, reason="needs curl")
def test_curl(network: Network, bastion: Sshd) -> None:
    """curl fetches through the SOCKS proxy by a name that only the bastion resolves."""
    with (
        intranet(network),
        network.enter("client"),
        Connection(bastion.host, username="alice", password=bastion.alice.password) as connection,
        connection.forward_socks() as proxy,
    ):
        command = [str(CURL), "-sS", "--max-time", "20", "-x", f"socks5h://127.0.0.1:{proxy.port}"]
        done = subprocess.run(
            [*command, "http://intranet.internal/"], capture_output=True, text=True
        )
    assert done.stdout == "hello from intranet.internal", done


def test_debugger(network: Network, bastion: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    """A debugger that waits in a program at the server is reached by a tunnel."""
    run("debugger", network, bastion, monkeypatch)
