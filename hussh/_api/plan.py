"""Turns the arguments of a constructor into what connecting needs; opens nothing.

Both classes import it, because they take the same options and mean the same by them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from .._policy.connection_options import ConnectionOptions
from .._policy.hostkeys.pins import parse_pins
from .._policy.keys.given_keys import parse_given_keys
from .._policy.options import DEFAULTS_FAILED, Options
from .._policy.route import (
    DEFAULT_PORT,
    HopSpec,
    check_exclusive,
    check_host,
    check_port,
    check_route,
    check_username,
    expand_proxy_command,
    is_none,
    parse_jump,
    resolve,
)
from .arguments import check_interval, check_password
from .check_options import algorithms_of, check_options

__all__ = ["Plan", "make_plan"]

C = TypeVar("C")

#: Options that say which key the target has, and what jump hosts given by name have instead.
OF_TARGET: ConnectionOptions = {"host_key": None, "host_key_alias": None}


@dataclass(frozen=True, repr=False)
class Plan(Generic[C]):
    """One connection that is to be made.

    Attributes:
        target: the options of its last hop.
        hops: the options of every hop to be opened for it, the target last.
        route: the whole way, with that of `bastion`, the target last.
        bastion: the connection that carries the first of `hops`, or None.
        proxy_command: as given; None if it is disabled.
    """

    target: Options
    hops: tuple[Options, ...]
    route: tuple[HopSpec, ...]
    bastion: C | None
    proxy_command: str | Sequence[str] | None


def make_plan(
    connection_type: type[C],
    noun: str,
    *,
    host: str,
    port: int | None,
    username: str | None,
    password: str | None,
    private_key: Any,
    proxy_jump: Any,
    proxy_command: str | Sequence[str] | None,
    keepalive_interval: float,
    options: ConnectionOptions,
    defaults_failed: str = DEFAULTS_FAILED,
    can_await: bool = False,
) -> Plan[C]:
    """Check all arguments.

    Args:
        connection_type: the public class, which `proxy_jump` may be; it has a `_plan`.
        noun: its name in errors, with its article.
        options: as the user gave them, see `ConnectionOptions`.
        can_await: whether the class awaits callbacks that are coroutine functions.

    Raises:
        TypeError, ValueError: an argument is not usable.
    """
    check_exclusive(proxy_jump, proxy_command)
    settings = check_options(f"{connection_type.__name__}.__init__", options, can_await=can_await)
    target = Options(
        host=check_host(host),
        port=DEFAULT_PORT if port is None else check_port(port),
        username=check_username(username or "root"),
        password=check_password(password, settings["allow_empty_password"]),
        keys=parse_given_keys(private_key),
        known_hosts=cast("tuple[str, ...]", settings["known_hosts"]),
        host_key_pins=parse_pins(settings["host_key"]),
        keepalive_interval=check_interval(keepalive_interval),
        algorithms=algorithms_of(settings),
        settings=settings,
        defaults_failed=defaults_failed,
    )
    command = None if is_none(proxy_command) else proxy_command
    if command is not None:
        argv = expand_proxy_command(command, target.host, target.port, target.username)
        target = replace(target, proxy_command=tuple(argv))
    jumps = resolve(parse_jump(proxy_jump, connection_type, noun) or [], target.username)
    spec = HopSpec(target.host, target.port, target.username)
    check_route(jumps, spec, _get_route)
    bastion = next((hop for hop in jumps if isinstance(hop, connection_type)), None)
    named = [hop for hop in jumps if isinstance(hop, HopSpec)]
    route = (*(() if bastion is None else _get_route(bastion)), *named, spec)
    hops = (*(_make_hop_options(target, hop) for hop in named), target)
    return Plan(target, hops, route, bastion, command)


def _get_route(connection: Any) -> tuple[HopSpec, ...]:
    plan: Plan[Any] = connection._plan
    return plan.route


def _make_hop_options(target: Options, hop: HopSpec) -> Options:
    """Return the options of a jump host given by name: the target's credentials and policies.

    Options that say which key the target has do not hold for it.
    """
    return replace(
        target,
        host=hop.host,
        port=hop.port,
        username=hop.username or target.username,
        host_key_pins=None,
        settings={**target.settings, **OF_TARGET},
    )
