"""The layers of the C shim, read from its source: which file calls which, and includes which.

Looks at files of ``csrc/`` only; nothing is compiled.
"""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"
#: From top to bottom, as at the head of ``tree.h``.
LAYERS = ("pump", "link", "message_hook", "channel_recv", "endpoint",
          "channel_signal", "channel_command", "channel", "send", "kex_work", "tree")  # fmt: skip
#: Headers that every layer may include: the contract with Python, queues and numbers.
COMMON = {"link.h", "queue.h", "messages.h"}


def code(path: Path) -> str:
    """Return C source without comments, the content of strings, and lines of the preprocessor."""
    text = re.sub(r"/\*.*?\*/|^#[^\n]*", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r'"(?:\\.|[^"\\])*"', '""', text)


def defined(path: Path) -> set[str]:
    """Return the functions that a file defines for others."""
    return set(
        re.findall(r"^(?!static\b)\w[\w *]*?\b(\w+)\([^;{}]*\)\s*\{", code(path), re.MULTILINE)
    )


def calls(folder: Path) -> dict[str, set[str]]:
    """Return the layers of which each layer calls, or passes on, a function."""
    functions = {name: defined(folder / f"{name}.c") for name in LAYERS}
    found = {}
    for name in LAYERS:
        words = set(re.findall(r"\w+", code(folder / f"{name}.c")))
        found[name] = {other for other in LAYERS if other != name and words & functions[other]}
    return found


def upward(graph: dict[str, set[str]]) -> list[str]:
    """Return those edges of a graph that do not point downward."""
    return [f"{low} -> {high}" for high, low in combinations(LAYERS, 2) if high in graph[low]]


def includes(path: Path) -> set[str]:
    """Return the headers of the shim that a file includes itself."""
    return {
        name
        for name in re.findall(r'^#include "([^"]+)"', path.read_text(), re.MULTILINE)
        if (CSRC / name).exists() and name not in COMMON
    }


def test_calls_point_downward() -> None:
    """No C file calls a function of a file above it, so there is no circle among them."""
    graph = calls(CSRC)
    assert not upward(graph)
    assert graph["pump"] >= {"channel", "send", "tree"}, "the parser sees the calls"
    assert {name for name in LAYERS if "tree" not in graph[name]} == {
        "channel_signal",
        "channel_command",
        "tree",
    }


@pytest.mark.parametrize("name", LAYERS)
def test_includes_point_downward(name: str) -> None:
    """A file includes its own header and headers of the layers below, so it can see no other."""
    below = LAYERS[LAYERS.index(name) :]
    allowed = {f"{layer}.h" for layer in below} | {"libssh2_priv.h"}
    for path in CSRC.glob(f"{name}.[ch]"):
        if path.name not in COMMON:
            assert includes(path) <= allowed, path.name


def test_every_file_has_a_layer() -> None:
    """A new C file stands in the list, and the head of tree.h shows the same order."""
    assert {path.stem for path in CSRC.glob("*.c")} - {"stubs"} == set(LAYERS)
    head = (CSRC / "tree.h").read_text().partition("#ifndef")[0]
    assert tuple(re.findall(r"^ \*   (\w+)\.c ", head, re.MULTILINE)) == LAYERS


def test_the_rule_sees_a_call_upward(tmp_path: Path) -> None:
    """A call of the pump in tree.c, and a function passed on by its name, are found."""
    for name in LAYERS:
        (tmp_path / f"{name}.c").write_text(f"int {name}_run(void) {{\n  return 0;\n}}\n")
    (tmp_path / "tree.c").write_text(
        "/* send_run() */\nstatic int (*call)(void) = link_run;\n"
        'int tree_run(int n,\n             int m) {\n  say("channel_run()");\n'
        "  return pump_run();\n}\n"
    )
    assert upward(calls(tmp_path)) == ["tree -> pump", "tree -> link"]
