"""Which variants of a test a normal run leaves out; with ``HUSSH_LONG=1`` none is.

For ``tests/conftest.py``. A variant is left out when it bears the
mark ``long``, or when its column of the conformance suite is not among those that ``spread`` chose.
What is left out is deselected, never skipped, and the run's end says how much that was. The choice
depends on names only: no run differs from another, and a variant that the command line names is
never left out.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable
from typing import Any

import pytest

#: Whether everything shall run.
LONG = bool(os.environ.get("HUSSH_LONG"))

#: A test with no more columns than this has one column for each API at most, or is a slow one.
FEW = 4

#: The APIs over one kind of event loop each, which alternate in tests with few columns.
_ALTERNATING = ("asyncio", "trio")

_left_out = pytest.StashKey[int]()
_left_out_by_workers = pytest.StashKey[int]()

#: A column of the conformance suite: the names of the API and of the transport.
Column = tuple[str, str]


def spread(name: str, columns: Iterable[Column]) -> set[Column]:
    """Return the columns that the test of this name has in a normal run.

    A test with many columns keeps one for each API. The transports take turns, so that each column
    has its share of the tests. A test with few columns is about the code that all APIs share: it
    keeps one of the blocking API and one of an event loop, asyncio's or trio's by turns.
    ``columns`` adds that these are the columns of a test's first parameters only.
    """
    transports: dict[str, list[str]] = {}
    for api, transport in columns:
        transports.setdefault(api, []).append(transport)
    number = zlib.crc32(name.encode())
    if sum(map(len, transports.values())) <= FEW and transports.keys() >= set(_ALTERNATING):
        del transports[_ALTERNATING[number // 64 % 2]]
    return {
        (api, names[(number + place) % len(names)])
        for place, (api, names) in enumerate(transports.items())
    }


def by_turns(rows: Iterable[Any], *variants: Any) -> list[Any]:
    """Return parameters: each row with each variant, of which one by turns is not ``long``."""
    made = []
    for number, row in enumerate(rows):
        for place, variant in enumerate(variants):
            more = variant if isinstance(variant, tuple) else (variant,)
            marks = () if place == number % len(variants) else (pytest.mark.long,)
            made.append(pytest.param(row, *more, marks=marks))
    return made


def leave_out(config: pytest.Config, items: list[pytest.Item], left_out: set[pytest.Item]) -> None:
    """Deselect variants of tests, unless everything shall run or the command line names one."""
    if LONG or not left_out or any("[" in argument for argument in config.args):
        return
    config.stash[_left_out] = config.stash.get(_left_out, 0) + len(left_out)
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def columns(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the columns of conformance tests that these do not have in a normal run.

    If a test has other parameters, too, the first of them are tried in the columns of `spread`,
    and each of the others in one column, by turns.
    """
    # Name of the test -> its other parameters -> column -> the variant.
    tests: dict[str, dict[str, dict[Column, pytest.Item]]] = {}
    for item in items:
        callspec: Any = getattr(item, "callspec", None)
        match callspec and callspec.params.get("client"):
            case (api, str(transport)):
                others = callspec.id.replace(f"{api.name}-{transport}", "", 1)
                of_test = tests.setdefault(item.nodeid.partition("[")[0], {})
                of_test.setdefault(others, {})[api.name, transport] = item
    left_out = set()
    for name, of_test in tests.items():
        for number, variants in enumerate(of_test.values()):
            if number == 0:
                kept = spread(name, variants)
            else:
                kept = {list(variants)[(zlib.crc32(name.encode()) + number) % len(variants)]}
            left_out |= {variants[column] for column in variants.keys() - kept}
    return left_out


def marked(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the variants that bear the mark ``long``."""
    return {item for item in items if item.get_closest_marker("long")}


def tell_controller(config: pytest.Config) -> None:
    """Let the process that started this worker of pytest-xdist know what was left out."""
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["left_out"] = config.stash.get(_left_out, 0)


def hear_worker(config: pytest.Config, output: dict[str, int]) -> None:
    """Note what a worker said; each of them leaves out the same."""
    config.stash[_left_out_by_workers] = max(
        config.stash.get(_left_out_by_workers, 0), output.get("left_out", 0)
    )


def summary(config: pytest.Config) -> str:
    """Return the line for the end of the run; empty if nothing was left out."""
    count = max(config.stash.get(_left_out, 0), config.stash.get(_left_out_by_workers, 0))
    return f"{count} more variants of tests run with HUSSH_LONG=1" if count else ""
