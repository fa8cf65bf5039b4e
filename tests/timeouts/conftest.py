"""What tests of time limits share: the APIs to test, and a check of one timed-out connect."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any

import pytest

from hussh.errors import ConnectTimeout
from tests.conformance.apis import APIS, Api, Session
from tests.conformance.client import run_async_test
from tests.support.sshd import Sshd

#: Seconds: what the tests allow for connecting, and what may pass on a busy machine.
LIMIT = 0.6
#: Where the peer need not do anything for the phase to begin.
SHORT = 0.25
SLACK = 3.0

ConnectInVain = Callable[..., Coroutine[Any, Any, ConnectTimeout]]


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests."""
    return run_async_test(pyfuncitem)


@pytest.fixture(params=APIS, ids=lambda api: api.name)
def api(request: pytest.FixtureRequest) -> Api:
    """Return one of the APIs."""
    chosen: Api = request.param
    return chosen


@pytest.fixture
def connect_in_vain(api: Api) -> ConnectInVain:
    """Connect with a time limit that must run out in this phase; return the error."""

    async def connect(
        host: str, port: int, phase: str, *, limit: float = LIMIT, **options: Any
    ) -> ConnectTimeout:
        options.setdefault("username", "u")
        options.setdefault("password", "p")
        begin = monotonic()
        with pytest.raises(ConnectTimeout) as caught:
            await api.connect(host, port, timeout=limit, **options)
        took = monotonic() - begin
        error = caught.value
        assert isinstance(error, TimeoutError)
        assert error.phase == phase
        assert limit <= took < limit + SLACK
        assert "Connection timed out after" in str(error)
        return error

    return connect


@pytest.fixture
def login(api: Api) -> Callable[..., Coroutine[Any, Any, Session]]:
    """Connect to a real server as alice."""

    async def connect(server: Sshd, **options: Any) -> Session:
        options = {"username": server.alice.name, "private_key": server.alice.key.path, **options}
        return await api.connect(server.host, server.port, **options)

    return connect
