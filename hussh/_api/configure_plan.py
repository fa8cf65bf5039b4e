"""`config=`: from a plan and what ``ssh -G`` answers to the plan that is connected.

`connection.py` and `planned.py` run it. It is a generator that yields a `Question` for each host
and gets an `Answer`; `_connect/configure.py` and its twin ask. What the caller gave by argument
wins over the configuration. Nothing here starts a program or reads a file.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from dataclasses import replace
from time import monotonic
from typing import Any, NamedTuple, TypeVar, cast

from .._connect.configure import ask_config, log_notes
from .._policy.connection_options import ConnectionOptions
from .._policy.endpoint import Endpoint
from .._policy.hostkeys.configured_keys import parse_revoked
from .._policy.hostkeys.known_hosts_line import make_lookup_name
from .._policy.kerberos import has_gssapi
from .._policy.options import Options
from .._policy.route import (
    HopSpec,
    check_host,
    check_port,
    check_route,
    check_username,
    expand_proxy_command,
    is_none,
)
from .._policy.ssh_config.answer import USUAL, Answer, Lookup, Question
from .._policy.ssh_config.settings import Followed, Reader, follow
from .._policy.ssh_config.way import ConfiguredHop, find_way
from ..errors import ConfigError
from .check_options import list_supported_algorithms
from .plan import OF_TARGET, Plan, Request, get_route, make_hop_options, make_jump_options

__all__ = ["ConfiguredPlan", "configure", "configure_plan", "make_endpoint"]

C = TypeVar("C")


class ConfiguredPlan(NamedTuple):
    """What a configuration has made of a plan.

    Attributes:
        notes: for the log: what it says and cannot be followed.
    """

    plan: Plan[Any]
    notes: tuple[str, ...]


def configure_plan(plan: Plan[C]) -> Generator[Question | Lookup, Any, ConfiguredPlan]:
    """Return the plan that the configuration makes of this one, whose `request` names the file.

    Raises:
        ConfigError: the configuration is not usable, or cannot be followed safely.
    """
    request = plan.request
    target = Question(request.host, request.username, request.port)
    usual = yield USUAL
    hops = yield from find_way(
        target,
        request.jumps,
        has_way=request.has_way,
        has_bastion=plan.bastion is not None,
    )
    notes: list[str] = []
    made = [
        _make_hop(hop, request, usual, notes, is_target=hop is hops[-1], is_first=hop is hops[0])
        for hop in hops
    ]
    last = made[-1]
    command = request.proxy_command
    if not is_none(command):
        argv = expand_proxy_command(command, last.host, last.port, last.username, request.host)
        last = replace(last, proxy_command=tuple(argv))
        made = [last]
    for at, options in enumerate(made):
        made[at] = yield from _add_keys(options)
    last = made[-1]
    specs = [HopSpec(hop.host, hop.port, hop.username) for hop in made]
    before = () if plan.bastion is None else get_route(plan.bastion)
    try:
        check_route([*before, *specs[:-1]], specs[-1])
    except ValueError as error:
        raise ConfigError(f"the ssh configuration for {request.host}: {error}") from error
    configured = replace(plan, target=last, hops=tuple(made), route=(*before, *specs))
    return ConfiguredPlan(configured, tuple(notes))


def configure(
    plan: Plan[C], seconds: float | None, time_limit: str
) -> tuple[Plan[C], float | None, str]:
    """Ask the configuration, for threads.

    Args:
        seconds: for all of connecting; None means as many as ConnectTimeout says.
        time_limit: how an error words that.

    Returns:
        The plan to connect, with what is left of the time and how an error words its limit.

    Raises:
        ConfigError, ConnectTimeout.
    """
    deadline = None if seconds is None else monotonic() + seconds
    endpoint = make_endpoint(plan)
    file = plan.request.config_file
    made = ask_config(configure_plan(plan), file, endpoint, deadline, time_limit)
    log_notes(made.notes)
    if deadline is not None:
        return made.plan, max(0.001, deadline - monotonic()), time_limit
    limit = made.plan.target.configured.connect_timeout
    return made.plan, limit, f" after {limit:g} s (ConnectTimeout)" if limit else time_limit


def _add_keys(options: Options) -> Generator[Lookup, bytes, Options]:
    """Add the host keys that the configuration names elsewhere than in known_hosts files."""
    configured = options.configured
    path, argv = configured.revoked_host_keys, configured.known_hosts_command
    if path is not None:
        what = f"RevokedHostKeys for {options.host} cannot be read"
        revoked = parse_revoked((yield Lookup(what, path=path)), path)
        configured = configured._replace(revoked_keys=revoked)
    if argv is not None:
        alias = options.settings["host_key_alias"]
        host, port = (alias, 22) if alias else (options.host, options.port)
        name = make_lookup_name(host, port)
        line = tuple([word.replace("\0", name) for word in argv])
        text = yield Lookup(f"KnownHostsCommand for {options.host}", argv=line)
        configured = configured._replace(known_hosts_text=text)
    return replace(options, configured=configured)


def make_endpoint(plan: Plan[Any]) -> Endpoint:
    """Return the target's endpoint."""
    return Endpoint.of(plan.target, len(plan.route) - 1)


def _make_hop(
    hop: ConfiguredHop,
    request: Request,
    usual: Answer,
    notes: list[str],
    *,
    is_target: bool,
    is_first: bool,
) -> Options:
    answer = hop.answer
    name = answer.question.host
    followed = follow(Reader(answer, usual, os.environ, list_supported_algorithms()))
    _leave_out(followed)
    given: dict[str, Any] = dict(request.options)
    if not is_target:
        held = cast(dict[str, Any], make_jump_options(cast(ConnectionOptions, given)))
        given = {key: held[key] for key in given if key not in OF_TARGET}
    if not hop.is_named:
        given.pop("gssapi", None)
    if request.keys and hop.is_named:
        followed.more["identity_files"] = None  # that key, and no other
    configured = followed.make_configured(given)
    followed.options["keepalive_interval"] = request.keepalive_interval or followed.options.get(
        "keepalive_interval", 0
    )
    try:
        options = _merge(hop, request, followed, given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the ssh configuration for {name} is not usable: {error}") from error
    names = set(configured.names)
    names |= {"host"} if options.host != name else set()
    names |= {"port"} if answer.question.port is None else set()
    names |= {"username"} if answer.question.username is None else set()
    options = replace(options, configured=configured._replace(names=frozenset(names)))
    _note(name, followed, notes)
    if hop.proxy_command and is_first:
        try:
            argv = expand_proxy_command(
                hop.proxy_command, options.host, options.port, options.username, name
            )
        except ValueError as error:
            raise ConfigError(f"ProxyCommand for {name} is not usable: {error}") from error
        options = replace(options, proxy_command=tuple(argv))
    return options


def _leave_out(followed: Followed) -> None:
    """Name what cannot be followed here because a package is not installed."""
    if followed.options.get("gssapi") and not has_gssapi():
        del followed.options["gssapi"]
        followed.ignored += ("gssapiauthentication (without the package gssapi)",)


def _merge(
    hop: ConfiguredHop, request: Request, followed: Followed, given: dict[str, Any]
) -> Options:
    answer = hop.answer
    merged = {**followed.options, **given}
    interval = merged.pop("keepalive_interval")
    return make_hop_options(
        replace(
            request,
            keepalive_interval=interval,
            # Of a host that only the configuration names no secret of the target's is told.
            password=request.password if hop.is_named else None,
            keys=request.keys if hop.is_named else (),
            options=merged,
        ),
        host=check_host(answer.get_one("hostname")),
        port=check_port(answer.get_one("port")),
        username=check_username(answer.get_one("user")),
    )


def _note(host: str, followed: Followed, notes: list[str]) -> None:
    if followed.ignored:
        notes.append(f"[{host}] not followed: {', '.join(followed.ignored)}")
    for keyword, names in followed.unknown.items():
        notes.append(f"[{host}] of {keyword} hussh does not have {', '.join(names)}")
