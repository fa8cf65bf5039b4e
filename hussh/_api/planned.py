"""The plan of a connection that may still have to be configured; see `config=`.

An `AsyncConnection` and what opens it share one, so that neither holds the other. It
asks the configuration in a worker, and opens nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from .._connect.async_configure import ask_config
from .._connect.configure import is_logged, log_notes
from .._connect.shared_session import Limit
from .._policy.endpoint import Endpoint
from .._policy.options import Options
from .._runtime.async_workers import run_in_thread
from .._runtime.loop_tools import this_loop
from .configure_plan import configure_plan, make_endpoint
from .plan import Plan

__all__ = ["Planned"]

C = TypeVar("C")


class Planned(Generic[C]):
    """A plan.

    Attributes:
        given: as the caller's arguments made it.
        plan: the same, or what the configuration made of it when it was asked last.
    """

    def __init__(self, given: Plan[C]) -> None:
        self.given = self.plan = given

    async def configure(self, limit: Limit) -> tuple[Sequence[Options], Endpoint, Limit]:
        """Ask the configuration what to connect.

        Returns:
            The hops, the target's endpoint, and the time that there is for all.

        Raises:
            ConfigError, ConnectTimeout.
        """
        given = self.given
        made = await ask_config(
            configure_plan(given),
            given.request.config_file,
            make_endpoint(given),
            limit.deadline,
            str(limit),
        )
        self.plan = made.plan
        if made.notes and is_logged():
            loop, notes = this_loop(), made.notes
            await run_in_thread(loop, lambda: log_notes(notes), is_slow=True)
        seconds = made.plan.target.configured.connect_timeout
        if limit.deadline is None and seconds:
            limit = Limit.after(seconds)
        return made.plan.hops, make_endpoint(made.plan), limit
