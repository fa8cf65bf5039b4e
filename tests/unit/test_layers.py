"""The architecture of the package, read from its source: who may import whom, and what.

Looks at files of ``hussh/`` and at a fresh interpreter; needs no server.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "hussh"
MODULES = sorted(PACKAGE.rglob("*.py"))

#: The layers, from top to bottom; each may import itself and those below, but for `APART`.
#: "public" are the modules beside the layers, such as `hussh.aio`.
LAYERS = (
    "public", "_command_line", "_fsspec", "_testing", "_multi", "_api", "_connect", "_runtime",
    "_protocol", "_policy", "_native", "errors", "_host_results", "_error_base", "_results",
    "_version", "_older_package",
)  # fmt: skip
#: Neighbours that know nothing of one another.
APART = {("_policy", "_native")}
BELOW = {
    upper: {lower for lower in LAYERS[at + 1 :] if (upper, lower) not in APART}
    for at, upper in enumerate(LAYERS)
}
#: Modules by which one waits: for some layers only, and for what starts and counts batches.
WAITING = {
    "anyio", "asyncio", "concurrent", "multiprocessing", "queue", "sched", "select", "selectors",
    "signal", "socket", "socketserver", "ssl", "subprocess", "threading", "trio",
}  # fmt: skip
MAY_WAIT = {"_connect", "_runtime", "_fsspec", "_testing"}
MAY_WAIT_TOO = {"_command_line/output.py", "_multi/batch.py", "_multi/loop_placement.py"}
#: What the body of a module defines under a name that others may use for it.
DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
#: The words by which a head draws a limit.
LIMIT = re.compile(r"\b(neither|never|no|nobody|none|not|nothing|only|pure)\b", re.IGNORECASE)
COMPILED = "hussh._native._libssh2"
SEES_COMPILED = {
    "_native/constants.py",
    "_native/local_end.py",
    "_native/kex_work.py",
    "_native/channel.py",
    "_native/link.py",
    "_native/link_state.py",
    "_native/owned.py",
    "_api/build_info.py",
}
#: What only some users need, and what would make every program's start slow.
LAZY = {
    "anyio", "asyncio", "bcrypt", "cryptography", "ctypes", "ipaddress", "json", "pathlib",
    "pytest", "random", "shutil", "trio", "urllib",
}  # fmt: skip


def short(path: Path) -> str:
    """Return the name under which a module appears in the rules and in reports."""
    return path.relative_to(PACKAGE).as_posix()


def layer(path: Path) -> str:
    """Return the layer of a module."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return first if first in BELOW else "public"


def may_wait(path: Path) -> bool:
    """Tell whether a module may import what one waits with."""
    return layer(path) in MAY_WAIT or short(path) in MAY_WAIT_TOO


def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return parsed(path.read_text())


@cache
def parsed(text: str) -> ast.Module:
    """Return the syntax tree of a text."""
    return ast.parse(text)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield line and absolute dotted name of everything that a module imports, lazily or not.

    ``from a import b`` gives ``a.b``: whether b is a module does not matter to the rules.
    """
    package = ["hussh", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            start = [*base, *(node.module.split(".") if node.module else [])]
            for name in node.names:
                yield node.lineno, ".".join([*start, name.name])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield node.lineno, ast.unparse(node.args[0]).strip("'\"")


def in_layer(name: str) -> str | None:
    """Return the layer that an imported name belongs to; None: not ours."""
    parts = name.split(".")
    if parts[0] != "hussh":
        return None
    second = parts[1] if len(parts) > 1 else ""
    return second if second in BELOW else "public"


def allowed(path: Path) -> set[str | None]:
    """Return the layers from which a module may import; None: what is not ours."""
    return BELOW[layer(path)] | {layer(path), None}


def test_imports_point_downward() -> None:
    """A module imports from its own layer and the layers below, never upward."""
    wrong = [
        f"{short(path)}, line {line}: {name}"
        for path in MODULES
        for line, name in imports(path)
        if in_layer(name) not in allowed(path)
    ]
    assert not wrong


def names_of_modules() -> dict[str, Path]:
    """Return the modules of the package by their dotted names; a folder's is its `__init__`."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


def needs_of_modules() -> dict[str, set[str]]:
    """Return which modules of the package each of them imports, lazily or not."""
    names = names_of_modules()
    needs: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for _, wanted in imports(path):
            while wanted and wanted not in names:
                wanted = wanted.rpartition(".")[0]
            needs[name] |= {wanted} - {name, ""}
    return needs


def circle() -> list[str]:
    """Return modules of the package that import one another in a circle; empty: there is none."""
    try:
        TopologicalSorter(needs_of_modules()).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_circles() -> None:
    """No module needs itself by way of others, not even for its types or within a function."""
    assert not circle()


def test_the_rule_sees_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import for type checkers closes a circle with one inside of a function."""
    package = tmp_path / "hussh"
    monkeypatch.setattr(f"{__name__}.PACKAGE", package)
    (package / "_api").mkdir(parents=True)
    (package / "_api" / "one.py").write_text("def late():\n    from .two import Two\n")
    (package / "_api" / "two.py").write_text("if TYPE_CHECKING:\n    from .one import late\n")
    assert set(circle()) == {"hussh._api.one", "hussh._api.two"}
    (package / "_api" / "two.py").write_text("")
    assert not circle()


def test_few_may_wait() -> None:
    """Elsewhere nothing is imported by which one could wait, start or listen."""
    wrong = [
        f"{short(path)}, line {line}: {name}"
        for path in MODULES
        if not may_wait(path)
        for line, name in imports(path)
        if name.split(".")[0] in WAITING
    ]
    assert not wrong


def test_only_the_owner_touches_the_compiled_module() -> None:
    """The compiled module is imported by its objects' owner, for its numbers and its version."""
    seen = {
        short(path)
        for path in MODULES
        for _, name in imports(path)
        if name == COMPILED or name.startswith(COMPILED + ".")
    }
    assert seen == SEES_COMPILED


def head(path: Path) -> str:
    """Return what the docstring of a module says within the first 30 lines of the file."""
    return "\n".join((ast.get_docstring(tree(path)) or "").splitlines()[:30])


def names_a_user(text: str, users: set[str], names: dict[str, Path]) -> bool:
    """Tell whether a head names a module that imports this one, its folder or what it defines."""
    spans = re.findall(r"`+([^`]+)`+", text)
    named = {word for span in spans for word in re.split(r"[./ ]", span)}
    for user in users:
        nodes = [node for node in tree(names[user]).body if isinstance(node, DEFINITIONS)]
        if named & {*user.removeprefix("hussh.").split("."), *(node.name for node in nodes)}:
            return True
    return re.search(r"\b[Uu]sers\b", text) is not None


def silent_heads() -> dict[str, str]:
    """Return the modules whose first 30 lines leave open what they are for, for whom, or not."""
    names, silent = names_of_modules(), {}
    needs = needs_of_modules()
    for name, path in names.items():
        text = head(path)
        users = {user for user, wanted in needs.items() if name in wanted}
        if len(re.findall(r"\S[.:;](?:\s|$)", text)) < 2:
            silent[short(path)] = "says less than two things"
        elif path.name != "__init__.py" and users and not names_a_user(text, users, names):
            silent[short(path)] = "names nobody of those that import it"
        elif not LIMIT.search(text):
            silent[short(path)] = "says nothing about what it does not do"
    return silent


def test_heads_tell_purpose_users_and_limits() -> None:
    """The first 30 lines of a module say what it is for, who uses it, and what it must not do."""
    assert silent_heads() == {}


def test_the_rule_sees_a_silent_head(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads are found out that name a module which imports something else, or draw no limit."""
    package = tmp_path / "hussh"
    monkeypatch.setattr(f"{__name__}.PACKAGE", package)
    (package / "_api").mkdir(parents=True)
    heads = {
        "good": "Parses. `user.py` calls it. It opens no file.",
        "stale": "Parses. `other.py` calls it. It opens no file.",
        "endless": "Parses. `user.py` calls it. It opens files.",
        "short": "Parses, for `user.py`, and opens no file.",
    }
    for name, text in heads.items():
        (package / "_api" / f"{name}.py").write_text(f'"""{text}"""\n')
    (package / "_api" / "user.py").write_text(
        '"""Uses all. Nothing imports it."""\nfrom . import good, stale, endless, short\n'
    )
    assert set(silent_heads()) == {"_api/stale.py", "_api/endless.py", "_api/short.py"}


def test_documents_name_every_folder() -> None:
    """The architecture names all folders and files of C, CONTRIBUTING all folders of tests."""
    top = PACKAGE.parent
    house = (top / "docs" / "architecture.md").read_text()
    tests = (top / "CONTRIBUTING.md").read_text()
    folders = {path.parent.name for path in MODULES if path.parent.parent == PACKAGE}
    wanted = {f"`hussh/{folder}/`" for folder in folders}
    wanted |= {f"| `{path.name}` |" for path in (top / "csrc").glob("*.c")} - {"| `stubs.c` |"}
    missing = {text for text in wanted if text not in house}
    suites = {path.name for path in (top / "tests").iterdir() if any(path.glob("*.py"))}
    assert not missing | {name for name in suites if f"`tests/{name}`" not in tests}


def test_the_rules_see_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative, absolute, nested and dynamic imports are all found, under their full names."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    path = tmp_path / "_policy" / "sample.py"
    path.parent.mkdir()
    path.write_text(
        "import importlib, socket as s\n"
        "from .._runtime.driver import Tree\n"
        "from .. import _api\n"
        "def late():\n    import hussh._native.link\n    importlib.import_module('trio.abc')\n"
    )
    found = {name for _, name in imports(path)}
    assert found == {
        "importlib", "socket", "hussh._runtime.driver.Tree", "hussh._api", "hussh._native.link",
        "trio.abc",
    }  # fmt: skip
    assert layer(path) == "_policy"
    assert [in_layer(name) for name in ("hussh._runtime.driver", "hussh.aio", "os")] == [
        "_runtime", "public", None,
    ]  # fmt: skip


def test_importing_hussh_is_lean(record_property: Callable[[str, object], None]) -> None:
    """`import hussh` leaves out event loops and what few need; its time is recorded, not judged."""
    code = (
        "import sys, time; before = {*sys.modules}; start = time.perf_counter(); import hussh;"
        "print(time.perf_counter() - start,"
        " *{name.split('.')[0] for name in {*sys.modules} - before})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    seconds, *loaded = done.stdout.split()
    record_property("import_ms", round(float(seconds) * 1000, 1))
    print(f"import hussh: {float(seconds) * 1000:.0f} ms")
    assert "hussh" in loaded
    assert not LAZY & set(loaded)
