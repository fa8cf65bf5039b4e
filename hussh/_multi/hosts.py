"""Turns what the caller of a `MultiConnection` gives into unconnected `AsyncConnection` objects.

`multi_connection` and `host_group` import it. It opens nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from .._api.async_connection import AsyncConnection
from .._api.connection import Connection
from .._api.internals import get_plan, make_connection
from .._api.plan import Plan
from .._policy.connection_options import add_defaults
from .._policy.options import Options
from .._policy.route import is_none

__all__ = ["as_async", "make_connections"]

#: What a mapping in `hosts` may have: every argument of `AsyncConnection`.
OPTIONS = tuple(inspect.signature(AsyncConnection).parameters)


def as_async(
    connection: object, known: dict[int, AsyncConnection], what: str = "connections must be"
) -> AsyncConnection:
    """Return the same connection, or for a sync one an async one with the same options.

    Args:
        known: connections that were made before, so that a bastion stays shared.
        what: the beginning of the error.

    Raises:
        TypeError: it is neither kind.
    """
    if isinstance(connection, AsyncConnection):
        return connection
    if not isinstance(connection, Connection):
        raise TypeError(
            f"{what} AsyncConnection or Connection objects, not {type(connection).__name__}"
        )
    made = known.get(id(connection))
    if made is None:
        given = get_plan(connection)
        bastion = None if given.bastion is None else as_async(given.bastion, known)
        plan: Plan[AsyncConnection] = Plan(
            given.target, given.hops, given.route, bastion, given.proxy_command, given.request
        )
        made = known[id(connection)] = make_connection(plan, connection.timeout / 1000)
    return made


def make_connections(
    hosts: Iterable[str | Mapping[str, Any]], options: dict[str, Any]
) -> list[AsyncConnection]:
    """Make a connection for each host, all with the same options except those of one host.

    Bastions that are given by name become one object for all hosts that reach them in the same way
    with the same credentials: one login carries all of these.
    """
    if isinstance(hosts, str | bytes | Mapping):
        kind = "mapping" if isinstance(hosts, Mapping) else "string"
        raise TypeError(f"hosts must be a list of hosts, not one {kind}")
    if options.get("stream") is not None:
        raise TypeError("stream carries one connection: give each AsyncConnection its own")
    known: dict[int, AsyncConnection] = {}
    bastions: dict[Any, AsyncConnection] = {}
    made = []
    for place, host in enumerate(hosts):
        merged = {**options, **_merge_own(host, place)}
        merged["proxy_jump"] = _convert_jump(merged["proxy_jump"], known)
        try:
            one = AsyncConnection(**merged)
        except (TypeError, ValueError) as error:
            # Among hundreds of hosts the error has to name this one.
            again = TypeError if isinstance(error, TypeError) else ValueError
            raise again(f"hosts[{place}]: {error}") from None
        made.append(_share_bastion(one, bastions))
    return made


def _merge_own(host: object, place: int) -> Mapping[str, Any]:
    if isinstance(host, str):
        return {"host": host}
    if not isinstance(host, Mapping):
        raise TypeError(
            f"hosts[{place}] must be a name or a mapping of options, not {type(host).__name__}"
        )
    if "host" not in host:
        raise TypeError(f'hosts[{place}] has no "host"')
    unknown = [name for name in host if name not in OPTIONS]
    if unknown:
        raise TypeError(
            f"hosts[{place}]: {unknown[0]!r} is no option of a connection; "
            f"there are {', '.join(OPTIONS)}"
        )
    # One of the two names for the key replaces the other, which the common options may have.
    both = {"key_path", "private_key"}
    other = {} if not both & host.keys() else dict.fromkeys(both - host.keys())
    # In the same way proxy_jump and proxy_command replace each other, unless they are "none".
    ways = {"proxy_jump", "proxy_command"}
    if not all(is_none(host.get(way)) for way in ways):
        other |= dict.fromkeys(ways - host.keys())
    return {**other, **host}


def _convert_jump(jump: Any, known: dict[int, AsyncConnection]) -> Any:
    """Return bastions with async connections in place of sync ones, also in a chain."""
    if isinstance(jump, Connection):
        return as_async(jump, known)
    if isinstance(jump, list):
        return [_convert_jump(hop, known) for hop in jump]
    return jump


def make_comparable(options: Options) -> tuple[object, ...]:
    """Return what stands for the options of a hop in a key; callbacks need not be hashable."""
    values = options.settings.values()  # in the order of their declaration
    shown = [one if isinstance(one, Hashable) else id(one) for one in values]
    return replace(options, settings=add_defaults()), *shown


def _share_bastion(
    connection: AsyncConnection, bastions: dict[Any, AsyncConnection]
) -> AsyncConnection:
    plan: Plan[AsyncConnection] = get_plan(connection)
    named = plan.hops[:-1]
    if not named or plan.request.config:  # which has something to say about them: `config_carriers`
        return connection
    # Options compare by value: two hosts with other credentials have bastions of their own.
    first = None if plan.bastion is None else id(plan.bastion)
    key = first, tuple([make_comparable(options) for options in named])
    bastion = bastions.get(key)
    if bastion is None:
        of_bastion = replace(
            plan, target=named[-1], hops=named, route=plan.route[:-1], proxy_command=None
        )
        # It has no time limit, because one of its hosts may have more time than another.
        bastion = bastions[key] = make_connection(of_bastion, 0)
    return make_connection(replace(plan, hops=plan.hops[-1:], bastion=bastion), connection.timeout)
