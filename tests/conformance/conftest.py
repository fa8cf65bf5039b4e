"""The conformance suite's columns: every test runs once for each that it does not decline.

A normal run has a choice of them for each test, two to four (see ``tests/support/selection.py``);
with HUSSH_LONG=1 each test runs in all of its columns.

A test is a coroutine function with a ``client``; it knows neither the API nor the transport.
A new API joins in ``apis.py``, a new transport in ``TRANSPORTS``; no test changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.apis import APIS, UVLOOP, Api
from tests.conformance.client import Client, run_async_test
from tests.proxy.commands import NC
from tests.support import leaks, selection
from tests.support.given_streams import anyio_stream, socket_like
from tests.support.keys import Keys
from tests.support.sshd import Sshd

#: Name -> the servers between us and the target, by fixture, in the order of travel.
TRANSPORTS: dict[str, tuple[str, ...]] = {
    "socket": (),
    "jump": ("bastion",),
    "jump2": ("bastion", "middle"),
    "pipe": (),
}
#: Streams that are given as ``stream=``, for the APIs that take them; see `STREAMS`.
GIVEN: dict[str, Any] = {"like": socket_like, "anyio": anyio_stream}

#: Options of the connection that begins the way.
FIRST: dict[str, dict[str, Any]] = {
    "pipe": {"proxy_command": NC},
    **{name: {"stream": make} for name, make in GIVEN.items()},
}

LONG = selection.LONG

#: What takes long runs in these columns; each API and each transport is there.
_FOUR = ("sync-socket", "sync-jump2", "asyncio-jump", "trio-pipe")


def _columns(api: Api, *transports: str) -> list[Any]:
    return [pytest.param((api, name), id=f"{api.name}-{name}") for name in transports]


#: Every test that says nothing else runs in these.
COLUMNS = [
    column
    for api in APIS
    for column in _columns(api, *TRANSPORTS)
    # What a second jump does to one API, it does to all.
    if LONG or "jump2" not in str(column.id) or column.id in _FOUR
]
if UVLOOP is not None:
    # What differs from asyncio's own loop shows in one of them.
    COLUMNS += _columns(UVLOOP, *(("socket", "jump") if LONG else ("jump",)))

#: Those for tests to which a second jump adds nothing.
NINE = [column for column in COLUMNS if "jump2" not in str(column.id)]

#: Two more transports: an object like a socket, and a stream of anyio.  Each test that runs over
#: all transports runs over them with HUSSH_LONG=1; else `NINE`'s do.
STREAMS = [
    column
    for api in APIS
    for column in _columns(api, *(("like",) if api.name == "sync" else ("anyio",)))
]
if LONG:
    COLUMNS += STREAMS
NINE += STREAMS

#: Those for tests that need a good part of a second each; all, if HUSSH_LONG=1 says so.
FOUR = [column for column in COLUMNS if LONG or column.id in _FOUR]

#: One for each API, for what has nothing to do with the way.
THREE = [column for column in COLUMNS if str(column.id).endswith("-socket")]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests."""
    return run_async_test(pyfuncitem)


@pytest.fixture(scope="session")
def _middle_server(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("shared") / "middle", keys, name="middle")
    with leaks.shared(server):
        yield server


@pytest.fixture
def middle(_middle_server: Sshd) -> Sshd:
    """Return the server between the bastion and the target, idle, its log empty."""
    _middle_server.settle()
    return _middle_server


@pytest.fixture(params=COLUMNS)
def client(request: pytest.FixtureRequest, target: Sshd) -> Client:
    """Return the client of one column; connected when the test begins, closed after it."""
    column: tuple[Api, str] = request.param
    api, transport = column
    way = [request.getfixturevalue(name) for name in TRANSPORTS.get(transport, ())]
    return Client(api, way, target, FIRST.get(transport))
