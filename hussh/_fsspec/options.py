"""Sorts the options of a file system: what travels to other processes, and what never does.

A secret is kept in a `Secret`, whose representation tells nothing. fsspec makes its tokens of
representations, so those tell nothing either. Whatever is a secret is left out of pickles, of
`to_json` and of `to_dict`. `filesystem.py` uses it; nothing here opens anything.
"""

from __future__ import annotations

import hmac
import importlib
import inspect
import os
import pickle
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType
from typing import Any

from .._api.async_connection import AsyncConnection
from .._api.connection import Connection
from .._policy.keys.key_text import is_piece_of_key

__all__ = [
    "OPTIONS",
    "Secret",
    "check",
    "make_connection",
    "has_provider",
    "seal",
    "remove_secrets",
]

#: The arguments of an `AsyncConnection`, and where its credentials come from.
OPTIONS = frozenset(inspect.signature(AsyncConnection).parameters) | {"credentials"}
_KEYS = ("private_key", "key_path", "certificate")
#: Options that may be functions.
_CALLED = ("prompt", "on_banner", "host_key_policy")
_PROCESS_KEY = os.urandom(32)

#: Called with host and user; returns options such as ``password``.
Provider = Callable[[str, "str | None"], Mapping[str, Any]]


class Secret:
    """A value that is shown nowhere and that cannot be pickled.

    In one process equal values have equal names, in two they never have.
    """

    __slots__ = ("value", "_name")

    def __init__(self, value: object) -> None:
        self.value = value
        raw = value if isinstance(value, bytes) else repr(value).encode("utf-8", "replace")
        self._name = hmac.digest(_PROCESS_KEY, raw, "sha256").hex()[:16]

    def __repr__(self) -> str:
        return f"<secret {self._name}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._name == other._name

    def __hash__(self) -> int:
        return hash(self._name)

    def __reduce__(self) -> Any:
        raise TypeError("a secret is not pickled")


def check(options: Mapping[str, Any]) -> None:
    """Refuse, by name, what no file system can be made with, before anything is opened.

    Raises:
        TypeError: an option is unknown, or its value cannot be pickled.
        ValueError: `credentials` does not name a function.
    """
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"storage_options: there is no option {name!r}")
        if isinstance(value, Secret):
            continue
        if name == "proxy_jump" and isinstance(value, Mapping):
            check(value)
        elif name == "stream":
            raise TypeError("storage_options: 'stream' is open here, and cannot be sent to others")
        elif name == "proxy_jump" and _has_connection(value):
            raise TypeError(
                "storage_options: 'proxy_jump' must not be a connection; give a string, a tuple, "
                "or a dict of the bastion's own options"
            )
        elif name == "credentials":
            _check_credentials(value)
        else:
            _check_pickles(name, value)


def _has_connection(value: object) -> bool:
    if isinstance(value, list):
        return any(_has_connection(each) for each in value)
    return isinstance(value, Connection | AsyncConnection)


def _check_credentials(value: object) -> None:
    if value is None:
        return
    module, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if not (module and colon and name):
        raise ValueError(
            "storage_options: 'credentials' must name a function as 'package.module:function'"
        )


def _check_pickles(name: str, value: object) -> None:
    if value is None or isinstance(value, str | bytes | int | float) or _is_key(name, value):
        return
    try:
        pickle.dumps(value)
    except Exception as error:
        raise TypeError(
            f"storage_options: {name!r} cannot be pickled, so it cannot be sent to workers"
        ) from error


def _is_key(name: str, value: object) -> bool:
    """Tell whether a value holds key material, which is never pickled."""
    if name == "password":
        return value is not None
    if name in _KEYS:
        if isinstance(value, list | tuple):
            return any(_is_key(name, each) for each in value)
        if isinstance(value, os.PathLike) or value is None:
            return False
        return not isinstance(value, str) or "-----BEGIN" in value or is_piece_of_key(value)
    # A function is pickled by its name; other callables with all that they hold.
    plain = isinstance(value, FunctionType | BuiltinFunctionType)
    return name in _CALLED and callable(value) and not plain


def seal(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with their secrets in `Secret` objects."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name == "proxy_jump" and isinstance(value, Mapping):
            found[name] = seal(value)
        elif not isinstance(value, Secret) and _is_key(name, value):
            found[name] = Secret(value)
        else:
            found[name] = value
    return found


def remove_secrets(options: Mapping[str, Any], of: str = "") -> tuple[dict[str, Any], list[str]]:
    """Return what may be sent to others, and the names of what is left out."""
    kept: dict[str, Any] = {}
    left_out: list[str] = []
    for name, value in options.items():
        if isinstance(value, Secret):
            left_out.append(of + name)
        elif name == "proxy_jump" and isinstance(value, Mapping):
            kept[name], inner = remove_secrets(value, f"{of}{name}.")
            left_out += inner
        else:
            kept[name] = value
    return kept, left_out


def has_provider(options: Mapping[str, Any]) -> bool:
    """Tell whether credentials of the connection, or of a bastion, come from a function."""
    jump = options.get("proxy_jump")
    inner = isinstance(jump, Mapping) and has_provider(jump)
    return options.get("credentials") is not None or inner


def make_connection(options: Mapping[str, Any]) -> AsyncConnection:
    """Make the connection; it is not open. May block, as a provider of credentials may."""
    given: dict[str, Any] = {
        name: value.value if isinstance(value, Secret) else value for name, value in options.items()
    }
    provider = given.pop("credentials", None)
    if provider is not None:
        given |= _ask(provider, given)
    if isinstance(given.get("proxy_jump"), Mapping):
        given["proxy_jump"] = make_connection(given["proxy_jump"])
    return AsyncConnection(**given)


def _ask(name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    answer = found(given["host"], given.get("username"))
    if not isinstance(answer, Mapping) or not set(answer) <= OPTIONS - {"credentials", "host"}:
        raise TypeError(f"{name} must return a mapping of options, such as {{'password': …}}")
    return answer
