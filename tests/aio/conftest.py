"""Fixtures of the async API's tests: each coroutine test runs once per kind of event loop.

A test with the fixture ``loop`` runs inside of it. asyncio's debug mode is on, and what it reports
(a task nobody awaited, an exception nobody saw) fails the test, since warnings are errors and the
logger is watched.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import zlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio

from hussh.aio import AsyncConnection
from tests.aio.mute_peers import Silence
from tests.conformance.apis import LOOPS, run_in
from tests.support.relay import Relay
from tests.support.sshd import Sshd

Make = Callable[..., AsyncConnection]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per kind of event loop; on uvloop, too, where its module asks for that.

    In a normal run half of the latter's tests have uvloop in place of asyncio's own loop. A test
    with the mark ``one_loop`` is about code that does not know its loop: it has one, by turns.
    """
    if "loop" not in metafunc.fixturenames:
        return
    loops = LOOPS if getattr(metafunc.module, "ON_UVLOOP", False) else LOOPS[:2]
    number = zlib.crc32(metafunc.definition.name.encode())
    if metafunc.definition.get_closest_marker("one_loop"):
        chosen = {loops[number % len(loops)]}
    else:
        chosen = {"trio", loops[2 * (number % 2)] if len(loops) > 2 else loops[0]}
    metafunc.parametrize(
        "loop",
        [pytest.param(loop, marks=() if loop in chosen else pytest.mark.long) for loop in loops],
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests in their loop; no task may be left when they end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    name = str(pyfuncitem.funcargs["loop"])

    async def main() -> None:
        before = tasks(name)
        await pyfuncitem.obj(**arguments)
        await anyio.lowlevel.checkpoint()
        assert tasks(name) == before, "tasks are left"

    complaints: list[str] = []

    class Complaints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "took" not in record.getMessage():  # slow steps are measured elsewhere
                complaints.append(record.getMessage())

    handler = Complaints(logging.WARNING)
    logging.getLogger("asyncio").addHandler(handler)
    try:
        run_in(name, main)
    finally:
        logging.getLogger("asyncio").removeHandler(handler)
    assert complaints == []
    return True


def tasks(name: str) -> int:
    """Return how many tasks the running loop has."""
    if name != "trio":
        return len(asyncio.all_tasks())
    return trio.lowlevel.current_statistics().tasks_living


@pytest.fixture
def make() -> Make:
    """Make a connection to a server, as alice with her key; it is not connected."""

    def connection(server: Sshd, **options: Any) -> AsyncConnection:
        options.setdefault("username", server.alice.name)
        if "password" not in options and "key_path" not in options:
            options.setdefault("private_key", server.alice.key.path)
        options.setdefault("timeout", 60)
        options = {"host": server.host, "port": server.port, **options}
        return AsyncConnection(**options)

    return connection


@pytest.fixture
def silence(relay_factory: Callable[..., Relay]) -> Silence:
    """Return what makes servers mute when a call is cancelled."""
    return Silence(relay_factory)


@pytest.fixture
def distant(target: Sshd, relay_factory: Callable[..., Relay]) -> Any:
    """Return the target at a distance: what is asked of it has not come when one looks at once."""
    relay = relay_factory(target, rtt=0.004)
    return SimpleNamespace(host=relay.host, port=relay.port, alice=target.alice)
