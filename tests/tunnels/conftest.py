"""Fixtures of the tunnel tests: the columns of the conformance suite, and work beside the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread

from tests.conformance.client import Client
from tests.conformance.conftest import (  # noqa: F401  (fixtures)
    _middle_server,
    client,
    middle,
    pytest_pyfunc_call,
)

T = TypeVar("T")


async def apart(client: Client, call: Callable[..., T], *given: Any) -> T:  # noqa: F811
    """Make a call that blocks: here for the sync API, in a thread where a loop must go on."""
    if client.api.name == "sync":
        return call(*given)
    return await anyio.to_thread.run_sync(call, *given)
