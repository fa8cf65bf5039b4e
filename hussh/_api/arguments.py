"""Checks arguments that the public classes share, before anything is opened.

The public classes import it. `_policy.route` checks hosts, ports, users and jumps,
`check_options.py` the declared options; here are the others. No error repeats a value that could be
a secret.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import timedelta
from inspect import iscoroutine, iscoroutinefunction
from typing import Literal

from .._policy.connection_options import Milliseconds
from .._policy.options import is_secret
from .._policy.sftp import FILE_MOST
from .._protocol.execute import OnOutput
from .._protocol.process import Pty
from .._protocol.sudo import Sudo

__all__ = [
    "check_command",
    "check_pty",
    "check_wait",
    "encode_contents",
    "encode_input",
    "check_interval",
    "check_max_output",
    "check_memory_only",
    "check_number",
    "check_on_output",
    "check_on_result",
    "check_password",
    "check_position",
    "check_sudo",
    "to_milliseconds",
]

#: Fewer milliseconds, and more seconds, are rather a number of the other unit.
LEAST_USUAL, MOST_USUAL = 100, 3600
_log = logging.getLogger("hussh.arguments")
#: Units that the log has told of.
_told_units: set[str] = set()


def check_password(password: object, allow_empty_password: bool = False) -> str | None:
    """Return the password, or None if it is not given; an empty one counts so, unless allowed."""
    if password is None or (password == "" and not allow_empty_password):
        return None
    if not isinstance(password, str):
        raise TypeError(f"password must be a string, not {type(password).__name__}")
    if not is_secret(password):
        raise ValueError("password holds a NUL or what is not valid text")
    return password


def check_command(command: object) -> bytes:
    if not isinstance(command, str):
        raise TypeError("command must be a string")
    if "\0" in command:  # sshd takes it for an attack and ends the connection
        raise ValueError("command contains a NUL character")
    return command.encode("utf-8", "surrogateescape")


def check_sudo(
    command: object,
    user: object,
    password: object,
    *,
    has_input: bool,
    env: Mapping[str, str] | None,
    pty: Pty | None,
    may_ask: bool,
) -> Sudo:
    """Return how sudo runs a command: a string for a shell, or a list of arguments without one."""
    if not isinstance(command, str):
        if not isinstance(command, list | tuple) or not command:
            raise TypeError("command must be a string, or a list of strings")
        for word in command:
            check_command(word)
        if has_input and password is not None:
            raise ValueError(
                "input= beside password= needs the command as one string: without a shell nothing "
                "tells when sudo has read the password"
            )
    else:
        check_command(command)
    if not isinstance(user, str) or not user or "\0" in user:
        raise TypeError("user must be the name of a user, or #uid")
    if isinstance(password, str) and "\n" in password:
        raise ValueError("password contains a newline, which would end it")
    secret = check_password(password, allow_empty_password=True)
    answer = None if secret is None else secret.encode() + b"\n"
    names = tuple(env or ())
    if any("," in name for name in names):
        raise ValueError("sudo takes no name of a variable that contains a comma")
    return Sudo(command, user, answer, names, pty is not None, may_ask)


def check_wait(wait: Literal["eof", "exit"]) -> Literal["eof", "exit"]:
    if wait not in ("eof", "exit"):
        raise ValueError('wait must be "eof" or "exit"')
    return wait


def check_on_output(on_output: object, *, can_await: bool) -> OnOutput | None:
    """Return a callback for output; refuse a coroutine function where none is awaited."""
    if on_output is None:
        return None
    if not callable(on_output):
        raise TypeError(f"on_output must be callable, not {type(on_output).__name__}")
    if not can_await:
        check_plain_function(on_output, "on_output")
    return on_output


def check_pty(pty: bool | Pty | None) -> Pty | None:
    if pty is None or isinstance(pty, bool):
        return Pty() if pty else None
    if not isinstance(pty, Pty):
        raise TypeError("pty must be a bool or a Pty")
    return pty


def encode_input(data: str | bytes | None) -> bytes:
    """Return the data for a stdin or a file; text as UTF-8."""
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    return bytes(memoryview(data))  # not bytes(data): that makes a number that many NULs


def encode_contents(data: str | bytes) -> bytes:
    """Return the data for a file; text as UTF-8."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes):  # no copy
        return data
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"data must be str or bytes, not {type(data).__name__}") from None


def check_on_result(on_result: object, *, can_await: bool) -> None:
    """Return a callback for results; refuse a coroutine function where none is awaited."""
    if on_result is None:
        return
    if not callable(on_result):
        raise TypeError(f"on_result must be callable, not {type(on_result).__name__}")
    if not can_await:
        check_plain_function(on_result, "on_result")


def check_plain_function(callback: object, argument: str) -> None:
    """Return a callback of the blocking API; raise TypeError for a coroutine function."""
    if iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        raise TypeError(_describe_coroutine(argument, "a coroutine function"))


def check_no_coroutine(returned: object, argument: str) -> None:
    """Return the result of a callback of the blocking API; raise TypeError for a coroutine."""
    if iscoroutine(returned):
        returned.close()
        raise TypeError(_describe_coroutine(argument, "a function that returns a coroutine"))


def _describe_coroutine(argument: str, what: str) -> str:
    return (
        f"{argument} is {what}, which nothing would await here: "
        "give a plain function, or use the async API"
    )


def check_number(value: object, what: str) -> int | float:
    """Return a time limit, finite and not negative, as a number of `what`; None counts as 0.

    All time limits of users come here, in "milliseconds" or "seconds", or as a timedelta. A number
    that looks like the other API's unit is logged, once in a process for each unit.
    """
    if value is None:
        return 0
    if isinstance(value, timedelta):
        value = value.total_seconds() * (1000 if what == "milliseconds" else 1)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout must be a number of {what}, or a datetime.timedelta")
    elif (0 < value < LEAST_USUAL) if what == "milliseconds" else value > MOST_USUAL:
        _tell_unit(value, what)
    if not math.isfinite(value) or value < 0:
        raise ValueError("timeout must be finite and not negative")
    return value


def _tell_unit(value: float, what: str) -> None:
    if what in _told_units or not math.isfinite(value):
        return
    _told_units.add(what)
    if what == "milliseconds":
        means = f"Connection takes milliseconds, so timeout={value:g} is {value / 1000:g} s"
        other = f"datetime.timedelta(seconds={value:g})"
    else:
        hours = f"{value / 3600:.1f} hours"
        means = f"hussh.aio and MultiConnection take seconds, so timeout={value:g} is {hours}"
        other = f"datetime.timedelta(milliseconds={value:g})"
    _log.warning("%s; if that is not what was meant, write timeout=%s", means, other)


def check_max_output(max_output: object) -> int | None:
    """Return the most bytes of output; None means no limit."""
    if max_output is None:
        return None
    if isinstance(max_output, bool) or not isinstance(max_output, int):
        raise TypeError(f"max_output must be an int, not {type(max_output).__name__}")
    if max_output < 0:
        raise ValueError("max_output must not be negative")
    return max_output


def check_memory_only(max_output: object, local_path: object) -> None:
    """Raise ValueError for a limit of bytes in memory if a local file takes them."""
    if check_max_output(max_output) is not None and local_path is not None:
        raise ValueError("max_output= is for reading into memory, without a local_path")


def check_position(position: object) -> int | None:
    """Return an offset in a file, or None."""
    if position is None:
        return None
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError("a position in a file must be an int")
    if not 0 <= position < FILE_MOST:
        raise ValueError("a position in a file must not be negative, nor beyond what a file holds")
    return position


def check_interval(keepalive_interval: float | timedelta | None) -> float:
    """Return the seconds between keepalives; None counts as 0."""
    if keepalive_interval is None:
        return 0
    if isinstance(keepalive_interval, timedelta):
        keepalive_interval = keepalive_interval.total_seconds()
    if isinstance(keepalive_interval, bool) or not isinstance(keepalive_interval, int | float):
        raise TypeError("keepalive_interval must be a number of seconds, or a datetime.timedelta")
    if not math.isfinite(keepalive_interval) or keepalive_interval < 0:
        raise ValueError("keepalive_interval must be finite and not negative")
    return keepalive_interval


def to_milliseconds(value: Milliseconds | None) -> int:
    """Return a limit as a whole number of milliseconds, 1 for what is less; 0 means no limit.

    Raises:
        TypeError, ValueError: it is no number, or negative.
    """
    number = check_number(value, "milliseconds")
    return int(number) if number == int(number) or number >= 1 else 1
