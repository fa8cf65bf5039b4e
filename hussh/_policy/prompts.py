"""What hussh asks its user during the login: the types of the callbacks; pure data.

`connection_options` declares the options that hold such callbacks. `_protocol/auth_methods.py` and
`_protocol/login_banner.py` call them. Nothing here calls anything.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

__all__ = ["BannerCallback", "Prompt", "PromptCallback", "PromptRequest"]


@dataclass(frozen=True)
class Prompt:
    """One question of the server; `echo` says whether the answer may be shown."""

    text: str
    echo: bool


@dataclass(frozen=True)
class PromptRequest:
    """One round of keyboard-interactive authentication (RFC 4256 section 3.2).

    Attributes:
        hop: the hop that asks, as ``user@host:port``.
        name, instruction: the server's texts for the whole round; they may be empty.
        prompts: the questions; the callback returns one answer for each, in order.
    """

    hop: str
    name: str
    instruction: str
    prompts: tuple[Prompt, ...]


#: A coroutine function is for the async API.
PromptCallback = Callable[[PromptRequest], Sequence[str] | Awaitable[Sequence[str]]]

#: Called with the hop (``user@host:port``) and the text of a login banner; a coroutine function
#: is for the async API.
BannerCallback = Callable[[str, str], object | Awaitable[object]]
