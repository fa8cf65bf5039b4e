"""What scripts/site finds: a site with one fault of each kind, looked at in headless Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
PROGRAM = TOP / "scripts/browse_site.py"
PAGE = """<!doctype html><meta charset=utf-8><meta name=viewport content="width=device-width">
<title>A page</title><style>body {{ background: #fff; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee; }}
  a {{ color: #8af; }} }}
</style><link rel=icon href="data:,">
<article id=furo-main-content><h1 id=top>A page</h1>{}</article>"""
#: What a page has -> what is said about it.
FAULTS = {
    "<a href=nowhere.html>a</a>": "which is not there",
    "<a href=right.html#nowhere>a</a>": "has no such anchor",
    "<a href=http://example.com>a</a>": "has a link to http://example.com",
    "<img src=nowhere.png alt=a>": "does not show",
    '<img src=\'data:image/svg+xml,<svg xmlns="http://www.w3.org/2000/svg" width="9"/>\'>': (
        "has a picture without a text"
    ),
    "<script>console.error('a fault')</script>": "says a fault",
    "<script>null.fault</script>": "says TypeError",
    "<img src=https://cdn.example/a.png alt=a>": "asks for https://cdn.example/a.png",
    "<p style='width: 2000px'>a</p>": "is wider than the window",
    "<p style='color: #ccc; background: #fff'>a</p>": "has text that is hardly seen",
    "<h1>Another</h1>": "not one heading",
    "<style>body { background: #fff !important }</style>": "has the background of the other",
}

pytestmark = pytest.mark.skipif(
    "HUSSH_LONG" not in os.environ, reason="starts a browser; HUSSH_LONG=1 runs it"
)


@pytest.mark.skipif(
    shutil.which("chromium-headless-shell") is None, reason="needs chromium-headless-shell"
)
def test_every_fault_is_found(tmp_path: Path) -> None:
    """Each fault of a page is said of that page, and nothing of a page that is right."""
    link = "<a href=right.html#top>a</a>"
    wide = "<div style='overflow-x: auto'><p style='width: 2000px'>a</p></div>"
    (tmp_path / "right.html").write_text(PAGE.format(link + wide))
    for number, fault in enumerate(FAULTS):
        (tmp_path / f"{number}.html").write_text(PAGE.format(fault))
    names = [path.name for path in tmp_path.iterdir()]
    command = [sys.executable, str(PROGRAM), "--site", str(tmp_path), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    for number, text in enumerate(FAULTS.values()):
        assert any(line.startswith(f"{number}.html ") and text in line for line in lines), text
    assert not [line for line in lines if line.startswith("right.html")]
