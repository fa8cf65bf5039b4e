"""The site's reference of docstrings: every public name has its place; no site is built here.

`scripts/check` builds the site, where a page without a place in the navigation is an error, too.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import hussh

TOP = Path(__file__).resolve().parents[2]
PAGES = sorted((TOP / "docs/reference").glob("*.rst"))
DIRECTIVE = re.compile(
    r"^ *\.\. (currentmodule|autoclass|autoexception|autofunction|py:data):: ([\w.]+)", re.MULTILINE
)


def public_modules() -> list[str]:
    """Return the names of the modules that programs import."""
    folder = Path(hussh.__file__).parent
    names = [path.stem for path in folder.glob("[a-z]*.py")]
    names += [path.parent.name for path in folder.glob("[a-z]*/__init__.py")]
    return ["hussh", *(f"hussh.{name}" for name in sorted(names))]


def places(pages: Iterable[Path]) -> dict[str, str]:
    """Return each name that has a place in the reference, to the page that has it."""
    found: dict[str, str] = {}
    for page in pages:
        module = ""
        for kind, name in DIRECTIVE.findall(page.read_text()):
            if kind == "currentmodule":
                module = name
                continue
            full = name if name.startswith("hussh.") else f"{module}.{name}"
            assert full not in found, f"{full} is on {found[full]} and on {page.name}"
            found[full] = page.name
    return found


def without_place(pages: Iterable[Path]) -> list[str]:
    """Return the public names whose value has a place under no public name."""
    public = {}
    for module in map(importlib.import_module, public_modules()):
        values = {name: getattr(module, name) for name in module.__all__}
        public.update({f"{module.__name__}.{name}": value for name, value in values.items()})
    known = places(pages)
    shown = {id(value) for name, value in public.items() if name in known}
    return [
        name
        for name, value in public.items()
        if id(value) not in shown and not inspect.ismodule(value)
    ]


def test_every_public_name_has_a_place() -> None:
    """Each name that a public module exports is on a page of docs/reference."""
    assert {"hussh.aio", "hussh.errors", "hussh.multi_conn"} <= set(public_modules())
    assert not without_place(PAGES)


def test_the_reference_names_what_exists() -> None:
    """Each name of the reference can be found where the reference says."""
    for name in places(PAGES):
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


def test_a_missing_name_is_found() -> None:
    """Without the page of errors, the errors have no place."""
    missing = without_place(page for page in PAGES if page.stem != "errors")
    assert {"hussh.HusshError", "hussh.errors.HusshError", "hussh.SFTPError"} <= set(missing)
    assert "hussh.Connection" not in missing


def test_every_page_of_the_reference_is_in_the_navigation() -> None:
    """The index names each page of the reference, and no other."""
    named = re.findall(r"^reference/(\w+)$", (TOP / "docs/index.md").read_text(), re.MULTILINE)
    assert sorted(named) == [page.stem for page in PAGES]
