"""`Connection` and `AsyncConnection` side by side: the same members under the same names."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from hussh import Connection
from hussh.aio import AsyncConnection


def public(kind: type) -> dict[str, Any]:
    """Return the public members of a class."""
    return {name: value for name, value in inspect.getmembers(kind) if not name.startswith("_")}


BOTH = sorted(public(Connection).keys() & public(AsyncConnection).keys())


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults of a method's parameters."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]


def words(member: Any) -> list[str]:
    """Return a docstring's words without what the APIs differ in: units and the kind of loop."""
    text = (inspect.getdoc(member) or "").replace("milliseconds", "seconds").replace("Seconds", "…")
    for loop, sync in (("An `Async", "A `"), ("an ``async with``", "a ``with``"),
                       ("`AsyncShell`", "`InteractiveShell`")):  # fmt: skip
        text = text.replace(loop, sync)
    return text.replace("Milliseconds", "…").split()


def test_there_is_something_to_compare() -> None:
    """The comparison would notice an empty class."""
    assert {"execute", "close", "host", "timeout"} <= set(BOTH)


def test_only_what_the_loop_needs_is_added() -> None:
    """The async class has only connecting, and 0.3.3's own names, beyond the sync class."""
    more = public(AsyncConnection).keys() - public(Connection).keys()
    assert more == {"connect", "key_path", "sftp_list"}


@pytest.mark.parametrize("name", BOTH)
def test_same_members(name: str) -> None:
    """A member of both classes has the same parameters, defaults and docstring."""
    ours, theirs = getattr(Connection, name), getattr(AsyncConnection, name)
    assert words(ours) == words(theirs)
    assert isinstance(ours, property) == isinstance(theirs, property)
    if not isinstance(ours, property):
        assert parameters(ours) == parameters(theirs)


def test_same_options() -> None:
    """Both constructors take the same options, and their keyword-only ones alike."""
    sync, loop = (
        {p.name: p for p in inspect.signature(kind).parameters.values()}
        for kind in (Connection, AsyncConnection)
    )
    assert loop.keys() - sync.keys() == {"key_path"}
    assert sync.keys() <= loop.keys()
    extras = [p.name for p in loop.values() if p.kind is p.KEYWORD_ONLY]
    assert extras == [
        p.name for p in sync.values() if p.kind is p.KEYWORD_ONLY and p.name != "keepalive_interval"
    ]
    assert {name: sync[name].default for name in extras} == {
        name: loop[name].default for name in extras
    }
