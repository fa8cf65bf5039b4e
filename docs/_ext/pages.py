"""Sphinx extension: pages of the site that are files at the top of the repository.

``docs/index.md`` and two more are only places in the navigation; the text of README.md and its
siblings goes before theirs. Links of all pages to files that are no pages lead to the repository.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

import hussh
from release.addresses import file_address, map_links, repository, revision

TOP = Path(__file__).resolve().parents[2]
#: Page -> the file whose text it shows.
SHOWN = {"index": "README.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}
_PAGE_OF = {file: f"docs/{page}.md" for page, file in SHOWN.items()}

log = logging.getLogger(__name__)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the extension."""
    app.connect("source-read", _complete)
    return {"parallel_read_safe": True}


def _complete(app: Sphinx, page: str, source: list[str]) -> None:
    """Put the file's text into a page, and make all links those of the site."""
    if page in SHOWN:
        file = TOP / SHOWN[page]
        app.env.note_dependency(file)
        source[0] = f"{map_links(file.read_text(), _from_top)}\n{source[0]}"
    elif app.env.doc2path(page).suffix == ".md":
        source[0] = map_links(source[0], lambda path: _from_top(f"docs/{path}"))


def _from_top(path: str) -> str:
    """Return a link for pages in docs/ to a file that is named from the top of the repository."""
    path = posixpath.normpath(path)
    path = _PAGE_OF.get(path, path)
    if path.startswith("docs/"):
        return posixpath.relpath(path, "docs")
    if not (TOP / path).exists():
        log.warning("a link leads to %s, which is not there", path)
    address = repository((TOP / "pyproject.toml").read_text())
    return file_address(address, revision(hussh.__version__), path)
