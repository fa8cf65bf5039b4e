"""The site's settings for Sphinx; `scripts/check` builds it, `scripts/site` also looks at it.

The pages of this folder stay what readers of the repository see: Markdown with links to files.
`_ext/pages.py` adds README, CONTRIBUTING and CHANGELOG to them, and `_ext/reference.py` makes the
reference of docstrings. Nothing is fetched, neither by the build nor by a reader's browser.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

from hussh import __version__  # noqa: E402

# A document is a tree of very many objects, none of them garbage: a fifth of the time is saved.
gc.set_threshold(100_000, 50, 50)

project = "hussh"
author = "the authors of hussh"
version = release = __version__
language = "en"

extensions = ["myst_parser", "sphinx.ext.autodoc", "pages", "reference"]
exclude_patterns = ["_*"]
nitpicky = False

# Docstrings say "" when they mean an empty text.
smartquotes = False

# Anchors of headings as the repository's viewer makes them.
myst_heading_anchors = 4

default_role = "py:obj"
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 76
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options: dict[str, Any] = {
    "members": True,
    # What our classes have of Python's own is no news.
    "inherited-members": "object,str,tuple,dict,HusshError,RawIOBase,AsyncFileSystem",
}

html_theme = "furo"
html_title = "hussh"
html_baseurl = ""
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_search_scorer = str(HERE / "_static/scorer.js")
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_use_index = True
html_domain_indices = False
html_permalinks_icon = "#"
html_theme_options: dict[str, Any] = {"navigation_with_keys": False}
