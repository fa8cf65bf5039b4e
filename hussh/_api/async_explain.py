"""`explain` for tasks of asyncio and trio: connects as `AsyncConnection` does, closes, reports.

Users import it from `hussh.aio`. `explain.py` makes the report; nothing runs on the target.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from .._policy.report import Report
from .._protocol.story import Story, listen
from ..errors import HusshError
from .async_connection import AsyncConnection
from .explain import report_of

__all__ = ["explain"]


async def explain(host: str, **options: Any) -> Report:
    """Connect, close again, and report what happened at each hop.

    Args:
        host: as for `AsyncConnection`.
        options: those of `AsyncConnection`, by keyword; `timeout` is in **seconds**.

    Returns:
        A `Report`: print it, or look at its attributes. It contains a failure to connect, which
            is not raised.

    Raises:
        TypeError, ValueError: an argument is not usable; nothing was opened.
    """
    story = Story(monotonic)
    error: HusshError | None = None
    connection = AsyncConnection(host, **options)
    try:
        with listen(story):
            await connection.connect()
    except HusshError as failure:
        error = failure
    else:
        await connection.close()
    try:
        return report_of(story, error, options)
    finally:
        del error  # whose traceback holds this frame
