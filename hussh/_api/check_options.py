"""Checks the declared options, before anything is opened.

`plan.py` calls `check_options`. A check gets a value and the option's name, raises TypeError or
ValueError, and returns the value in the form that hops use. No error repeats a value that could be
a secret. Checks of other arguments are in `arguments.py` and `_policy/route.py`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cache, lru_cache
from inspect import iscoroutinefunction
from typing import Any, cast

from .._connect.tcp import FAMILIES
from .._native.constants import FAST_AES, Method
from .._native.link import Link
from .._policy.algorithms import (
    CIPHERS,
    HOST_KEYS,
    KEY_EXCHANGE,
    MACS,
    Algorithms,
    order_ciphers,
)
from .._policy.connection_options import ConnectionOptions, Paths, add_defaults
from .._policy.hostkeys.known_hosts import POLICIES
from .._policy.hostkeys.pins import parse_pins
from .._policy.kerberos import has_gssapi
from .arguments import check_plain_function
from .declared import refuse_unknown

__all__ = ["get_algorithms", "check_options", "list_supported_algorithms"]

_CIPHERS = order_ciphers(fast_aes=FAST_AES)
#: Seconds; a key exchange takes a while, and round trips.
LEAST_REKEY_INTERVAL = 1
#: OpenSSL takes no larger keys.
MOST_RSA_BITS = 16384
#: In libssh2's lists, but no algorithms.
_SIGNALS = ("ext-info-", "kex-strict-")


def check_options(
    callee: str, given: Mapping[str, Any], *, can_await: bool = False
) -> ConnectionOptions:
    """Check the options that a user gives, and add the defaults.

    Args:
        callee: the name of the called function, for errors.
        can_await: whether callbacks may be coroutine functions.

    Raises:
        TypeError, ValueError: an option does not exist or is not usable.
    """
    refuse_unknown(callee, given, ConnectionOptions)
    checked = {name: CHECKS[name](value, name) for name, value in given.items()}
    if not can_await:
        for name, value in checked.items():
            if callable(value):
                check_plain_function(value, name)
    settings = cast(ConnectionOptions, {**_check_defaults(), **checked})
    if settings["host_key_policy"] == "accept-new" and not settings["known_hosts"]:
        raise ValueError('host_key_policy="accept-new" needs a known_hosts file to record keys in')
    return settings


@cache
def _check_defaults() -> dict[str, Any]:
    return {name: CHECKS[name](value, name) for name, value in add_defaults().items()}


def check_policy(policy: object, _: str) -> object:
    if not callable(policy) and (not isinstance(policy, str) or policy not in POLICIES):
        raise ValueError(f"host_key_policy must be one of {', '.join(POLICIES)}, or callable")
    return policy


def check_stream(stream: object, argument: str) -> object:
    """Return an object that has the methods of a socket or of an anyio stream, or a pair."""
    if stream is None or (isinstance(stream, tuple) and len(stream) == 2):
        return stream
    if hasattr(stream, "receive") and hasattr(stream, "send") and hasattr(stream, "aclose"):
        return stream
    if iscoroutinefunction(getattr(stream, "recv", None)):
        kind = type(stream).__name__
        raise TypeError(f"the recv of a {kind} must not be awaited: wrap it as an anyio ByteStream")
    sends = hasattr(stream, "send") or hasattr(stream, "sendall")
    if not (hasattr(stream, "recv") and sends and hasattr(stream, "close")):
        kind = type(stream).__name__
        raise TypeError(f"{argument} must have recv, send or sendall, and close; {kind} has not")
    return stream


def check_pins(value: object, _: str) -> object:
    parse_pins(value)
    return tuple(value) if isinstance(value, list) else value


def check_alias(alias: object, argument: str) -> str | None:
    """Return a name to look a host key up under, hashed if known_hosts could not hold it."""
    if alias is None:
        return None
    if not isinstance(alias, str):
        raise TypeError(f"{argument} must be a string, not {type(alias).__name__}")
    if not alias or not alias.isprintable() or " " in alias:
        raise ValueError(f"{argument} is empty, or contains blanks or control characters")
    return alias


def check_known_hosts(paths: Paths, _: str) -> tuple[str, ...]:
    single = isinstance(paths, str | bytes | os.PathLike)
    items: Iterable[str | os.PathLike[str]] = [paths] if single else paths  # type: ignore[list-item, assignment]
    try:
        files = tuple(os.fsdecode(path) for path in items)
    except TypeError:
        raise TypeError(
            "known_hosts must be a path or a list of paths; "
            'host_key_policy="ignore" accepts every key'
        ) from None
    if any("\0" in file for file in files):
        raise ValueError("a path in known_hosts contains a NUL character")
    return files


def check_bind_address(value: object, argument: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a string, not {type(value).__name__}")
    from ipaddress import ip_address  # most connections have none

    try:
        ip_address(value)
    except ValueError:
        raise ValueError(f"{argument} must be an IP address of this machine") from None
    return value


def check_family(value: object, argument: str) -> str | int:
    if isinstance(value, str) and value in FAMILIES:
        return value
    if isinstance(value, int) and not isinstance(value, bool) and value in FAMILIES.values():
        return value
    raise ValueError(f'{argument} must be "any", "inet", "inet6" or a socket.AF_INET or AF_INET6')


def check_certificate(value: object, argument: str) -> object:
    if value is None or isinstance(value, str | bytes | os.PathLike):
        return value or None
    raise TypeError(f"{argument} must be a path or the text of a certificate")


def check_gssapi(value: object, argument: str) -> bool | str:
    if not isinstance(value, bool | str):
        raise TypeError(f"{argument} must be a bool or a name, not {type(value).__name__}")
    if isinstance(value, str) and not re.fullmatch(r"[\w.:/@\\-]+", value):
        raise ValueError(f"{argument} must name a host, or a principal such as host/NAME@REALM")
    if value and not has_gssapi():
        raise ImportError(f"{argument}= needs the package gssapi: pip install 'hussh[gssapi]'")
    return value


def check_agent(
    agent: bool | str | os.PathLike[str] | None, _: str
) -> bool | str | os.PathLike[str] | None:
    if agent is None or isinstance(agent, bool):
        return agent
    if isinstance(agent, str | os.PathLike) and isinstance(os.fspath(agent), str):
        if "\0" in os.fspath(agent):
            raise ValueError("the path of the agent's socket contains a NUL character")
        return agent
    raise TypeError("agent must be None, a bool or the path of the agent's socket")


def check_callback(callback: object, argument: str) -> object:
    if callback is not None and not callable(callback):
        raise TypeError(f"{argument} must be callable, not {type(callback).__name__}")
    return callback


def check_config(config: object, argument: str) -> bool | str | None:
    """Return None if nothing is to be read, else True or the path of a file."""
    if config is None or config is False:
        return None
    if config is True:
        return True
    if isinstance(config, str | os.PathLike):
        path = os.fspath(config)
        if isinstance(path, str) and path and "\0" not in path:
            return path
    raise TypeError(f"{argument} must be True or the path of an ssh configuration file")


def check_flag(value: object, argument: str) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{argument} must be a bool, not {type(value).__name__}")
    return value


def check_truth(value: object, _: str) -> bool:
    """Return the truth of a value, as 0.3.3 did."""
    return bool(value)


def check_ceiling(value: object, argument: str) -> int | None:
    """Return a number of things that may be under way at once, at least 1, or None."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{argument} must be at least 1")
    return value


def check_rekey_interval(value: object, argument: str) -> float:
    """Return a number of seconds, 0 or at least `LEAST_REKEY_INTERVAL`."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{argument} must be a number of seconds or a timedelta")
    if seconds and not LEAST_REKEY_INTERVAL <= seconds < math.inf:
        raise ValueError(f"{argument} must be 0, or at least {LEAST_REKEY_INTERVAL} second")
    return seconds


def check_rsa_size(value: object, argument: str) -> int:
    """Return a number of bits that a key can have."""
    size = check_ceiling(value, argument)
    if size is None or size > MOST_RSA_BITS:
        raise ValueError(f"{argument} must be a number of bits, at most {MOST_RSA_BITS}")
    return size


def _make_names_check(
    kind: Method, default: Sequence[str]
) -> Callable[[Any, str], tuple[str, ...]]:
    """Return the check of a list of algorithms.

    Only names that can be offered pass: a typing error must not weaken or widen the choice.
    """

    def check(names: Any, argument: str) -> tuple[str, ...]:
        if names is default:
            return _CIPHERS if default is CIPHERS else tuple(default)
        if isinstance(names, str | bytes):
            raise TypeError(f"{argument} must be a list of names, not one string")
        given = tuple(names)
        if not all(isinstance(name, str) for name in given):
            raise TypeError(f"{argument} must be a list of names")
        if not given:
            raise ValueError(f"{argument} is empty")
        known = _list_supported(kind)
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ValueError(f"{argument}: {unknown[0]!r} is not one of {', '.join(known)}")
        return given

    return check


@cache
def _list_supported(kind: Method) -> tuple[str, ...]:
    return tuple(
        name for name in Link.over_memory().list_supported(kind) if not name.startswith(_SIGNALS)
    )


@cache
def list_supported_algorithms() -> dict[str, tuple[str, ...]]:
    """Return all algorithms that may be offered, by the name of the option."""
    return {
        "ciphers": _list_supported(Method.CRYPT_CS),
        "key_exchange": _list_supported(Method.KEX),
        "macs": _list_supported(Method.MAC_CS),
        "host_key_algorithms": _list_supported(Method.HOSTKEY),
    }


#: One check for each declared option.
CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "config": check_config,
    "known_hosts": check_known_hosts,
    "host_key_policy": check_policy,
    "host_key": check_pins,
    "host_key_alias": check_alias,
    "certificate": check_certificate,
    "gssapi": check_gssapi,
    "agent": check_agent,
    "prompt": check_callback,
    "on_banner": check_callback,
    "allow_empty_password": check_flag,
    "bind_address": check_bind_address,
    "family": check_family,
    "compression": check_truth,
    "ciphers": _make_names_check(Method.CRYPT_CS, CIPHERS),
    "key_exchange": _make_names_check(Method.KEX, KEY_EXCHANGE),
    "macs": _make_names_check(Method.MAC_CS, MACS),
    "host_key_algorithms": _make_names_check(Method.HOSTKEY, HOST_KEYS),
    "rekey_interval": check_rekey_interval,
    "required_rsa_size": check_rsa_size,
    "spare_channel": check_flag,
    "sftp_requests": check_ceiling,
    "sftp_open_files": check_ceiling,
    "stream": check_stream,
}


def get_algorithms(settings: ConnectionOptions) -> Algorithms:
    """Return what checked settings offer; connections that offer the same get the same object."""
    return _algorithms(
        settings["key_exchange"],
        settings["host_key_algorithms"],
        settings["ciphers"],
        settings["macs"],
        settings["compression"],
    )


#: Connections are many, and an `Algorithms` keeps its `lists`.
_algorithms = lru_cache(maxsize=64)(Algorithms)
