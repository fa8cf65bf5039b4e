"""`explain` for tasks of asyncio and trio: connects as `AsyncConnection` does, closes, reports.

Users import it from `hussh.aio`. `explain.py` makes the report; nothing runs on the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._policy.connection_options import ConnectionOptions, Seconds
from .._policy.report import Report
from .._policy.route import DEFAULT_PORT
from .._protocol.story import Story, listen
from ..errors import HusshError
from .async_connection import AsyncConnection
from .declared import takes_options
from .explain import list_given_names, report_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["explain"]


@takes_options(ConnectionOptions, is_async=True)
async def explain(
    host: str,
    *,
    username: str | None = None,
    password: str | None = None,
    key_path: Any = None,
    private_key: Any = None,
    proxy_jump: Any = None,
    proxy_command: str | Sequence[str] | None = None,
    port: int | None = DEFAULT_PORT,
    keepalive_interval: Seconds = 0,
    timeout: Seconds | None = 0,
    **options: Unpack[ConnectionOptions],
) -> Report:
    """Connect, close again, and report what happened at each hop.

    Args: see `ARGUMENTS` and `ConnectionOptions` in `_policy/connection_options.py`.

    Returns:
        A `Report`: print it, or look at its attributes. It contains a failure to connect, which
            is not raised.

    Raises:
        TypeError, ValueError: an argument is not usable; nothing was opened.
    """
    arguments: dict[str, Any] = {
        "username": username,
        "password": password,
        "key_path": key_path,
        "private_key": private_key,
        "proxy_jump": proxy_jump,
        "proxy_command": proxy_command,
        "port": port,
        "keepalive_interval": keepalive_interval,
        "timeout": timeout,
    }
    story = Story(monotonic)
    error: HusshError | None = None
    connection = AsyncConnection(host, **arguments, **options)
    try:
        with listen(story):
            await connection.connect()
    except HusshError as failure:
        error = failure
    else:
        await connection.close()
    try:
        return report_of(story, error, list_given_names(arguments, options))
    finally:
        del error  # whose traceback holds this frame
