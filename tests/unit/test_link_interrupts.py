"""A Ctrl-C at any place at which a link or channel is made or freed: C keeps nothing of it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from hussh import Connection, build_info
from hussh._native._libssh2 import lib
from hussh._native.channel import Channel
from hussh._native.deferred_frees import DeferredFrees
from hussh._native.link import Link
from tests.support.asyncssh_server import PASSWORD, asyncssh_server
from tests.support.sshd import Sshd
from tests.support.until import until
from tests.timeouts.interrupted_everywhere import Injector

FOLDER = os.sep + os.path.join("hussh", "_native") + os.sep


def is_traced(code: CodeType) -> bool:
    """Tell whether code is that of the owners of C objects."""
    return FOLDER in code.co_filename


def interrupted(call: Callable[[], object]) -> Iterator[str]:
    """Make the call again and again, interrupted at another place each time; yield the places."""
    number = 0
    while True:
        number += 1
        injector = Injector(number, is_traced)
        injector.run(call)
        if not injector.where:
            break
        yield injector.where
    assert number > 20


@pytest.fixture(autouse=True)
def lost(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the types of what finalizers raise, which nobody could catch."""
    errors: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda seen: errors.append(seen.exc_type))
    return errors


def test_link(lost: list[Any]) -> None:
    """A link is freed whether it was made by half, was to be freed, or was only forgotten."""

    def make_and_free() -> None:
        kept, forgotten = Link.over_memory(), Link.over_memory()
        del forgotten
        kept.free()

    before = lib.hussh_live()
    for where in interrupted(make_and_free):
        assert lib.hussh_live() == before, where
    # An interrupt may come into a finalizer; nothing else may.
    assert all(error is KeyboardInterrupt for error in lost)


def test_channel(target: Sshd, lost: list[Any]) -> None:
    """A channel that an interrupt lost is closed, and the connection goes on."""
    before = lib.hussh_live()
    lose_channels(target, lost)
    gc.collect()
    assert lib.hussh_live() == before
    assert all(error is KeyboardInterrupt for error in lost)


def lose_channels(target: Sshd, lost: list[Any]) -> None:
    """Interrupt the opening and freeing of two channels at each place."""
    account = target.alice
    with Connection(
        target.host, target.port, account.name, private_key=str(account.key.path)
    ) as connection:
        connection.execute("true")
        session: Any = connection._session

        def open_and_free() -> None:
            with session.driver.locked():
                kept = Channel.open(session.link, b"session", b"", 1000)
                forgotten = Channel.open(session.link, b"session", b"", 1000)
                del forgotten
                kept.free()

        for _ in interrupted(open_and_free):
            assert connection.execute("echo still there").stdout == "still there\n"
        until(lambda: session.link.lingering == 0)
        # Only a finalizer that was interrupted leaves its channel to the end of the connection;
        # the others are the link and the spare session.
        assert lib.hussh_live() <= 2 + len(lost)


def test_deferred_frees_come_again() -> None:
    """What an interrupt kept from being freed is freed next time; what fails is not repeated."""
    calls: list[str] = []
    frees = DeferredFrees()

    def interrupt(owner: str) -> None:
        calls.append(owner)
        if len(calls) == 1:
            raise KeyboardInterrupt

    def fail(owner: str) -> None:
        calls.append(owner)
        raise OSError(owner)

    with pytest.raises(KeyboardInterrupt):
        frees.add(interrupt, "first")
    with pytest.raises(OSError, match="second"):
        frees.add(fail, "second")
    assert calls == ["first", "first", "second"]
    assert not frees.items


def interrupt_computations(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt the computations of key exchanges at each place: the connection goes on."""
    monkeypatch.setitem(globals(), "FOLDER", os.sep + "kex_work.py")
    session: Any = connection._session

    def rekey() -> None:
        with session.driver.locked():
            session.link.rekey()
        assert connection.execute("cat", 20_000, input="a").stdout == "a"

    for where in interrupted(rekey):
        assert connection.execute("cat", 20_000, input=where).stdout == where
    connection.close()


def test_power(sshd_factory: Callable[..., Sshd], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key exchange goes on whose exponentiation was interrupted on its way to a worker."""
    target = sshd_factory(options={"KexAlgorithms": "diffie-hellman-group14-sha256"})
    account = target.alice
    connection = Connection(
        target.host, target.port, account.name, private_key=str(account.key.path),
        key_exchange=["diffie-hellman-group14-sha256"],
    )  # fmt: skip
    interrupt_computations(connection, monkeypatch)


@pytest.mark.skipif(build_info()["mlkem"] != "cryptography", reason="C computes ML-KEM here")
def test_ml_kem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with ML-KEM, which the thread that pumps computes at once."""
    with asyncssh_server(tmp_path, kex_algs=["mlkem768x25519-sha256"]) as port:
        connection = Connection("127.0.0.1", port, "alice", PASSWORD)
        interrupt_computations(connection, monkeypatch)
