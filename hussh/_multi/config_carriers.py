"""Bastions that a configuration names for many hosts of one group: one login for all in one loop.

`HostGroup` has one. A bastion that is named by argument is shared before (`hosts.py`). A bastion
that a configuration names is known only when the configuration is asked, while a host is being
opened. It opens nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .._connect.shared_session import Shared
from .._policy.endpoint import Endpoint
from .._policy.options import Options
from .._runtime.loop_tools import this_loop
from .hosts import make_comparable

__all__ = ["ConfigCarriers"]


class ConfigCarriers:
    """Sessions of jump hosts, by loop, and by what leads to them."""

    def __init__(self) -> None:
        self._known: dict[Any, Shared] = {}

    def get_carrier(
        self, hops: Sequence[Options], bastion: Shared | None, endpoint: Endpoint, of: Shared
    ) -> Shared:
        """Return the session of the last of these hops, in the loop that runs.

        Args:
            hops: from the first behind `bastion` on.
            bastion: what the caller gave to carry them; None means a socket, or a program.
            endpoint: of the hop behind them.
            of: who asks.
        """
        first = None if bastion is None else id(bastion)
        key = id(this_loop().native), first, tuple([make_comparable(options) for options in hops])
        known = self._known.get(key)
        if known is None:
            last = hops[-1]
            # No time limit of its own: one of its hosts may have more time than another.
            known = Shared(tuple(hops), bastion, Endpoint.of(last, endpoint.index - 1), 0)
            known.limiter = of.limiter
            self._known[key] = known
        return known
