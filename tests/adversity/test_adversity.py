"""A bad day: no descriptors, no home, a bastion that dies in mid-transfer."""

from __future__ import annotations

import gc
import logging
import os
import pwd
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

from hussh import (
    AuthenticationError,
    Connection,
    ConnectionLost,
    HusshError,
    KeyUnreadable,
)
from hussh.aio import AsyncConnection
from tests.proxy.commands import descriptors
from tests.support.limits import spare_descriptors
from tests.support.sshd import Sshd


def options(server: Sshd) -> dict[str, Any]:
    """Return how alice logs in."""
    alice = server.alice
    return {"port": server.port, "username": alice.name, "private_key": alice.key.path}


def sync_work(server: Sshd, path: Path) -> None:
    """Connect, and use all that opens something."""
    with Connection(server.host, **options(server), host_key_policy="ignore") as connection:
        connection.sftp_write_data("x", "few")
        connection.sftp_read("few", path)
        assert connection.scp_read("few") == "x"


@pytest.mark.parametrize("api", ["sync", "asyncio", "trio"])
def test_running_out_of_descriptors(target: Sshd, tmp_path: Path, api: str) -> None:
    """At whatever step they run out: an error with its hop, and no descriptor lost."""

    async def work() -> None:
        given = options(target)
        async with AsyncConnection(target.host, **given, host_key_policy="ignore") as connection:
            assert (await connection.execute("echo x")).stdout == "x\n"

    async def limited(spare: int) -> None:
        with spare_descriptors(spare):
            await work()

    def once(spare: int | None) -> None:
        if api != "sync":
            anyio.run(work, backend=api) if spare is None else anyio.run(
                limited, spare, backend=api
            )
        elif spare is None:
            sync_work(target, tmp_path / "copy")
        else:
            with spare_descriptors(spare):
                sync_work(target, tmp_path / "copy")

    once(None)  # whatever is opened once and kept
    outcomes = []
    for spare in range(12):
        before = descriptors()
        try:
            once(spare)
        except HusshError as error:
            outcomes.append(error)
        else:
            break
        finally:
            gc.collect()
            assert descriptors() == before
    else:
        pytest.fail(f"never enough: {outcomes}")
    assert len(outcomes) >= 2, outcomes
    assert all("Too many open files" in str(error) for error in outcomes), outcomes
    assert {e.hop for e in outcomes} == {f"{target.alice.name}@{target.host}:{target.port}"}


def test_no_home(
    target: Sshd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A user without a home, as in a container with a number for a user: no crash, no odd file."""

    def nobody(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.chdir(tmp_path)
    given = options(target)
    Connection(target.host, **given).close()
    with caplog.at_level(logging.WARNING, "hussh.hostkey"):
        Connection(target.host, **given, host_key_policy="accept-new").close()
    assert "no home folder is known" in caplog.text
    Connection(target.host, **given, host_key_policy="accept-new", known_hosts="known").close()
    with pytest.raises(AuthenticationError, match="default SSH keys"):
        Connection(target.host, **{**given, "private_key": None})
    with pytest.raises(KeyUnreadable, match="does not exist"):
        Connection(target.host, **{**given, "private_key": "~/.ssh/id_ed25519"})
    assert sorted(os.listdir(tmp_path)) == ["home", "known"]


def test_bastion_that_dies_in_a_transfer(
    sshd_factory: Callable[..., Sshd], target: Sshd, tmp_path: Path
) -> None:
    """The transfer fails at once, counts what had arrived, keeps it, and names the bastion."""
    bastion = sshd_factory(name="mortal")
    huge = target.alice.files / "huge"
    huge.touch()
    os.truncate(huge, 4 << 30)
    huge.chmod(0o644)
    begun = threading.Event()

    def kill() -> None:
        begun.wait()
        bastion.stop()

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        with (
            Connection(bastion.host, **options(bastion)) as way,
            Connection(target.host, **options(target), proxy_jump=way) as connection,
        ):
            with pytest.raises(ConnectionLost) as caught:
                connection.sftp_read(
                    "huge", tmp_path / "part", progress=lambda done, total: begun.set()
                )
            thread.join()
            for call in (connection.execute, way.execute, connection.scp_read):
                with pytest.raises(ConnectionLost):
                    call("x")
    finally:
        huge.unlink()
    error = caught.value
    assert error.hop == f"{target.alice.name}@{target.host}:{target.port}"
    assert isinstance(error.__cause__, ConnectionLost)
    assert error.__cause__.hop == f"{bastion.alice.name}@{bastion.host}:{bastion.port}"
    transferred = error.transferred  # type: ignore[attr-defined]
    assert 0 < transferred <= (tmp_path / "part").stat().st_size
    assert f"{transferred} bytes" in str(error)
    os.truncate(tmp_path / "part", 0)
