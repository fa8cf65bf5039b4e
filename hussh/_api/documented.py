"""`details_of`: long docstrings that the sync and the async class share are written once.

The async classes import it, such as `async_sftp.py` and `async_process.py`. An async method has its
summary line in the source, where a reader and an editor look for it. Args, Returns and Raises come
from its sync twin, with the units and names of the async side. It changes docstrings only.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["details_of", "translate_text", "translate_member"]

F = TypeVar("F", bound=Callable[..., Any])

_WORDS = (
    (r"\bmilliseconds\b", "seconds"),
    (r"\bMilliseconds\b", "Seconds"),
    (r"\ba ``with`` block", "an ``async with`` block"),
    (r"\b(A|a) `(Connection|SFTP|Process)`", r"\1n `Async\2`"),
    (r"`(Connection|SFTP|Process|InteractiveShell|FileTailer)([`.])", r"`Async\1\2"),
)


def details_of(twin: Callable[..., Any]) -> Callable[[F], F]:
    """Decorate an async method: append the docstring of `twin`, without its first line."""

    def decorate(method: F) -> F:
        summary, details = inspect.getdoc(method), translate_member(twin).partition("\n")[2]
        if summary is not None:  # python -OO has none
            method.__doc__ = f"{summary}\n{details}"
        return method

    return decorate


def translate_member(member: object) -> str:
    """Return the docstring of a sync member with units and names of the async side."""
    return translate_text(inspect.getdoc(member) or "")


def translate_text(text: str) -> str:
    """Return a text of the sync API with units and names of the async side."""
    for pattern, replacement in _WORDS:
        text = re.sub(pattern, replacement, text)
    return text
