"""FIDO keys through the agent (U32): signatures that a real sshd takes, and waits for a touch."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from hussh import AuthenticationError, Connection, ConnectTimeout
from hussh.aio import AsyncConnection
from tests.auth.steps import SshdFactory, attempts, fingerprints, login, refused
from tests.support.fido import PRESENCE, VERIFIED, FidoAgent, FidoKey, write_public
from tests.support.sshd import Sshd

FidoFactory = Callable[..., FidoAgent]
KINDS = ("ed25519", "ecdsa")


@pytest.fixture(params=KINDS)
def key(request: pytest.FixtureRequest) -> FidoKey:
    """Return a key of each kind."""
    return FidoKey(request.param)


@pytest.fixture
def waiting(target: Sshd, fido_factory: FidoFactory) -> Iterator[FidoAgent]:
    """Return an agent whose key the target takes, once it is touched."""
    agent = fido_factory(FidoKey("ed25519"), touched=False)
    with restored(target):
        target.authorize(target.alice, agent.keys[0])
        yield agent


class restored:
    """Within the block, the shared server may be told of more keys."""

    def __init__(self, server: Sshd) -> None:
        """Of alice."""
        self._path = server._authorized_keys(server.alice)

    def __enter__(self) -> None:
        """Remember."""
        self._text = self._path.read_text()

    def __exit__(self, *_: object) -> None:
        """Restore."""
        self._path.write_text(self._text)


def test_login(target: Sshd, bastion: Sshd, fido_factory: FidoFactory, key: FidoKey) -> None:
    """A key of each kind logs in with one signature for each hop, straight and behind a bastion."""
    agent = fido_factory(key)
    with restored(target), restored(bastion):
        for server in (bastion, target):
            server.authorize(server.alice, key)
        with login(target, agent=agent.socket) as connection:
            assert connection.execute("echo in").stdout == "in\n"
        assert attempts(target) == [("publickey", "postponed"), ("publickey", "accepted")]
        with (
            login(bastion, agent=agent.socket) as way,
            login(target, agent=agent.socket, proxy_jump=way) as connection,
        ):
            assert connection.execute("echo through").stdout == "through\n"
    assert key.counter == 3
    assert set(fingerprints(target, "accepted")) == {key.fingerprint}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("flags", "options", "taken"),
    [
        (0, "", False),
        (0, "no-touch-required", True),
        (PRESENCE, "verify-required", False),
        (PRESENCE | VERIFIED, "verify-required", True),
    ],
)
def test_what_the_server_requires(
    target: Sshd, fido_factory: FidoFactory, kind: str, flags: int, options: str, taken: bool
) -> None:
    """What the token vouches for reaches the server unchanged, which decides."""
    key = FidoKey(kind, flags=flags)
    agent = fido_factory(key)
    with restored(target):
        target.authorize(target.alice, key, options=options)
        if taken:
            login(target, agent=agent.socket).close()
        else:
            error = refused(target, agent=agent.socket)
            assert isinstance(error, AuthenticationError)
            assert key.fingerprint in error.tried[0]


@pytest.mark.parametrize("kind", KINDS)
def test_certificate(
    sshd_factory: SshdFactory, fido_factory: FidoFactory, tmp_path: Path, kind: str
) -> None:
    """A certificate of such a key logs in where the server trusts only the authority."""
    key = FidoKey(kind)
    authority, public = tmp_path / "ca", tmp_path / "token.pub"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", authority], check=True)
    tmp_path.chmod(0o755)
    server = sshd_factory(options={"TrustedUserCAKeys": str(authority.with_suffix(".pub"))})
    write_public(key, public)
    sign = ["ssh-keygen", "-q", "-s", str(authority), "-I", "test", "-n", server.alice.name]
    subprocess.run([*sign, str(public)], check=True)
    key.certificates.append(b64decode((tmp_path / "token-cert.pub").read_text().split()[1]))
    agent = fido_factory(key)
    with login(server, agent=agent.socket) as connection:
        assert connection.execute("echo in").stdout == "in\n"
    assert key.counter == 1


def test_a_key_that_the_server_does_not_know_is_not_touched(
    target: Sshd, fido_factory: FidoFactory
) -> None:
    """The user is not asked to touch a key that is of no use: the server is asked first."""
    strange, known = FidoKey("ed25519", comment="strange"), FidoKey("ecdsa", comment="known")
    agent = fido_factory(strange, known)
    with restored(target):
        target.authorize(target.alice, known)
        login(target, agent=agent.socket).close()
    assert (strange.counter, known.counter) == (0, 1)


def test_a_wait_for_a_touch_is_reported(
    waiting: FidoAgent, target: Sshd, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever listens to hussh.agent learns which hop waits for which key."""
    key = waiting.keys[0]

    class Toucher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno == logging.INFO:
                waiting.touch.set()

    handler = Toucher()
    logging.getLogger("hussh.agent").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "hussh"):
            login(target, agent=waiting.socket, timeout=30_000).close()
    finally:
        logging.getLogger("hussh.agent").removeHandler(handler)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "hussh.agent"]
    assert line.startswith(f"[{target.alice.name}@{target.host}:{target.port}] asking ssh-agent")
    assert f"token ({key.fingerprint})" in line
    assert "touch the security key" in line


def test_time_out(waiting: FidoAgent, target: Sshd) -> None:
    """A touch that does not come costs the time-out, whose error says what was waited for."""
    error = refused(target, agent=waiting.socket, timeout=600)
    assert isinstance(error, ConnectTimeout)
    assert (error.hop_index, error.phase) == (0, "auth")
    assert waiting.keys[0].fingerprint in str(error)
    assert "waiting for ssh-agent to sign" in str(error)
    assert "touch the security key" in str(error)
    assert waiting.dropped.acquire(timeout=20)  # the token need not blink any longer


def test_ctrl_c(waiting: FidoAgent, target: Sshd) -> None:
    """Ctrl-C ends the wait; nothing of the connection is left, and the agent is told."""

    def interrupt() -> None:
        waiting.asked.acquire()
        os.kill(os.getpid(), signal.SIGALRM)  # SIGINT itself may be ignored where tests run

    def on_alarm(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, on_alarm)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            login(target, agent=waiting.socket, timeout=60_000)
    finally:
        thread.join()
        signal.signal(signal.SIGALRM, previous)
    assert waiting.dropped.acquire(timeout=20)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_cancelled(waiting: FidoAgent, target: Sshd, backend: str) -> None:
    """Cancelling ends the wait, also that of the thread that asks; the next attempt works."""
    options: dict[str, Any] = {
        "port": target.port, "username": target.alice.name, "agent": str(waiting.socket),
    }  # fmt: skip

    async def main() -> None:
        connection = AsyncConnection(target.host, **options)
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await anyio.to_thread.run_sync(waiting.asked.acquire)
                group.cancel_scope.cancel()

            group.start_soon(cancel)
            await connection.connect()
        assert await anyio.to_thread.run_sync(lambda: waiting.dropped.acquire(timeout=20))
        waiting.touch.set()
        async with AsyncConnection(target.host, **options) as again:
            assert (await again.execute("echo in")).stdout == "in\n"

    anyio.run(main, backend=backend)


def test_others_go_on_meanwhile(waiting: FidoAgent, target: Sshd, bastion: Sshd) -> None:
    """While a target waits for a touch, the bastion that carries it runs commands."""
    opened: list[Connection] = []
    with login(bastion, private_key=bastion.alice.key.path) as way:
        thread = threading.Thread(
            target=lambda: opened.append(login(target, agent=waiting.socket, proxy_jump=way))
        )
        thread.start()
        waiting.asked.acquire()
        assert way.execute("echo meanwhile").stdout == "meanwhile\n"
        assert not opened
        waiting.touch.set()
        thread.join()
        assert opened[0].execute("echo in").stdout == "in\n"
        opened[0].close()
