"""Turns the arguments of a constructor into what connecting needs; opens nothing.

`Connection` and `AsyncConnection` import it, because they take the same options and mean the same
by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, cast

from .._policy.connection_options import ConnectionOptions, DefaultUser, Seconds
from .._policy.hostkeys.pins import parse_pins
from .._policy.keys.given_keys import GivenKey, parse_given_keys
from .._policy.options import DEFAULTS_FAILED, Options
from .._policy.route import (
    DEFAULT_PORT,
    DefaultPort,
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
from .check_options import check_config, check_options, get_algorithms

__all__ = ["Plan", "Request", "make_plan", "make_jump_options", "make_hop_options", "get_route"]

C = TypeVar("C")

#: Options that say which key the target has, and what jump hosts given by name have instead.
OF_TARGET: ConnectionOptions = {"host_key": None, "host_key_alias": None}


def make_jump_options(options: ConnectionOptions) -> ConnectionOptions:
    """Return options of the target as they hold for a jump host given by name."""
    made: ConnectionOptions = {**options, **OF_TARGET}
    if isinstance(made.get("gssapi"), str):  # the target's name
        made["gssapi"] = True
    return made


@dataclass(frozen=True, eq=False, repr=False)
class Request:
    """What a caller gave, checked, as far as a configuration may have something to add.

    Attributes:
        host: as given, without brackets.
        port, username: None where they were not given.
        jumps: the hosts that ``proxy_jump=`` names, with what was given of each.
        has_way: a proxy was given, or disabled.
        callee, can_await, defaults_failed: of the public class.
    """

    host: str
    port: int | None
    username: str | None
    password: str | None
    keys: tuple[GivenKey, ...]
    jumps: tuple[HopSpec, ...] | None
    has_way: bool
    proxy_command: Any
    keepalive_interval: float
    options: Mapping[str, Any]
    config: bool | str | None
    callee: str
    can_await: bool
    defaults_failed: str

    @property
    def config_file(self) -> str | None:
        """The file that `config=` names; None if ssh reads its own files."""
        return self.config if isinstance(self.config, str) else None


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Generic[C]):
    """One connection that is to be made.

    Attributes:
        target: the options of its last hop.
        hops: the options of every hop to be opened for it, the target last.
        route: the whole way, with that of `bastion`, the target last.
        bastion: the connection that carries the first of `hops`, or None.
        proxy_command: as given; None if it is disabled.
        request: what the caller asked for; a `config=` in it makes another plan of this one.
    """

    target: Options
    hops: tuple[Options, ...]
    route: tuple[HopSpec, ...]
    bastion: C | None
    proxy_command: str | Sequence[str] | None
    request: Request


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
    keepalive_interval: Seconds,
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
    stream = options.get("stream")
    no_port = port is None or isinstance(port, DefaultPort)
    no_user = not username or isinstance(username, DefaultUser)
    jumps = parse_jump(proxy_jump, connection_type, noun) or []
    named = [hop for hop in jumps if isinstance(hop, HopSpec)]
    request = Request(
        host=check_host(host),
        port=None if no_port else check_port(port),
        username=None if no_user else check_username(username),
        password=password,
        keys=parse_given_keys(private_key),
        jumps=tuple(named),
        has_way=any(way is not None for way in (proxy_jump, proxy_command, stream)),
        proxy_command=proxy_command,
        keepalive_interval=check_interval(keepalive_interval),
        options=dict(options),
        config=check_config(options.get("config"), "config"),
        callee=f"{connection_type.__name__}.__init__",
        can_await=can_await,
        defaults_failed=defaults_failed,
    )
    target = make_hop_options(
        request,
        host=request.host,
        port=request.port or int(DEFAULT_PORT),
        username=request.username or "root",
    )
    check_carrier(stream, proxy_jump, proxy_command, can_await=can_await)
    command = None if is_none(proxy_command) else proxy_command
    if command is not None:
        argv = expand_proxy_command(command, target.host, target.port, target.username)
        target = replace(target, proxy_command=tuple(argv))
    jumps = resolve(jumps, target.username)
    spec = HopSpec(target.host, target.port, target.username)
    check_route(jumps, spec, get_route)
    bastion = next((hop for hop in jumps if isinstance(hop, connection_type)), None)
    named = [hop for hop in jumps if isinstance(hop, HopSpec)]
    route = (*(() if bastion is None else get_route(bastion)), *named, spec)
    hops = (*(_make_hop_options(target, hop) for hop in named), target)
    return Plan(target, hops, route, bastion, command, request)


def check_carrier(
    stream: object, proxy_jump: object, proxy_command: object, *, can_await: bool
) -> None:
    """Refuse a stream beside another way to the target, and one that nothing would await."""
    if stream is None:
        return
    if not is_none(proxy_jump) or not is_none(proxy_command):
        raise TypeError("stream is mutually exclusive with proxy_jump and proxy_command")
    if not can_await and not hasattr(stream, "recv"):
        raise TypeError("stream has to be awaited, and nothing awaits here: use AsyncConnection")


def make_hop_options(request: Request, *, host: str, port: int, username: str) -> Options:
    """Return what a request means for one hop.  Raises TypeError and ValueError."""
    settings = check_options(request.callee, request.options, can_await=request.can_await)
    return Options(
        host=host,
        port=port,
        username=username,
        password=check_password(request.password, settings["allow_empty_password"]),
        keys=request.keys,
        known_hosts=cast("tuple[str, ...]", settings["known_hosts"]),
        host_key_pins=parse_pins(settings["host_key"]),
        keepalive_interval=request.keepalive_interval,
        algorithms=get_algorithms(settings),
        settings=settings,
        defaults_failed=request.defaults_failed,
    )


def get_route(connection: Any) -> tuple[HopSpec, ...]:
    """Return the whole way of a connection; its own host is the last."""
    plan: Plan[Any] = connection._plan
    return plan.route


def _make_hop_options(target: Options, hop: HopSpec) -> Options:
    """Return the options of a jump host given by name: the target's credentials and policies.

    Options that say which key the target has do not hold for it.
    """
    return replace(
        target,
        host=hop.host,
        port=int(hop.port),
        username=hop.username or target.username,
        host_key_pins=None,
        settings=make_jump_options(target.settings),
    )
