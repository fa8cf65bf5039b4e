"""The prose of the package: docstrings that begin as the house asks, and one term per concept.

Reads the source of ``hussh/``; it judges what a machine can judge, and a reader the rest.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PACKAGE = TOP / "hussh"
MODULES = sorted(PACKAGE.rglob("*.py"))
#: First words with which a docstring of a function does not say what it does.
NO_VERBS = {
    "A", "About", "After", "All", "Also", "An", "Another", "Any", "As", "At", "Before", "By",
    "Every", "Everything", "For", "From", "Here", "How", "If", "In", "It", "Its", "Like", "More",
    "None", "Nothing", "Of", "On", "One", "Our", "Raises", "Returns", "Some", "That", "The",
    "These", "They", "This", "Those", "To", "Until", "Up", "What", "When", "Where", "Which", "Who",
    "Why", "With",
}  # fmt: skip
#: Phrases that make a sentence hard to read, in docstrings and comments.
UNCLEAR = re.compile(
    r"(\b[Ww]hoever\b|\bof ours\b|\bof one's own\b|\bthat is none\b|\bwho knows\b|\bNone: )"
)
#: Words that were replaced by the field's, which no name may have any more.
OLD_TERMS = {
    "Trash", "Bell", "Lanes", "Crew", "Crowd", "Turn", "Pacer", "Way", "Stage", "Place",
    "Beneath", "Need", "Progress", "Blocking", "Several",
}  # fmt: skip
#: Names of one word that are a participle; fsspec calls `_modified`.
PARTICIPLE = re.compile(r"_?(?!feed$|modified$)([a-z]+ed|begun|found|gone|kept|known|made|told)")
DECORATED_AS_VALUE = {"property", "cached_property"}


def short(path: Path) -> str:
    """Return the name of a module in reports."""
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text())


def documented(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Yield what has a docstring, with that."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield node, text


def is_value(node: ast.AST) -> bool:
    """Tell whether a function is read like an attribute, so that its docstring names a thing."""
    decorators = getattr(node, "decorator_list", [])
    return any(ast.unparse(each).split(".")[-1] in DECORATED_AS_VALUE for each in decorators)


def no_verbs(path: Path) -> list[str]:
    """Return the functions of a module whose docstrings do not begin with a verb."""
    return [
        f"{node.name}, line {node.lineno}: {text.splitlines()[0]}"
        for node, text in documented(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not is_value(node)
        and (text.split()[0].rstrip(",:;.") in NO_VERBS or not text[0].isupper())
    ]


def participles(path: Path) -> list[str]:
    """Return the functions of a module whose names say that something was done, not what they do.

    A constructor (`HostResult.failed`), a context manager (``with driver.locked():``), a wrapper
    and a function that is read like an attribute may be called so.
    """
    return [
        f"{node.name}, line {node.lineno}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.decorator_list
        and PARTICIPLE.fullmatch(node.name)
    ]


def unclear(path: Path) -> list[str]:
    """Return docstrings and comments of a module that have one of the unclear phrases."""
    found = [text for _, text in documented(path) if UNCLEAR.search(text)]
    comments = re.findall(r"(?:^|\s)#:? (.*)", path.read_text())
    return found + [text for text in comments if UNCLEAR.search(text)]


def old_terms(path: Path) -> list[str]:
    """Return the names of a module's classes and functions that were replaced."""
    names = {
        node.name.strip("_")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return sorted(names & OLD_TERMS)


def in_modules(find: Callable[[Path], list[str]]) -> dict[str, list[str]]:
    """Return what `find` finds in the modules where it finds something."""
    return {short(path): found for path in MODULES if (found := find(path))}


def test_docstrings_of_functions_begin_with_a_verb() -> None:
    """The first word of a function's docstring says what the function does."""
    assert not in_modules(no_verbs)


def test_functions_are_called_by_verbs() -> None:
    """No function has a participle for a name, which would read like a fact or an attribute."""
    assert not in_modules(participles)


def test_sentences_have_their_subjects() -> None:
    """No docstring and no comment has a phrase that has to be read twice."""
    assert not in_modules(unclear)


def test_pages_have_no_unclear_phrases() -> None:
    """The same holds for the pages of docs/, README, CONTRIBUTING and the changelog."""
    pages = [*(TOP / "docs").glob("*.md"), *TOP.glob("*.md")]
    assert len(pages) > 30
    found = {page.name: UNCLEAR.findall(page.read_text()) for page in pages}
    assert not {name: phrases for name, phrases in found.items() if phrases}


def test_one_term_per_concept() -> None:
    """No class or function has one of the names that were replaced."""
    assert not in_modules(old_terms)


def test_the_rules_see_a_violation(tmp_path: Path) -> None:
    """A docstring without a verb, an unclear one and an unclear comment are found."""
    path = tmp_path / "sample.py"
    path.write_text(
        '"""Whoever needs it."""\n\n\nclass A:\n    @property\n    def b(self):\n'
        '        """The value."""\n\n    def c(self):\n        """What there is; None: no."""\n'
        "        return None  # a friend of ours\n"
    )
    assert [line.split(",")[0] for line in no_verbs(path)] == ["c"]
    assert len(unclear(path)) == 3
    path.write_text("def refused():\n    pass\n\n\n@contextmanager\ndef locked():\n    yield\n")
    tree.cache_clear()
    assert participles(path) == ["refused, line 1"]
