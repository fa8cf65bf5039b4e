"""What tools that read annotations while a program runs see of the public interface; no server."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hussh
import hussh.aio
import hussh.errors
import hussh.multi_conn
import hussh.testing


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield every public class, function and method, by its dotted name."""
    for module in (hussh, hussh.aio, hussh.multi_conn, hussh.errors, hussh.testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                continue
            yield f"{module.__name__}.{name}", value
            for member in dir(value) if inspect.isclass(value) else ():
                found = inspect.getattr_static(value, member)
                found = getattr(found, "fget", getattr(found, "__func__", found))
                if inspect.isfunction(found) and (member == "__init__" or member[0] != "_"):
                    yield f"{module.__name__}.{name}.{member}", found


FUNCTIONS = dict(public_functions())


def test_hints_can_be_read() -> None:
    """`typing.get_type_hints` works for each public class, function, method and property."""
    assert len(FUNCTIONS) > 300
    wrong = {}
    for name, function in FUNCTIONS.items():
        try:
            typing.get_type_hints(function)
        except Exception as error:
            wrong[name] = repr(error)
    assert not wrong


@pytest.mark.parametrize(
    ("function", "argument", "hint"),
    [
        (hussh.Connection.sftp_read, "encoding", str | None),
        (hussh.Connection.__init__, "compression", bool),
        (hussh.aio.AsyncConnection.execute, "return", hussh.SSHResult),
        (hussh.CommandTimeout.__init__, "result", hussh.SSHResult | None),
        (hussh.ExpectEOF, "result", hussh.SSHResult),
        (hussh.ConnectionLost, "result", hussh.SSHResult | hussh.TransferResult | None),
        (hussh.PartialFailureException.__init__, "failed", hussh.multi_conn.MultiResult | None),
    ],
)
def test_hints_are_types(function: Callable[..., Any], argument: str, hint: object) -> None:
    """A hint is the type itself, also of an option that is declared in another module."""
    assert typing.get_type_hints(function)[argument] == hint


@pytest.mark.parametrize("cls", [getattr(hussh.errors, name) for name in hussh.errors.__all__])
def test_errors_hide_no_type(cls: type[hussh.HusshError]) -> None:
    """No attribute and no argument of an error is `Any`, except for where it failed."""
    hints = typing.get_type_hints(cls) | typing.get_type_hints(cls.__init__)
    assert Any not in [hint for name, hint in hints.items() if name not in ("place", "more")]
