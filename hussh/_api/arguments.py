"""Checks of arguments that the facades share, made before anything is opened.

The facades import it.  Hosts, ports, users and ways are checked by
`_policy.route`; here is the rest.  No error repeats a value that could be a
secret.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from inspect import iscoroutine, iscoroutinefunction
from typing import Literal

from .._native.constants import FAST_AES, Method
from .._native.link import Link
from .._policy.hostkeys.known_hosts import POLICIES
from .._policy.keys.public_key import CERTIFICATE
from .._policy.options import (
    CIPHERS,
    HOST_KEYS,
    KEY_EXCHANGE,
    MACS,
    Algorithms,
    BannerCallback,
    Paths,
    PromptCallback,
    is_secret,
    preferred_ciphers,
)
from .._policy.sftp import FILE_MOST
from .._protocol.process import Pty

__all__ = [
    "check_command",
    "check_pty",
    "check_wait",
    "file_bytes",
    "input_bytes",
    "check_agent",
    "check_algorithms",
    "check_interval",
    "check_key_path",
    "check_known_hosts",
    "check_ceiling",
    "check_max_output",
    "check_memory_only",
    "check_number",
    "check_on_banner",
    "check_on_result",
    "check_password",
    "check_policy",
    "check_position",
    "check_prompt",
]

_CIPHERS = preferred_ciphers(fast_aes=FAST_AES)
#: In libssh2's lists, but no algorithms; and host certificates, which it cannot verify.
_SIGNALS = ("ext-info-", "kex-strict-")


def check_password(password: object, allow_empty_password: object = False) -> str | None:
    """None where it is not given; an empty one counts as that unless it is allowed."""
    if not isinstance(allow_empty_password, bool):
        kind = type(allow_empty_password).__name__
        raise TypeError(f"allow_empty_password must be a bool, not {kind}")
    if password is None or (password == "" and not allow_empty_password):
        return None
    if not isinstance(password, str):
        raise TypeError(f"password must be a string, not {type(password).__name__}")
    if not is_secret(password):
        raise ValueError("password holds a NUL or what is not valid text")
    return password


def check_key_path(private_key: str | bytes | os.PathLike[str] | None) -> str | None:
    """None where it is not given; an empty one counts as that."""
    return os.fsdecode(private_key) if private_key else None


def check_command(command: object) -> bytes:
    if not isinstance(command, str):
        raise TypeError("command must be a string")
    if "\0" in command:  # sshd takes it for an attack and ends the connection
        raise ValueError("command contains a NUL character")
    return command.encode("utf-8", "surrogateescape")


def check_wait(wait: Literal["eof", "exit"]) -> Literal["eof", "exit"]:
    if wait not in ("eof", "exit"):
        raise ValueError('wait must be "eof" or "exit"')
    return wait


def check_pty(pty: bool | Pty | None) -> Pty | None:
    if pty is None or isinstance(pty, bool):
        return Pty() if pty else None
    if not isinstance(pty, Pty):
        raise TypeError("pty must be a bool or a Pty")
    return pty


def input_bytes(data: str | bytes | None) -> bytes:
    """What goes to stdin or into a file; text as UTF-8."""
    if data is None:
        return b""
    if isinstance(data, str):
        return data.encode()
    return bytes(memoryview(data))  # not bytes(data): that makes a number that many NULs


def file_bytes(data: str | bytes) -> bytes:
    """What a file shall contain; text as UTF-8."""
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, bytes):  # no copy
        return data
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(f"data must be str or bytes, not {type(data).__name__}") from None


def check_policy(policy: object) -> str:
    if not isinstance(policy, str) or policy not in POLICIES:
        raise ValueError(f"host_key_policy must be one of {', '.join(POLICIES)}")
    return policy


def check_known_hosts(paths: Paths, policy: str) -> tuple[str, ...]:
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
    if policy == "accept-new" and not files:
        raise ValueError('host_key_policy="accept-new" needs a known_hosts file to record keys in')
    return files


def check_agent(
    agent: bool | str | os.PathLike[str] | None,
) -> bool | str | os.PathLike[str] | None:
    if agent is None or isinstance(agent, bool):
        return agent
    if isinstance(agent, str | os.PathLike) and isinstance(os.fspath(agent), str):
        if "\0" in os.fspath(agent):
            raise ValueError("the path of the agent's socket contains a NUL character")
        return agent
    raise TypeError("agent must be None, a bool or the path of the agent's socket")


def check_prompt(prompt: PromptCallback | None) -> PromptCallback | None:
    if prompt is not None and not callable(prompt):
        raise TypeError("prompt must be callable")
    return prompt


def check_on_banner(on_banner: BannerCallback | None, *, can_await: bool) -> BannerCallback | None:
    """A callback for login banners; one that would have to be awaited only where that is done."""
    if on_banner is None:
        return None
    if not callable(on_banner):
        raise TypeError(f"on_banner must be callable, not {type(on_banner).__name__}")
    if iscoroutinefunction(on_banner) and not can_await:
        raise TypeError(
            "on_banner is a coroutine function, which nothing would await here: "
            "use AsyncConnection, or give a plain function"
        )
    return on_banner


def check_on_result(on_result: object, *, can_await: bool) -> None:
    """A callback for results; one that would have to be awaited only where that is done."""
    if on_result is None:
        return
    if not callable(on_result):
        raise TypeError(f"on_result must be callable, not {type(on_result).__name__}")
    if not can_await:
        check_plain_function(on_result, "on_result")


def check_plain_function(callback: object, argument: str) -> None:
    """A callback of the blocking API: TypeError for a coroutine function."""
    if iscoroutinefunction(callback) or iscoroutinefunction(getattr(callback, "__call__", None)):  # noqa: B004
        raise TypeError(_awaited_by_nobody(argument, "a coroutine function"))


def check_no_coroutine(returned: object, argument: str) -> None:
    """What a callback of the blocking API has returned: TypeError for a coroutine."""
    if iscoroutine(returned):
        returned.close()
        raise TypeError(_awaited_by_nobody(argument, "a function that returns a coroutine"))


def _awaited_by_nobody(argument: str, what: str) -> str:
    return (
        f"{argument} is {what}, which nothing would await here: "
        "give a plain function, or use the async API"
    )


def check_number(value: object, what: str) -> int | float:
    """A finite number that is not negative; None counts as 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"timeout must be a number of {what}")
    if not math.isfinite(value) or value < 0:
        raise ValueError("timeout must be finite and not negative")
    return value


def check_max_output(max_output: object) -> int | None:
    """Most bytes of output; None: no limit."""
    if max_output is None:
        return None
    if isinstance(max_output, bool) or not isinstance(max_output, int):
        raise TypeError(f"max_output must be an int, not {type(max_output).__name__}")
    if max_output < 0:
        raise ValueError("max_output must not be negative")
    return max_output


def check_memory_only(max_output: object, local_path: object) -> None:
    """Raises ValueError for a limit of bytes in memory where a local file takes them."""
    if check_max_output(max_output) is not None and local_path is not None:
        raise ValueError("max_output= is for reading into memory, without a local_path")


def check_ceiling(value: object, argument: str) -> int | None:
    """A number of things that may be under way at once, at least 1; None: no ceiling."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an int, not {type(value).__name__}")
    if value < 1:
        raise ValueError(f"{argument} must be at least 1")
    return value


def check_position(position: object) -> int | None:
    """An offset in a file, or None."""
    if position is None:
        return None
    if isinstance(position, bool) or not isinstance(position, int):
        raise TypeError("a position in a file must be an int")
    if not 0 <= position < FILE_MOST:
        raise ValueError("a position in a file must not be negative, nor beyond what a file holds")
    return position


def check_interval(keepalive_interval: float | None) -> float:
    """Seconds between keepalives; None counts as 0."""
    if keepalive_interval is None:
        return 0
    if isinstance(keepalive_interval, bool) or not isinstance(keepalive_interval, int | float):
        raise TypeError("keepalive_interval must be a number of seconds")
    if not math.isfinite(keepalive_interval) or keepalive_interval < 0:
        raise ValueError("keepalive_interval must be finite and not negative")
    return keepalive_interval


def check_algorithms(
    key_exchange: Sequence[str],
    host_key_algorithms: Sequence[str],
    ciphers: Sequence[str],
    macs: Sequence[str],
    compression: bool,
) -> Algorithms:
    """Only names that can be offered; a typing error must not weaken or widen the choice.

    Raises:
        TypeError: no list of strings.
        ValueError: empty, or an unknown name.
    """
    return _algorithms(
        _names("key_exchange", Method.KEX, key_exchange, KEY_EXCHANGE),
        _names("host_key_algorithms", Method.HOSTKEY, host_key_algorithms, HOST_KEYS),
        _CIPHERS if ciphers is CIPHERS else _names("ciphers", Method.CRYPT_CS, ciphers, _CIPHERS),
        _names("macs", Method.MAC_CS, macs, MACS),
        bool(compression),
    )


#: One object for all connections that offer the same; they are many, and it keeps `lists`.
_algorithms = lru_cache(maxsize=64)(Algorithms)


def _names(
    argument: str, kind: Method, names: Sequence[str], default: tuple[str, ...]
) -> tuple[str, ...]:
    if names is default:
        return default
    if isinstance(names, str | bytes):
        raise TypeError(f"{argument} must be a list of names, not one string")
    given = tuple(names)
    if not all(isinstance(name, str) for name in given):
        raise TypeError(f"{argument} must be a list of names")
    if not given:
        raise ValueError(f"{argument} is empty")
    known = _supported(kind)
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"{argument}: {unknown[0]!r} is not one of {', '.join(known)}")
    return given


@cache
def _supported(kind: Method) -> tuple[str, ...]:
    return tuple(
        name
        for name in Link.over_memory().supported(kind)
        if not name.startswith(_SIGNALS) and not name.endswith(CERTIFICATE)
    )
