"""`explain`: connects as `Connection` does, closes, and reports what happened at each hop.

The command line and `async_explain` share `report_of`. It tries no credential that a connection
would not try, and runs nothing on the target.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from time import monotonic
from typing import TYPE_CHECKING, Any

from .._connect.proxy_command import describe_proxy
from .._policy.advice import advise
from .._policy.algorithms import is_post_quantum
from .._policy.connection_options import (
    DEFAULT_USER,
    ConnectionOptions,
    DefaultUser,
    Milliseconds,
    Seconds,
)
from .._policy.keys.given_keys import get_path
from .._policy.options import Options
from .._policy.report import HopReport, HostKeyReport, Report, Setting
from .._policy.route import DEFAULT_PORT, DefaultPort
from .._protocol.story import HopStory, Story, listen
from ..errors import HusshError, printable
from .check_options import check_options
from .connection import Connection
from .declared import takes_options

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["explain", "list_given_names", "report_of"]

#: Options that always show, whatever their value is.
_ALWAYS = ("host", "port", "username", "known_hosts", "host_key_policy")
#: What no user sets, or what says nothing about connecting.
_NEVER = {"defaults_failed", "configured", "config", "sftp_requests", "sftp_open_files"}
#: Fields of `Options` that `settings` has under the names of arguments.
_SETTINGS = {"settings", "algorithms", "known_hosts", "host_key_pins"}
#: Arguments by other names than those of `Options`.
_ARGUMENTS = {
    "private_key": ("private_key", "key_path"),
}
#: Stands for a key that is no path, and tells that a value is one.
_UNSHOWN = "-----BEGIN"
_MOST_SHOWN = 300  # characters of a value


@takes_options(ConnectionOptions)
def explain(
    host: str,
    *,
    port: int | None = DEFAULT_PORT,
    username: str = DEFAULT_USER,
    password: str | None = None,
    private_key: Any = None,
    proxy_jump: Any = None,
    proxy_command: str | Sequence[str] | None = None,
    timeout: Milliseconds | None = 0,
    keepalive_interval: Seconds = 0,
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
        "port": port,
        "username": username,
        "password": password,
        "private_key": private_key,
        "proxy_jump": proxy_jump,
        "proxy_command": proxy_command,
        "timeout": timeout,
        "keepalive_interval": keepalive_interval,
    }
    story = Story(monotonic)
    error: HusshError | None = None
    try:
        with listen(story):
            connection = Connection(host, **arguments, **options)
    except HusshError as failure:
        error = failure
    else:
        connection.close()
    try:
        return report_of(story, error, list_given_names(arguments, options))
    finally:
        del error  # whose traceback holds this frame


def list_given_names(arguments: Mapping[str, Any], options: Iterable[str]) -> set[str]:
    """Return the names of the arguments that the user gave, of all that `explain` takes."""
    unset = (DefaultPort, DefaultUser)
    named = {name for name, value in arguments.items() if value and not isinstance(value, unset)}
    return {"host", *named, *options}


def report_of(story: Story, error: HusshError | None, given: Collection[str]) -> Report:
    """Return the report of a story.

    Args:
        error: why connecting failed; None if it did not.
        given: the names of the arguments that the user gave.
    """
    failed_at = None if error is None else error.hop_index
    hops = tuple(
        [
            _make_hop_report(hop, failed_at, given)
            for hop in sorted(story.hops, key=lambda h: h.index)
        ]
    )
    if error is None:
        return Report(True, hops)
    cause = error.__cause__
    because = f", because: {cause}" if isinstance(cause, HusshError) and cause.hop else ""
    return Report(
        False,
        hops,
        hop=error.hop,
        phase=error.phase,
        cause=error.text + because,
        advice=advise(error),
        error=type(error).__name__,
    )


def _make_hop_report(story: HopStory, failed_at: int | None, given: Collection[str]) -> HopReport:
    if story.index == failed_at:
        state = "failed"
    elif story.is_up:
        state = "connected" if story.phases else "connected before"
    else:
        state = "not reached"
    key = story.key
    times: dict[str, float] = {}
    for phase in story.phases:
        if phase.ended is not None:
            spent = (phase.ended - phase.begun) * 1000
            times[phase.name] = round(times.get(phase.name, 0.0) + spent, 3)
    return HopReport(
        story.hop,
        story.index,
        state,
        settings=() if story.options is None else tuple(_list_settings(story.options, given)),
        carrier=story.carrier,
        addresses=story.addresses,
        address=story.address,
        unanswered=story.unanswered,
        banner=story.banner,
        algorithms=story.algorithms,
        post_quantum=is_post_quantum(story.algorithms["kex"])
        if "kex" in story.algorithms
        else None,
        host_key=None
        if key is None
        else HostKeyReport(key.algorithm, key.fingerprint, key.name, key.verdict, key.places),
        methods=story.methods,
        attempts=tuple([(attempt.name, attempt.result) for attempt in story.attempts]),
        login_banner=story.login_banner,
        milliseconds=times,
    )


def _list_settings(options: Options, given: Collection[str]) -> Iterator[Setting]:
    """Return the settings of a hop that differ from the defaults, or that always show."""
    usual = Options("", settings=check_options("explain", {}))
    for name, value, default in _list_values(options, usual):
        if name in _NEVER or (value == default and name not in _ALWAYS):
            continue
        arguments = _ARGUMENTS.get(name, (name,))
        if not {*arguments}.isdisjoint(options.configured.names):
            source = "configuration"
        elif value != default or not {*arguments}.isdisjoint(given):
            source = "argument"  # proxy_jump= names hosts, ports and users, too
        else:
            source = "default"
        yield Setting(arguments[0], _show_value(name, value)[:_MOST_SHOWN], source)
    for keyword, shown in options.configured.list_shown():
        yield Setting(keyword, printable(shown, _MOST_SHOWN), "configuration")


def _list_values(options: Options, usual: Options) -> Iterator[tuple[str, Any, Any]]:
    for field in fields(options):
        if field.name == "keys":
            given = tuple([get_path((key,)) or _UNSHOWN for key in options.keys])
            yield "private_key", given, ()
        elif field.name not in _SETTINGS:
            yield field.name, getattr(options, field.name), getattr(usual, field.name)
    defaults: Mapping[str, Any] = usual.settings
    for name, value in options.settings.items():
        yield name, value, defaults[name]


def _show_value(name: str, value: Any) -> str:
    """Return a value, fit to show: what is or may be a secret becomes "given"."""
    if value is None:
        return "none"
    if name == "password":
        return "given"
    if name == "proxy_command":
        return describe_proxy(value)[0].removeprefix("proxy command ")
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, tuple | list):
        return ", ".join([_show_value(name, item) for item in value]) or "none"
    if isinstance(value, str) and _UNSHOWN not in value and len(value) <= _MOST_SHOWN:
        return printable(value, _MOST_SHOWN) or "none"
    return "given"
