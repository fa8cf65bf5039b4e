"""Login banners (RFC 4252 section 5.4): to on_banner=, the log, and the errors of a login."""

from __future__ import annotations

import logging
import socket
import tempfile
import threading
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hussh import (
    AuthenticationError,
    Connection,
    ConnectionLost,
    ConnectTimeout,
    PromptRequest,
    ProtocolError,
)
from hussh.aio import AsyncConnection
from hussh.errors import HusshError
from hussh.multi_conn import MultiConnection
from tests.auth.steps import SshdFactory, login, refused
from tests.conformance.apis import APIS, Api
from tests.support.agent import SshAgent
from tests.support.hostile import Conn, HostileServer, Password, polite
from tests.support.keys import Keys
from tests.support.sshd import Sshd
from tests.support.streams import heap_in_use

EVERY_API = pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)


class Banners(list[tuple[str, str]]):
    """An on_banner= callback that keeps what it is called with, and in which thread."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    def __call__(self, hop: str, text: str) -> None:
        self.append((hop, text))
        self.threads.append(threading.get_ident())


@dataclass
class Answer:
    """A prompt= callback without a hash."""

    text: str = "x"

    def __call__(self, request: PromptRequest) -> list[str]:
        return [self.text]


def with_banner(factory: SshdFactory, folder: Path, text: str, **more: Any) -> Sshd:
    """Start an OpenSSH with this banner."""
    path = folder / f"banner-{len(list(folder.iterdir()))}"
    path.write_text(text)
    return factory(options={"Banner": str(path), **more})


def place(server: Sshd) -> str:
    """Return how hussh calls the hop."""
    return f"{server.alice.name}@{server.host}:{server.port}"


def script(*banners: bytes | str, password: str = "right") -> Any:
    """Make a server that sends these after the first request, then judges a password."""

    def run(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        conn.unread(conn.read_packet())
        for banner in banners:
            conn.auth_banner(banner)
        conn.authenticate(Password(password))
        conn.serve()

    return run


@EVERY_API
def test_every_hop(api: Api, sshd_factory: SshdFactory, tmp_path: Path) -> None:
    """Each hop's banner comes whole, with the hop's name, in the order of travel."""
    long = "".join(f"line {n}\n" for n in range(19_000))
    texts = [long, "zweite Zeile: ä\nthird\tline\n"]
    one, two = (with_banner(sshd_factory, tmp_path, text) for text in texts)
    two.forget_keys(two.alice)
    two.authorize(two.alice, one.alice.key)
    banners = Banners()

    async def main() -> None:
        session = await api.connect(
            two.host, two.port, username=one.alice.name, private_key=one.alice.key.path,
            proxy_jump=f"{one.host}:{one.port}", on_banner=banners,
        )  # fmt: skip
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()

    api.run(main)
    assert banners == [(place(one), texts[0]), (place(two), texts[1])]
    # As prompt=: sync in the caller's thread, with an event loop never in the loop's.
    assert {thread == threading.get_ident() for thread in banners.threads} == {api.name == "sync"}


@EVERY_API
def test_a_flood_of_large_banners(api: Api) -> None:
    """Of 10 MB in 40 banners a few MB are held at once; each that is shown comes whole."""
    text = "x" * 249_999 + "\n"
    sizes: list[int] = []

    async def main() -> None:
        session = await api.connect(
            server.host, server.port, username="me", password="right", timeout=60,
            host_key_policy="ignore", on_banner=lambda _hop, shown: sizes.append(len(shown)),
        )  # fmt: skip
        assert (await session.execute("echo in")).stdout == "in\n"
        await session.close()

    with HostileServer(script(*[text] * 40)) as server:
        before = heap_in_use()
        tracemalloc.start()
        try:
            api.run(main)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert set(sizes) == {250_000}
    assert peak < 6 << 20
    assert heap_in_use() - before < 1 << 20


@pytest.mark.parametrize("api", APIS[1:], ids=lambda api: api.name)
def test_coroutine_function(api: Api, sshd_factory: SshdFactory, tmp_path: Path) -> None:
    """A coroutine function is awaited in the loop."""
    server = with_banner(sshd_factory, tmp_path, "hello\n")
    banners = Banners()

    async def on_banner(hop: str, text: str) -> None:
        banners(hop, text)

    async def main() -> None:
        session = await api.connect(
            server.host, server.port, username=server.alice.name,
            private_key=server.alice.key.path, on_banner=on_banner,
        )  # fmt: skip
        await session.close()

    api.run(main)
    assert banners == [(place(server), "hello\n")]
    assert banners.threads == [threading.get_ident()]


async def _never(hop: str, text: str) -> None:
    raise AssertionError("nothing awaits it")


def test_what_cannot_be_awaited() -> None:
    """The sync API takes no coroutine function, nor what turns out to be one."""
    with pytest.raises(TypeError, match="coroutine function"):
        Connection("127.0.0.1", 1, on_banner=_never)
    with pytest.raises(TypeError, match="on_banner must be callable"):
        AsyncConnection("127.0.0.1", on_banner="print")  # type: ignore[arg-type]
    with HostileServer(script("hello")) as server, pytest.raises(TypeError, match="coroutine"):
        Connection(*server.address, "a", "right", on_banner=lambda *both: _never(*both))


@EVERY_API
@pytest.mark.parametrize("kind", [LookupError, KeyboardInterrupt])
def test_callback_that_raises(api: Api, kind: type[BaseException]) -> None:
    """What on_banner= raises comes out as it is, and the connection is closed."""

    def on_banner(hop: str, text: str) -> None:
        raise kind(text)

    async def main() -> None:
        await api.connect(*server.address, username="a", password="right", on_banner=on_banner)

    with HostileServer(script("hello")) as server:
        with pytest.raises(kind, match="hello"):
            api.run(main)
        server.wait()  # it has noticed


@pytest.mark.parametrize("common", [True, False])
def test_many_hosts(sshd_factory: SshdFactory, tmp_path: Path, common: bool) -> None:
    """A batch has one callback for all hosts, or each host one."""
    server = with_banner(sshd_factory, tmp_path, "hello\n")
    banners = Banners()
    options: dict[str, Any] = {"on_banner": banners}
    hosts = [{"host": server.host, **({} if common else options)} for _ in range(3)]
    connection = MultiConnection.from_shared_auth(
        hosts, server.alice.name, key_path=server.alice.key.path, port=server.port,
        **(options if common else {}),
    )  # fmt: skip
    with connection:
        assert connection.execute("true").failed is None
    assert banners == [(place(server), "hello\n")] * 3


def test_many_hosts_behind_one_bastion(sshd_factory: SshdFactory, tmp_path: Path) -> None:
    """The hosts of a batch share a bastion and its banner; the callback need not be hashable."""
    one, two = (with_banner(sshd_factory, tmp_path, text) for text in ("first\n", "second\n"))
    two.forget_keys(two.alice)
    two.authorize(two.alice, one.alice.key)
    banners = Banners()  # a list, which has no hash
    connection = MultiConnection.from_shared_auth(
        [two.host] * 3, one.alice.name, key_path=one.alice.key.path, port=two.port,
        proxy_jump=f"{one.host}:{one.port}", on_banner=banners, prompt=Answer(),
    )  # fmt: skip
    with connection:
        assert connection.execute("true").failed is None
    assert sorted(banners) == sorted([(place(one), "first\n"), *[(place(two), "second\n")] * 3])
    assert one.connections() == 1


@pytest.mark.needs_root
def test_refused_login(sshd_factory: SshdFactory, tmp_path: Path, keys: Keys) -> None:
    """A refused login tells the banner, as one line, beside what was tried and what is left."""
    server = with_banner(sshd_factory, tmp_path, "No\n  passwords\x1b[2J here\n")
    banners = Banners()
    error = refused(server, password="wrong", on_banner=banners)
    assert isinstance(error, AuthenticationError)
    assert error.banner == "No passwords [2J here"
    assert "the server's banner: No passwords [2J here" in str(error)
    assert "tried: password" in str(error)
    assert "the server accepts: publickey" in str(error)
    assert len(banners) == 1
    assert refused(server, private_key=keys.get(name="stranger").path).banner  # type: ignore[attr-defined]
    result = MultiConnection.from_shared_auth(
        [server.host], server.alice.name, "wrong", port=server.port
    )
    with result:
        assert "No passwords" in result.execute("true")[server.host].stderr
    unread = refused(server, private_key=tmp_path / "no such key")
    assert "banner" not in str(unread)


@pytest.mark.parametrize("taken", [True, False])
@EVERY_API
def test_other_ends_of_a_login(api: Api, taken: bool) -> None:
    """A login that takes too long, or is cut off, tells the last banner, taken up or not."""

    def silent(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        conn.read_auth_request()
        conn.auth_banner("one")
        conn.auth_banner("closed for repairs")
        if conn.options.version == b"SSH-2.0-Cut":
            conn.close()
        else:
            conn.serve()

    banners = Banners()
    options: dict[str, Any] = {"on_banner": banners} if taken else {}

    async def main() -> None:
        host, port = server.address
        await api.connect(host, port, username="a", password="x", timeout=1.5, **options)

    for version, kind in ((b"SSH-2.0-Cut", ConnectionLost), (b"SSH-2.0-Mute", ConnectTimeout)):
        with HostileServer(silent, version=version) as server:
            with pytest.raises(kind, match="the server's banner: closed for repairs") as caught:
                api.run(main)
            server.wait()
        assert isinstance(caught.value, HusshError)
        assert caught.value.phase == "auth"
    assert len(banners) == (4 if taken else 0)


def test_banner_that_comes_while_the_agent_thinks(agent: SshAgent, keys: Keys) -> None:
    """A banner that nobody has read yet when the time is over stands in the error, too."""
    with (
        tempfile.TemporaryDirectory(prefix="agent-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = str(Path(folder) / "agent")
        listener.bind(path)
        listener.listen()

        def run(conn: Conn) -> None:
            conn.version_exchange()
            conn.key_exchange()
            conn.expect_service()
            conn.read_auth_request()
            conn.auth_banner("hello")
            conn.auth_failure(["publickey"])
            conn.serve()

        late = pytest.raises(ConnectTimeout, match=r"ssh-agent to list.*banner: hello")
        with HostileServer(run) as server, late:
            Connection(*server.address, "a", agent=path, timeout=700)


@EVERY_API
def test_logged(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    """The logger hussh.auth has banners and outcomes, one line each, at INFO, and no password."""
    banners = "hello\n2026-01-01 root: forged line\n", "", "x" * 5000

    async def main() -> None:
        session = await api.connect(*server.address, username="a", password="right")
        await session.close()
        with pytest.raises(AuthenticationError):
            await api.connect(*server.address, username="a", password="wrong")

    with caplog.at_level(logging.INFO, "hussh"), HostileServer(script(*banners)) as server:
        api.run(main)
    records = [record for record in caplog.records if record.name == "hussh.auth"]
    assert {record.levelno for record in records} == {logging.INFO}
    lines = [record.getMessage() for record in records]
    hop = f"[a@127.0.0.1:{server.port}]"
    both = [
        f"{hop} banner: hello 2026-01-01 root: forged line",
        f"{hop} banner: {'x' * 1000}",
    ]
    assert lines[:-1] == [*both, f"{hop} logged in: password", *both]
    assert lines[-1].startswith(f"{hop} not logged in: Authentication failed: ")
    assert not any("\n" in line or "right" in line or "wrong" in line for line in lines)


ODD = [
    (b"caf\xe9 \xff", "caf\ufffd \ufffd"),
    ("a\r\nb\r\n\r\nc\n", "a\nb\n\nc\n"),
    ("tab\there", "tab\there"),
    ("\x1b]0;own\x07\x1b[2J\x00", " ]0;own  [2J "),
    ("a\rb\x0bc\x0cd\x85e\u2028f", "a b c d e f"),
    ("\u202eevil\u202c \u2066x\u2069 \u200e", " evil   x   "),
    ("\U000e0041\ufeff\u061c", "   "),
    ("", ""),
    ("\u4f60\u597d \u0633\u0644\u0627\u0645", "\u4f60\u597d \u0633\u0644\u0627\u0645"),
]


@pytest.mark.parametrize(("sent", "shown"), ODD)
def test_fit_to_print(sent: bytes | str, shown: str) -> None:
    """Lines and tabs stay; nothing else moves a cursor, turns the writing, or ends the login."""
    banners = Banners()
    with HostileServer(script(sent)) as server:
        Connection(*server.address, "a", "right", on_banner=banners).close()
        with pytest.raises(AuthenticationError) as caught:
            Connection(*server.address, "a", "wrong")
        server.wait(2)
    assert [text for _, text in banners] == [shown]
    assert str(caught.value).isprintable()


@EVERY_API
def test_big_ones(api: Api) -> None:
    """Long banners arrive whole, many of them in order."""
    texts = [f"{number} " + "é" * 15_000 for number in range(30)]
    banners = Banners()

    async def main() -> None:
        session = await api.connect(
            *server.address, username="a", password="right", on_banner=banners
        )
        await session.close()

    with HostileServer(script(*texts)) as server:
        api.run(main)
    assert [text for _, text in banners] == texts


def test_banner_that_is_none() -> None:
    """A banner that ends within its text is an error of the protocol."""

    def run(conn: Conn) -> None:
        conn.version_exchange()
        conn.key_exchange()
        conn.expect_service()
        conn.read_auth_request()
        conn.send(53, b"\0\0\0\x09short")
        conn.serve()

    with HostileServer(run) as server, pytest.raises(ProtocolError, match="ends within a field"):
        Connection(*server.address, "a", "x")


def test_after_the_login(sshd_factory: SshdFactory) -> None:
    """A banner after the login is dropped, and disturbs nothing."""
    banners = Banners()

    def after(conn: Conn) -> None:
        conn.auth_banner("too late")

    with (
        HostileServer(polite(banner="in time", after_auth=after)) as server,
        Connection(*server.address, "a", "x", on_banner=banners) as connection,
    ):
        assert connection.execute("echo in").status == 0
    assert [text for _, text in banners] == ["in time"]


def test_no_banner(target: Sshd) -> None:
    """A server without one says nothing."""
    banners = Banners()
    login(target, private_key=target.alice.key.path, on_banner=banners).close()
    assert banners == []
