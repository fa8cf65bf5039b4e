"""Sphinx extension: the reference of the docstrings of every public name.

It turns the sections of docstrings (Args, Returns, Raises, Attributes) into fields, shows no
constructor of a class that only hussh makes, and finds what a name in backticks means. A public
name without a place in the reference is a warning, and so fails the build.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.domains.python import ObjectEntry
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import hussh

log = logging.getLogger(__name__)

#: A line that begins a section, with what may stand in brackets behind its name.
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns|Yields)( \([\w ]+\))?:")
_TITLES = {"Args": "Parameters"}
#: ``one, two (note): text``, an item of a section.
_ITEM = re.compile(r"(\*{0,2}[\w.`, ()-]+?):\s+(.*)", re.DOTALL)
_IN_BACKTICKS = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_NAME = re.compile(r"[A-Za-z_][\w.]*(\(\))?")
#: A page of the site, as docstrings name it.
_PAGE = re.compile(r"\bdocs/([\w-]+)\.md\b")
#: Classes that programs make themselves; of all others the constructor is not shown.
MADE_BY_PROGRAMS = {
    "Connection", "AsyncConnection", "MultiConnection", "AsyncMultiConnection", "Pty",
    "HusshFileSystem", "SSHResult", "Sshd", "Bastion",
}  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("autodoc-process-docstring", _process_docstring)
    app.connect("autodoc-process-signature", _process_signature)
    app.connect("autodoc-process-bases", _process_bases)
    app.connect("env-updated", _check_names)
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True}


# --- names


def public_names() -> Iterator[tuple[str, object]]:
    """Yield the dotted name and value of everything that a public module exports."""
    folder = Path(hussh.__file__).parent
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    names += sorted(path.parent.name for path in folder.glob("[a-z]*/__init__.py"))
    for module in [hussh, *(importlib.import_module(f"hussh.{name}") for name in names)]:
        for name in module.__all__:
            value = getattr(module, name)
            if not inspect.ismodule(value):
                yield f"{module.__name__}.{name}", value


def _check_names(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Warn for each public name that the reference does not have, and alias what it has once."""
    known = env.domains.python_domain.objects
    places: dict[int, str] = {}
    public = list(public_names())
    for name, value in public:
        if name in known and not known[name].aliased:
            places[id(value)] = name
    for name, value in public:
        place = places.get(id(value))
        if place is None:
            log.warning("%s has no place in docs/reference", name)
        elif name not in known:
            found = known[place]
            known[name] = ObjectEntry(found.docname, found.node_id, found.objtype, aliased=True)
    return []


def _resolve(app: Sphinx, env: BuildEnvironment, node: Any, contnode: Any) -> Any:
    """Resolve a name such as `SFTP.open` that another public module than the page's has."""
    if node.get("refdomain") != "py":
        return None
    domain = env.domains.python_domain
    wanted = node["reftarget"].removesuffix("()")
    first, dot, rest = wanted.removeprefix("hussh.").partition(".")
    for module in ("hussh", "hussh.aio", "hussh.multi_conn", "hussh.errors", "hussh.testing"):
        full = f"{module}.{first}{dot}{rest}"
        if full in domain.objects:
            return domain.resolve_xref(
                env, node["refdoc"], app.builder, "obj", full, node, contnode
            )
    return None


# --- docstrings


def _process_docstring(
    app: Sphinx, kind: str, name: str, value: object, options: object, lines: list[str]
) -> None:
    """Turn the sections of a docstring into fields of reStructuredText."""
    lines[:] = fields([_PAGE.sub(r":doc:`/\1`", _mark_code(line)) for line in lines])


def _mark_code(line: str) -> str:
    """Return a line in which backticks around what is no name, such as `.hop`, are doubled."""
    return _IN_BACKTICKS.sub(
        lambda found: found[0] if _NAME.fullmatch(found[1]) else f"`{found[0]}`", line
    )


def fields(lines: list[str]) -> list[str]:
    """Return a docstring with each section as a field: items as a list, else a paragraph."""
    made: list[str] = []
    at = 0
    while at < len(lines):
        section = _SECTION.fullmatch(lines[at].rstrip())
        if section is None:
            made.append(lines[at])
            at += 1
            continue
        end = at + 1
        while end < len(lines) and (not lines[end].strip() or lines[end].startswith(" ")):
            end += 1
        title = _TITLES.get(section[1], section[1]) + (section[2] or "")
        if made and made[-1].strip() and not made[-1].startswith(" "):
            made.append("")
        made.append(f":{title}:")
        made += [f"    {line}".rstrip() for line in _content(section[1], lines[at + 1 : end])]
        made.append("")
        at = end
    return made


def _content(section: str, lines: list[str]) -> list[str]:
    """Return the content of a section as reStructuredText."""
    items: list[str] = []
    indent = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    for line in lines:
        text, deeper = line.strip(), line.startswith(" " * (indent + 1))
        if not text:
            continue
        # Names of errors may fill more than a line; what a function returns may be one paragraph.
        goes_on = (
            deeper
            or (section == "Raises" and bool(items) and ":" not in items[-1])
            or (section == "Returns" and not text.startswith("``"))
        )
        if items and goes_on:
            items[-1] += f" {text}"
        else:
            items.append(text)
    if section in ("Returns", "Yields") and len(items) == 1:
        return items
    return [f"* {_item(section, text)}" for text in items]


def _item(section: str, text: str) -> str:
    """Return an item of a list: names as names, then the text."""
    found = _ITEM.fullmatch(text)
    if found is None or section in ("Returns", "Yields"):
        return text
    names = found[1].replace("`", "")
    if section == "Raises":
        names = re.sub(r"([A-Za-z_.]*[A-Z]\w*)(?![^(]*\))", r"`\1`", names)
    else:
        names = re.sub(r"\*{0,2}(\w+)", r"**\1**", names)
    return f"{names}: {found[2]}"


# --- signatures


def _process_signature(
    app: Sphinx,
    kind: str,
    name: str,
    value: Any,
    options: object,
    arguments: str | None,
    result: str,
) -> tuple[str, str] | None:
    """Hide the constructors of what only hussh makes, and say what a method returns for itself."""
    if result == "_Self":
        return arguments or "", name.split(".")[-2]
    is_made_by_hussh = kind == "exception" or (
        kind == "class" and value.__name__ not in MADE_BY_PROGRAMS
    )
    return ("", "") if is_made_by_hussh and arguments is not None else None


def _process_bases(
    app: Sphinx, name: str, value: object, options: object, bases: list[Any]
) -> None:
    """Show the public bases of a class instead of those that are ours."""
    shown: list[Any] = []
    for base in bases:
        ours = getattr(base, "__name__", "").startswith("_")
        shown += [each for each in (base.__bases__ if ours else [base]) if each not in shown]
    bases[:] = shown
