"""What the layer above may use of a connection besides its public methods.

`_multi` imports it, and reaches into a connection in no other way. Nothing here opens anything.
"""

from __future__ import annotations

from typing import Any

from .._connect.shared_session import Shared
from .._policy.options import Options
from .async_connection import AsyncConnection
from .connection import Connection
from .plan import Plan

__all__ = ["make_connection", "get_options", "get_plan", "get_shared"]


def get_plan(connection: Connection | AsyncConnection) -> Plan[Any]:
    """Return how a connection is made."""
    return connection._plan


def get_options(connection: AsyncConnection) -> Options:
    """Return what the target of a connection is reached with, as the configuration made it."""
    return connection._options


def make_connection(plan: Plan[AsyncConnection], timeout: float) -> AsyncConnection:
    """Return a connection that is made so; `timeout` is in seconds, 0 for none."""
    return AsyncConnection._make_from_plan(plan, timeout)


def get_shared(connection: AsyncConnection) -> Shared:
    """Return the session of a connection, with what it needs to be opened."""
    return connection._shared
