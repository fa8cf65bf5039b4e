"""The address of the repository, and links to its files that also work outside of it.

The setting is `Source` under `[project.urls]` of pyproject.toml; `scripts/repository-address`
changes it. The build of a package uses this for the README that a package index shows, and the site
for links to files that are no pages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

__all__ = ["PLACEHOLDER", "absolute_links", "file_address", "map_links", "repository", "revision"]

#: The address while nobody has given one; RFC 2606 keeps this domain from leading anywhere.
PLACEHOLDER = "https://hussh.example/hussh"
#: The target of a link or picture of Markdown that is a relative path.
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)#\s]+)(?=[)#])")


def repository(pyproject: str) -> str:
    """Return the address that the text of pyproject.toml gives, without a slash at its end."""
    found = re.search(r'^Source = "(https://[^"]+?)/?"$', pyproject, re.MULTILINE)
    if found is None:
        raise ValueError("pyproject.toml has no line 'Source = \"https://…\"'")
    return found[1]


def revision(version: str) -> str:
    """Return the tag of a release, or the branch from which a development version was made."""
    return "main" if ".dev" in version else f"v{version}"


def file_address(address: str, at: str, path: str) -> str:
    """Return where the repository shows a file at a revision; of a picture, its bytes."""
    kind = "raw" if Path(path).suffix in (".svg", ".png") else "blob"
    return f"{address}/{kind}/{at}/{path}"


def map_links(text: str, change: Callable[[str], str]) -> str:
    """Return Markdown with the path of each relative link changed; anchors stay."""
    return _LINK.sub(lambda found: change(found[1]), text)


def absolute_links(text: str, address: str, at: str) -> str:
    """Return the text of a file at the top of the repository with absolute links only."""
    return map_links(text, lambda path: file_address(address, at, path))
