"""Makes signatures and documentation out of declared options.

`connection.py`, `async_connection.py` and `multi_connection.py` decorate with it what takes
``**options: Unpack[…]``. Afterwards `inspect.signature`, `typing.get_type_hints` and `help()` show
every option with its type, default and unit, as if it stood there. Signatures are made at once,
which is cheap. The text of a class is made when it is first read. Nothing here checks a value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from .._policy.connection_options import ARGUMENTS, Option, read_declared
from .documented import translate_text

__all__ = ["documents_constructor", "refuse_unknown", "takes_options"]

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=type)

#: The beginning of the line of a docstring that the parameters replace.
_MARK = "Args: "
_WIDTH = 80


def takes_options(
    kind: type, arguments: Mapping[str, Option] = ARGUMENTS, *, is_async: bool = False
) -> Callable[[F], F]:
    """Decorate a function that ends with ``**options``: its signature names each of them.

    Args:
        kind: a `TypedDict` whose annotations declare the options.
        arguments: the texts for the other parameters.
        is_async: whether the documentation is that of the async API.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        shown = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = read_declared(kind)
        for name, (annotation, option) in options.items():
            shown.append(
                inspect.Parameter(
                    name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=option.default,
                    annotation=annotation,
                )
            )
        texts = {**arguments, **{name: option for name, (_, option) in options.items()}}
        described = {p.name: texts[p.name] for p in shown if p.name in texts}
        made: Any = function
        made.__signature__ = signature.replace(parameters=shown)
        made.__annotations__ = {
            **{p.name: p.annotation for p in shown if p.annotation is not p.empty},
            "return": signature.return_annotation,
        }
        made.describe_options = partial(_describe, described, is_async)
        if function.__doc__:
            function.__doc__ = made.describe_options(function.__doc__)
        return function

    return decorate


def documents_constructor(cls: C) -> C:
    """Decorate a class whose constructor has `takes_options`: its docstring gets them, too."""
    if cls.__doc__ is not None:  # python -OO has no docstrings
        text: Any = _LazyText(cls.__doc__, vars(cls)["__init__"].describe_options)
        cls.__doc__ = text
    return cls


class _LazyText:
    """The docstring of a class, made when it is read."""

    def __init__(self, source: str, describe: Callable[[str], str]) -> None:
        self._source = source
        self._describe = describe

    def __get__(self, instance: object, owner: type) -> str:
        return self._describe(self._source)


def _describe(options: Mapping[str, Option], is_async: bool, source: str) -> str:
    """Return a docstring with the texts of these options in place of its mark."""
    from textwrap import fill

    lines = ["Args:"]
    for name, (_, text, unit, more) in options.items():
        text = f"{name}: **{unit}** {text}" if unit else f"{name}: {text}"
        if is_async:
            text = f"{translate_text(text)}  {more}".rstrip()
        lines.append(
            fill(text, _WIDTH, initial_indent="    ", subsequent_indent="        ",
                 break_long_words=False, break_on_hyphens=False)
        )  # fmt: skip
    return "\n".join(
        "\n".join(lines) if line.startswith(_MARK) else line
        for line in inspect.cleandoc(source).splitlines()
    )


def refuse_unknown(callee: str, given: Mapping[str, object], kind: type) -> None:
    """Raise TypeError, with Python's text, for a name that no option of this kind has."""
    for name in given:
        if name not in kind.__annotations__:
            raise TypeError(f"{callee}() got an unexpected keyword argument {name!r}")
