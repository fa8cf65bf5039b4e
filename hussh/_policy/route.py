"""Parses the way to a target: jump hosts in the order of travel, or a proxy command.

It owns the meaning of the arguments ``proxy_jump=`` and ``proxy_command=``, and of host names, user
names and ports. `plan.py` and `configure_plan.py` of `_api` import it. It never resolves a name,
opens a socket or starts a process.

Errors about a jump string never repeat its user or port part, because a password that somebody put
there must not reach a log. Every refusal comes before anything is opened.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import SupportsIndex, TypeVar

C = TypeVar("C")


class DefaultPort(int):
    """A port that nobody has given."""


DEFAULT_PORT = DefaultPort(22)
MAX_JUMPS = 10

# Patterns are compiled, by `re`, when they are first needed.
# Means itself to /bin/sh wherever it stands in a word, and to no program looks like an option.
_PLAIN = r"[A-Za-z0-9_.:%@+,][A-Za-z0-9_.:%@+,-]*"
# The second group is what ssh(1) refuses in a host name, whether or not a shell is near.
_NO_HOST = r"[@\[\],/\\]|['`\"$;&<>|(){}]"
# What ssh(1) refuses in a user name; it allows blanks, "$" and a backslash within.
_NO_USER = r"['`\";&<>|(){}]"
_PERCENT = r"%(.?)"
_BAD_PERCENT = r"%(?![0-9A-Fa-f]{2})"


@dataclass(frozen=True)
class HopSpec:
    """One SSH server on the way.

    Attributes:
        host: a name or an address without brackets; only the hop before it resolves it.
        username: None means that of the target.
    """

    host: str
    port: int = DEFAULT_PORT
    username: str | None = None


def check_host(host: object) -> str:
    """Return a host name or address that is safe to send, record and print.

    Brackets around an IPv6 address are removed; its zone (``%eth0``) stays.

    Raises:
        TypeError: it is not a string.
        ValueError: it is empty, begins with ``-``, which a program would take for an option, or
            contains blanks, control characters or what no name contains (as ssh(1) has it,
            characters that a shell acts on).
    """
    if not isinstance(host, str):
        raise TypeError(f"host must be a string, not {type(host).__name__}")
    bracketed = host.startswith("[") and host.endswith("]")
    name = host[1:-1] if bracketed else host
    if not name:
        raise ValueError("host is empty")
    # A text with a colon may be a misplaced "user:password", so it is not repeated.
    shown = "host" if ":" in name else f"host {name!r}"
    if name.startswith("-"):
        raise ValueError(f"{shown} begins with '-'")
    if not name.isprintable() or " " in name:
        raise ValueError(f"{shown} contains blanks or control characters")
    if re.search(_NO_HOST, name):
        raise ValueError(f"{shown} is not a host name or an address")
    if (bracketed or ":" in name) and not _is_ipv6(name):
        raise ValueError(f"{shown} is not a host name or an IPv6 address")
    return name


def check_port(port: object) -> int:
    """Return a TCP port that was given as an integer or as decimal digits.

    Raises:
        TypeError: it is anything else, or not in 1 to 65535, as code for hussh 0.3.3 expects.
    """
    number = 0
    if isinstance(port, str):
        if port.isascii() and port.isdigit() and len(port) <= 8:
            number = int(port)
    # An int first: to look for a protocol takes longer than all else here.
    elif isinstance(port, int | SupportsIndex) and not isinstance(port, bool):
        number = operator.index(port)
    if not 1 <= number <= 65535:
        raise TypeError("port must be a valid integer between 1 and 65535")
    return number


def check_username(username: object) -> str:
    """Return a user name that is safe to send, to print, and to hand to a proxy command.

    The rule is that of ssh(1): blanks, ``$`` and backslashes are allowed within. No error repeats
    the name.

    Raises:
        TypeError: it is not a string.
        ValueError: it is empty, contains control characters or what a shell acts on, begins
            with ``-``, has a blank before a ``-``, or ends with a backslash.
    """
    if not isinstance(username, str):
        raise TypeError(f"username must be a string, not {type(username).__name__}")
    if not username:
        raise ValueError("username is empty")
    if not username.isprintable():
        raise ValueError("username contains control characters")
    if username.startswith("-") or " -" in username:
        raise ValueError("username contains a word that begins with '-', like an option")
    if username.endswith("\\"):
        raise ValueError("username ends with a backslash")
    if re.search(_NO_USER, username):
        raise ValueError("username contains one of ' ` \" ; & < > | ( ) { }, as ssh allows none")
    return username


def is_none(value: object) -> bool:
    """Tell whether it is None or "none" in any case, which disables a proxy as in ssh_config(5)."""
    return value is None or (isinstance(value, str) and value.lower() == "none")


def check_exclusive(proxy_jump: object, proxy_command: object) -> None:
    """Refuse two ways to one target; ``None`` and ``"none"`` do not count as a way.

    Raises:
        TypeError: both are given.
    """
    if not is_none(proxy_jump) and not is_none(proxy_command):
        raise TypeError("proxy_jump and proxy_command are mutually exclusive")


def parse_jump(
    value: object, connection_type: type[C], noun: str = "a Connection"
) -> list[HopSpec | C] | None:
    """Return the jump hosts that `value` names, in the order of travel; None means no jump.

    A string may be a chain with commas. A list is a chain of strings, tuples and at most one
    connection. The connection must come first, because it has its own way, which nothing before it
    would change. An empty list means no jump.

    Raises:
        TypeError: `value` is of another kind, or a port is none.
        ValueError: a host or user is not acceptable.
    """
    if is_none(value):
        return None
    items = value if isinstance(value, list) else [value]
    hops: list[HopSpec | C] = []
    for item in items:
        if isinstance(item, connection_type):
            if hops:
                raise ValueError(
                    f"{noun} can only be the first in a proxy_jump chain: "
                    "it has been given its own way there"
                )
            hops.append(item)
        elif isinstance(item, str):
            hops += [_parse_one(text) for text in item.split(",")]
        elif isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            username, host = _split_user(item[0])
            hops.append(HopSpec(check_host(host), check_port(item[1]), username))
        else:
            raise TypeError(f"proxy_jump must be {noun}, (host, port) tuple, or string")
    return hops or None


def resolve(hops: Iterable[HopSpec | C], username: str) -> list[HopSpec | C]:
    """Return the hops with `username`, that of the target, wherever none was given."""
    return [
        replace(hop, username=username) if isinstance(hop, HopSpec) and not hop.username else hop
        for hop in hops
    ]


def check_route(
    hops: Iterable[HopSpec | C],
    target: HopSpec,
    describe: Callable[[C], Iterable[HopSpec]] | None = None,
) -> None:
    """Refuse a way that is too long or passes the same server twice.

    `describe` returns the whole way of a connection: its own jump hosts in the order of travel,
    then itself.

    Raises:
        ValueError: there are more than `MAX_JUMPS` jump hosts, or a cycle.
    """
    way: list[HopSpec] = []
    for hop in hops:
        if isinstance(hop, HopSpec):
            way.append(hop)
        elif describe is not None:
            way += describe(hop)
    if len(way) > MAX_JUMPS:
        raise ValueError(f"{len(way)} jump hosts; more than {MAX_JUMPS} are not allowed")
    seen = set()
    for spec in (*way, target):
        username = spec.username or target.username
        place = (username, spec.host.lower(), spec.port)
        if place in seen:
            at = format_hop(username, spec.host, spec.port)
            raise ValueError(f"the way to {target.host} goes through {at} twice")
        seen.add(place)


def format_hop(username: str | None, host: str, port: int) -> str:
    """Return ``user@host:22`` or ``user@[::1]:22``; without a user, ``host:22``."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{username}@{place}" if username else place


def expand_proxy_command(
    command: str | Sequence[str | os.PathLike[str]],
    host: str,
    port: int,
    user: str,
    original_host: str | None = None,
) -> list[str]:
    """Return the argv of a proxy command, with ``%h %p %r %n %%`` replaced in one pass.

    A string is run by ``/bin/sh -c "exec ..."``, so the replacement of a token must be plain there.
    A sequence is an argv, run without a shell.

    Args:
        original_host: for ``%n``, the name as the user gave it; the default is `host`.

    Raises:
        TypeError: `command` is neither a string nor a sequence of strings.
        ValueError: it is empty, or has an unknown token or a lone ``%`` at the end, or a
            replacement could be taken for something else: in a string what is not plain to a
            shell, in both what `check_host` and `check_username` refuse.
    """
    values = {"%": "%", "h": host, "p": str(port), "r": user, "n": original_host or host}
    if isinstance(command, str):
        if not command.strip():
            raise ValueError("proxy_command is empty")
        return ["/bin/sh", "-c", "exec " + _expand(command, values, in_shell=True)]
    if isinstance(command, bytes) or not isinstance(command, Sequence):
        raise TypeError("proxy_command must be a string or a list of strings")
    if not all(isinstance(argument, str | os.PathLike) for argument in command):
        raise TypeError("proxy_command must be a string or a list of strings")
    arguments = [os.fspath(argument) for argument in command]
    if not all(isinstance(argument, str) for argument in arguments):  # a path may consist of bytes
        raise TypeError("proxy_command must be a string or a list of strings")
    if not arguments or not arguments[0]:
        raise ValueError("proxy_command is empty")
    return [_expand(argument, values, in_shell=False) for argument in arguments]


def _expand(text: str, values: dict[str, str], *, in_shell: bool) -> str:
    if "\0" in text:
        raise ValueError("proxy_command contains a NUL character")

    def value_of(match: re.Match[str]) -> str:
        letter = match[1]
        value = values.get(letter)
        if value is None:
            raise ValueError(
                f"unknown token {match[0]!r} in proxy_command"
                if letter
                else "proxy_command ends with a lone '%'; write '%%'"
            )
        if letter != "%":
            _check_value(value, match[0], in_shell)
        return value

    return re.sub(_PERCENT, value_of, text, flags=re.DOTALL)


def _check_value(value: str, token: str, in_shell: bool) -> None:
    if in_shell and not re.fullmatch(_PLAIN, value):
        raise ValueError(
            f"{token} in proxy_command stands for {value!r}, which is not plain text to a shell; "
            "give proxy_command as a list to run it without one"
        )
    # A list may name a shell, too; ports pass both rules.
    check = {"%r": check_username}.get(token, check_host)
    try:
        check(value)
    except ValueError:
        raise ValueError(
            f"{token} in proxy_command stands for {value!r}, which is not safe"
        ) from None


def _is_ipv6(text: str) -> bool:
    # Imported late: most names have no colon, and the import costs milliseconds.
    from ipaddress import IPv6Address

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_one(text: str) -> HopSpec:
    """Parse ``[user@]host[:port]`` or an ``ssh://`` URL of the same."""
    if is_none(text):
        raise ValueError("'none' cannot be part of a proxy_jump chain")
    is_url = text[:6].lower() == "ssh://"
    if is_url:
        text = text[len("ssh://") :].removesuffix("/")
        if any(char in text for char in "/?#;"):
            raise ValueError("an ssh:// URL in proxy_jump takes only a user, a host and a port")
    elif "://" in text:
        raise ValueError("proxy_jump takes ssh:// URLs only")
    username, place = _split_user(text, is_url)
    host, port = _split_port(place)
    if is_url:
        host = _decode(host)
    return HopSpec(check_host(host), port, username)


def _split_user(text: str, is_url: bool = False) -> tuple[str | None, str]:
    # Split at the last "@": some bastions take users such as "me@target".
    username, at, rest = text.rpartition("@")
    if not at:
        return None, rest
    if ":" in username:
        raise ValueError(
            "proxy_jump takes no password; "
            "pass a connection made with password=... as proxy_jump instead"
        )
    return check_username(_decode(username) if is_url else username), rest


def _split_port(place: str) -> tuple[str, int]:
    if place.startswith("["):
        host, bracket, rest = place.partition("]")
        if bracket and not rest:
            return place, DEFAULT_PORT
        if rest.startswith(":"):
            return host + bracket, check_port(rest[1:])
        raise ValueError("an IPv6 address in proxy_jump is written [address] or [address]:port")
    # An address without brackets can have no port: nothing tells a port from its last part.
    if place.count(":") > 1:
        return place, DEFAULT_PORT
    host, colon, port = place.rpartition(":")
    return (host, check_port(port)) if colon else (place, DEFAULT_PORT)


def _decode(text: str) -> str:
    if re.search(_BAD_PERCENT, text):
        raise ValueError("an ssh:// URL in proxy_jump has a '%' without two hexadecimal digits")
    try:
        from urllib.parse import unquote_to_bytes  # slow to import, and few routes are URLs

        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("an ssh:// URL in proxy_jump is not UTF-8") from None
