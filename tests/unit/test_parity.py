"""The sync and the async classes side by side: the same members, parameters and docstrings.

What only one of a pair has stands in ``ALONE``, with its reason.
"""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from hussh import Connection, FileTailer, InteractiveShell, Process
from hussh._api.async_sftp_file import AsyncScandirIterator, AsyncSFTPDirEntry
from hussh._api.documented import translate_member
from hussh._api.sftp import SFTP
from hussh._api.sftp_file import ScandirIterator, SFTPDirEntry
from hussh.aio import (
    AsyncConnection,
    AsyncFileTailer,
    AsyncInteractiveShell,
    AsyncProcess,
    AsyncSFTP,
)

PAIRS: list[tuple[type, type]] = [
    (Connection, AsyncConnection),
    (SFTP, AsyncSFTP),
    (SFTPDirEntry, AsyncSFTPDirEntry),
    (ScandirIterator, AsyncScandirIterator),
    (FileTailer, AsyncFileTailer),
    (Process, AsyncProcess),
    (InteractiveShell, AsyncInteractiveShell),
]

#: Members that only one class of a pair has.
ALONE = {
    (AsyncConnection, "connect"): "the sync class connects in its constructor",
    (AsyncConnection, "key_path"): "0.3.3's name there",
    (AsyncConnection, "sftp_list"): "0.3.3's name there; the sync class has sftp.listdir",
    (AsyncProcess, "aclose"): "for contextlib.aclosing and our own async with",
    (AsyncScandirIterator, "aclose"): "the same",
    (AsyncFileTailer, "aclose"): "the same",
    (AsyncInteractiveShell, "aclose"): "the same",
}
#: Members whose docstrings differ, because they do different things, as in 0.3.3.
DIFFERENT = {(InteractiveShell, "read"), (InteractiveShell, "close")}
#: What is awaited in one place only: these answer at once, or are made to be iterated or entered.
AT_ONCE = {
    "sftp", "tail", "scandir", "walk", "poll", "send_signal", "terminate", "kill", "resize",
    "iglob",
    "forward_local", "forward_remote", "forward_socks",  # begun by await or async with
}  # fmt: skip

MEMBERS = [
    pytest.param(ours, theirs, name, id=f"{ours.__name__}.{name}")
    for ours, theirs in PAIRS
    for name in dir(ours)
    if not name.startswith("_") and hasattr(theirs, name)
]


def public(kind: type) -> set[str]:
    """Return the names of the public members of a class."""
    return {name for name in dir(kind) if not name.startswith("_")}


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    """Return names, kinds and defaults of a method's parameters."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(member).parameters.values()]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_nothing_is_missing(ours: type, theirs: type) -> None:
    """Each class of a pair has every public member of the other, but for those that are listed."""
    assert public(ours) & public(theirs)
    alone = {name for kind, name in ALONE if kind is theirs}
    assert public(theirs) - public(ours) == alone
    assert public(ours) - public(theirs) == set()


@pytest.mark.parametrize(("ours", "theirs", "name"), MEMBERS)
def test_same_members(ours: type, theirs: type, name: str) -> None:
    """A member of both has the same parameters and defaults, and says the same in its units."""
    sync, loop = getattr(ours, name), getattr(theirs, name)
    assert isinstance(sync, property) == isinstance(loop, property)
    if (ours, name) not in DIFFERENT:
        assert inspect.getdoc(loop) or not callable(loop)
        assert translate_member(loop).split() == translate_member(sync).split()
    if callable(sync):
        assert parameters(sync) == parameters(loop)


@pytest.mark.parametrize(("ours", "theirs", "name"), MEMBERS)
def test_awaited_where_it_may_wait(ours: type, theirs: type, name: str) -> None:
    """Methods of the async class are coroutine functions, but for those that need not wait."""
    member = getattr(theirs, name)
    if not callable(member) or (theirs is AsyncProcess and name == "close"):
        return
    assert inspect.iscoroutinefunction(member) == (name not in AT_ONCE)


def test_units() -> None:
    """No docstring of an async class speaks of milliseconds."""
    docstrings = [theirs.__doc__ or "" for _, theirs in PAIRS]
    docstrings += [
        inspect.getdoc(getattr(theirs, name)) or "" for _, theirs in PAIRS for name in dir(theirs)
    ]
    assert not [text for text in docstrings if "milliseconds" in text.lower()]
    assert "**seconds**" in (AsyncConnection.execute.__doc__ or "")


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


@pytest.mark.parametrize("kind", [Connection, AsyncConnection])
def test_options_are_documented(kind: type) -> None:
    """`help()` of a connection tells what each option is for."""
    text = (kind.__doc__ or "").split("Args:")[1].split("Raises")[0]
    lines = re.findall(r"^ {4}(\w[\w, ]*):", text, re.MULTILINE)
    documented = {name for line in lines for name in line.split(", ")}
    assert set(inspect.signature(kind).parameters) <= documented


@pytest.mark.parametrize(("ours", "theirs"), [(FileTailer, AsyncFileTailer)])
def test_same_constructors(ours: type, theirs: type) -> None:
    """Classes that users may make themselves are made alike."""
    assert parameters(ours) == parameters(theirs)
