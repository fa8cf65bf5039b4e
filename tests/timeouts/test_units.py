"""Time limits as timedeltas, which mean the same everywhere, and numbers in the wrong unit."""

from __future__ import annotations

import contextlib
import logging
from datetime import timedelta
from typing import Any

import pytest

from hussh import CommandTimeout, Connection, ConnectTimeout
from hussh._api import arguments
from hussh.aio import AsyncConnection
from hussh.multi_conn import MultiConnection
from tests.conformance.apis import APIS
from tests.conformance.awaited import Awaited
from tests.support.listeners import MuteListener
from tests.support.sshd import Sshd

LONG, SHORT = timedelta(minutes=2), timedelta(milliseconds=300)


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process have told of no unit yet."""
    monkeypatch.setattr(arguments, "_told_units", set())


def options(server: Sshd) -> dict[str, Any]:
    """Return how to log in."""
    return {"port": server.port, "username": "alice", "private_key": server.alice.key.path}


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_one_unit_for_all(target: Sshd, api: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A timedelta is the same limit for every call of either API, and of every object's."""

    async def main() -> None:
        make = Connection if api.name == "sync" else AsyncConnection
        made: Any = make(target.host, timeout=LONG, keepalive_interval=LONG, **options(target))
        conn = Awaited(made if api.name == "sync" else await made)
        try:
            assert made.timeout == (120_000 if api.name == "sync" else 120)
            assert made._options.keepalive_interval == 120
            with pytest.raises(CommandTimeout, match=r"after (300 ms|0\.3 s); it was told to stop"):
                await conn.execute("exec sleep 1000", SHORT)
            assert (await conn.execute("echo x", LONG)).stdout == "x\n"
            async with conn.popen("exec sleep 1000") as process:
                with pytest.raises(CommandTimeout, match=r"timed out after (300 ms|0\.3 s)"):
                    await process.wait(SHORT)
                with pytest.raises(CommandTimeout):
                    await process.communicate(None, SHORT)
                await process.kill()
            async with conn.shell() as shell:
                with pytest.raises(CommandTimeout, match=r"within (300 ms|0\.3 s)"):
                    await shell.expect("never", SHORT)
                assert (await shell.read_available(SHORT)).stdout == ""
            await conn.sftp.put_bytes(b"y", "limited", progress=None, timeout=LONG)
            assert await conn.sftp_read("limited", timeout=LONG) == "y"
            with pytest.raises(TimeoutError):
                await conn.sftp.get_bytes("/dev/zero", timeout=SHORT)
            (target.alice.files / "limited").unlink()
        finally:
            await conn.close()

    api.run(main)
    assert "milliseconds" not in caplog.text


def test_many_hosts(target: Sshd, caplog: pytest.LogCaptureFixture) -> None:
    """Many hosts take timedeltas for the class, for connecting and for each call."""
    with MultiConnection.from_shared_auth(
        [target.host], timeout=LONG, keepalive_interval=LONG, **options(target)
    ) as multi:
        assert multi.connect(timeout=LONG).failed is None
        late = multi.execute("exec sleep 1000", SHORT)[target.host]
        assert isinstance(late.error, CommandTimeout)
        assert multi.sftp_write_data("z", "limited", timeout=LONG).failed is None
        assert multi.sftp_read("limited", timeout=LONG)[target.host].stdout == "z"
    (target.alice.files / "limited").unlink()
    assert "take seconds" not in caplog.text


def test_connecting(mute_listener: MuteListener) -> None:
    """The limit of connecting may be a timedelta, and one that is negative is refused."""
    with pytest.raises(ConnectTimeout, match="300 ms"):
        Connection(mute_listener.host, mute_listener.port, timeout=SHORT)
    for make in (Connection, AsyncConnection):
        with pytest.raises(ValueError, match="not negative"):
            make("nowhere.invalid", timeout=-SHORT)
        with pytest.raises(ValueError, match="not negative"):
            make("nowhere.invalid", keepalive_interval=-SHORT)
        with pytest.raises(TypeError, match=r"or a datetime\.timedelta"):
            make("nowhere.invalid", timeout="1 s")  # type: ignore[arg-type]


def test_wrong_units(caplog: pytest.LogCaptureFixture, target: Sshd) -> None:
    """A number that looks like the other unit is logged once, with what it means."""
    with (
        Connection(target.host, timeout=60_000, **options(target)) as connection,
        caplog.at_level(logging.WARNING, "hussh"),
    ):
        caplog.clear()
        for limit in (90, 80, 100, timedelta(milliseconds=99)):
            with contextlib.suppress(CommandTimeout):  # on a machine that is so slow
                connection.execute("true", timeout=limit)
        for seconds in (3600, 30_000, 40_000):
            AsyncConnection("nowhere.invalid", timeout=seconds)
    sync, loop = caplog.records
    assert (sync.levelname, loop.levelname) == ("WARNING", "WARNING")
    assert sync.getMessage() == (
        "Connection takes milliseconds, so timeout=90 is 0.09 s; if that is not what was meant, "
        "write timeout=datetime.timedelta(seconds=90)"
    )
    assert loop.getMessage() == (
        "hussh.aio and MultiConnection take seconds, so timeout=30000 is 8.3 hours; if that is not "
        "what was meant, write timeout=datetime.timedelta(milliseconds=30000)"
    )
