"""Look at the built site in headless Chromium, as readers do; scripts/site runs it.

Usage: browse_site.py [--pictures FOLDER] [--site FOLDER] [PAGE ...]

Every page is opened as a file, on a desktop and on a phone, in light and in dark. Then the site is
searched and navigated, as files and from a server on loopback. A fault is any of: a link to a page
or an anchor that is not there, a message of the console, a request that fails or leaves the site, a
picture that is not shown, a page that is wider than the window, text that is hardly seen, a search
that does not find what it has to. With --pictures the window of each page is written as PNG files.
"""

from __future__ import annotations

import argparse
import functools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

from browser import Browser, BrowserError, Tab, find_browser
from build_site import SITE

#: Name -> width and height of the window, and whether it is a phone's.
WINDOWS = {"desktop": (1280, 800, False), "phone": (390, 844, True)}
#: What is searched for, and a page that must be among the results; None: there must be none.
SEARCHES = {
    "proxy_jump": "bastions.html",
    "HostKeyError": "reference/errors.html",
    "Connection.forward_local": "reference/connection.html",
    "AsyncMultiConnection": "reference/multi_conn.html",
    "known_hosts": "authentication.html",
    "qwertzuiop": None,
}

#: What a page tells of itself. Boxes that scroll may hold what is wider than the window.
FACTS = """(() => {
  const width = document.documentElement.clientWidth;
  const scrolls = e => e && e.id !== "furo-main-content" &&
    (/(auto|scroll)/.test(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
  const seen = e => e.checkVisibility() && e.getBoundingClientRect().width > 0;
  const wide = [...document.querySelectorAll("article *")].filter(e => seen(e) &&
    e.getBoundingClientRect().right > width + 1 && !scrolls(e));
  const light = color => {
    const [r, g, b] = color.match(/[\\d.]+/g).slice(0, 3)
      .map(v => v / 255).map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const ground = e => {
    const color = getComputedStyle(e).backgroundColor;
    return /, 0\\)$/.test(color) && e.parentElement ? ground(e.parentElement) : color;
  };
  const contrast = e => {
    const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((x, y) => y - x);
    return (a + .05) / (b + .05);
  };
  const faint = [...document.querySelectorAll(
    "article p, article li, article a, article td, article th, article code, article pre span"
  )].filter(e => e.textContent.trim() && seen(e) && contrast(e) < 3);
  const name = e => `<${e.tagName.toLowerCase()}> ${e.textContent.trim().slice(0, 50)}`;
  return {
    title: document.title,
    headings: [...document.querySelectorAll("h1")].map(e => e.textContent),
    isWide: document.documentElement.scrollWidth > width,
    wide: wide.slice(0, 3).map(name),
    faint: [...new Set(faint.map(e => `${name(e)} (${contrast(e).toFixed(1)})`))].slice(0, 3),
    missing: [...document.images].filter(e => !(e.complete && e.naturalWidth)).map(e => e.src),
    nameless: [...document.images].filter(e => !e.alt).map(e => e.src),
    links: [...document.links].map(e => e.href),
    requests: performance.getEntriesByType("resource").map(e => e.name),
    ids: [...document.querySelectorAll("[id]")].map(e => e.id),
    dark: light(getComputedStyle(document.body).backgroundColor) < .2,
  };
})()"""

#: Waits for the results of a search: their addresses, and whether extracts came.
RESULTS = """new Promise(resolve => {
  const look = () => {
    const done = document.querySelector("#search-results p.search-summary")?.textContent;
    const links = [...document.querySelectorAll("#search-results ul.search > li > a")];
    const wanted = !DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY || !links.length ||
      document.querySelector("#search-results p.context");
    if (done && !/Searching/.test(document.querySelector("#search-results h2").textContent) &&
        wanted)
      resolve({links: links.map(e => e.href),
               extracts: document.querySelectorAll("#search-results p.context").length});
    else setTimeout(look, 20);
  };
  look();
})"""


class Looker:
    """Goes through the site and keeps the faults that it finds."""

    def __init__(
        self, browser: Browser, site: Path, pictures: Path | None, faults: list[str]
    ) -> None:
        self._browser = browser
        self._site = site
        self._pictures = pictures
        self.faults = faults
        #: Page -> its anchors, and the links of all pages to the pages that have them.
        self._ids: dict[str, set[str]] = {}
        self._links: dict[str, str] = {}

    def look_at_pages(self, pages: list[str]) -> None:
        """Open each page in each window; all in dark, too."""
        for window, (width, height, is_phone) in WINDOWS.items():
            tab = Tab(self._browser, width, height, is_phone=is_phone)
            for page in pages:
                tab.open((self._site / page).as_uri())
                for scheme in ("light", "dark"):
                    media = {"name": "prefers-color-scheme", "value": scheme}
                    tab.send("Emulation.setEmulatedMedia", features=[media])
                    self._look_at_page(tab, page, f"{window}, {scheme}")
            tab.close()

    def _look_at_page(self, tab: Tab, page: str, window: str) -> None:
        facts: dict[str, Any] = tab.run(FACTS)
        faults = [f"says {text}" for text in tab.complaints()]
        if facts["isWide"] or facts["wide"]:
            faults.append(f"is wider than the window: {facts['wide']}")
        if page != "search.html" and (len(facts["headings"]) != 1 or not facts["title"]):
            faults.append(f"has no title, or not one heading: {facts['headings']}")
        if facts["dark"] != window.endswith("dark"):
            faults.append("has the background of the other scheme")
        faults += [f"does not show {name}" for name in facts["missing"]]
        faults += [f"has a picture without a text: {name}" for name in facts["nameless"]]
        faults += [f"has text that is hardly seen: {text}" for text in facts["faint"]]
        outside = [name for name in facts["requests"] if not name.startswith(self._site.as_uri())]
        faults += [f"asks for {name}" for name in outside]
        self.faults += [f"{page} ({window}) {fault}" for fault in faults]
        self._ids[(self._site / page).as_uri()] = set(facts["ids"])
        for link in facts["links"]:
            self._links.setdefault(link, page)
        if self._pictures:
            name = f"{page.removesuffix('.html')}-{window}.png".replace("/", "-").replace(", ", "-")
            tab.picture(self._pictures / name)

    def check_links(self) -> int:
        """Look for what the links of all pages lead to; return how many lead into the site."""
        inside = 0
        for link, page in self._links.items():
            address, anchor = urldefrag(link)
            if not address.startswith("file:"):
                if not address.startswith("https:"):
                    self.faults.append(f"{page} has a link to {link}")
                continue
            inside += 1
            if not Path(unquote(address.removeprefix("file://"))).is_file():
                self.faults.append(f"{page} has a link to {link}, which is not there")
            elif anchor and unquote(anchor) not in self._ids.get(address, {unquote(anchor)}):
                self.faults.append(f"{page} has a link to {link}: that page has no such anchor")
        return inside

    def search(self, base: str) -> None:
        """Search from the first page, and follow the first result."""
        is_file = base.startswith("file:")
        tab = Tab(self._browser, *WINDOWS["desktop"][:2], is_phone=False)
        for text, wanted in SEARCHES.items():
            tab.open(f"{base}/index.html")
            tab.click(".sidebar-search")
            tab.forget_events()
            tab.type_text(text)
            tab.wait_for_load()
            results = tab.run(RESULTS)
            found = [urldefrag(link)[0].partition("?")[0] for link in results["links"]]
            where = f"search for {text!r} at {base.partition(':')[0]}"
            if wanted is None:
                if found:
                    self.faults.append(f"{where} finds {found}")
            elif f"{base}/{wanted}" not in found[:10]:
                self.faults.append(f"{where} does not find {wanted}, but {found[:10]}")
            elif bool(results["extracts"]) == is_file:
                self.faults.append(f"{where} shows {results['extracts']} extracts")
            self.faults += [f"{where} says {fault}" for fault in tab.complaints()]
            if found:
                tab.click("#search-results ul.search > li > a")
                tab.wait_for_load()
                there = tab.run("location.href").partition("?")[0].partition("#")[0]
                if there != found[0]:
                    self.faults.append(f"{where}: the first result leads to {there}")
                self.faults += [f"{where}: {found[0]} says {x}" for x in tab.complaints()]
        tab.close()

    def use_a_phone(self, base: str) -> None:
        """Open the navigation and the table of contents, follow a link of each, go dark."""
        width, height, _ = WINDOWS["phone"]
        tab = Tab(self._browser, width, height, is_phone=True)
        tab.open(f"{base}/index.html")
        hidden = "document.querySelector('.sidebar-tree a').getBoundingClientRect().right <= 0"
        if not tab.run(hidden):
            self.faults.append("phone: the navigation is open from the beginning")
        tab.click(".mobile-header label[for=__navigation]")
        tab.run(_until(f"!({hidden})"))
        tab.forget_events()
        tab.click(".sidebar-tree a[href='commands.html']")
        tab.wait_for_load()
        if tab.run("location.href") != f"{base}/commands.html":
            self.faults.append("phone: the navigation leads elsewhere")
        tab.click(".mobile-header label[for=__toc]")
        in_window = "(b => b.left >= 0 && b.right <= innerWidth)(%s.getBoundingClientRect())"
        link = "document.querySelector('.toc-tree li li a')"
        tab.run(_until(in_window % link))
        goal = tab.run(f"{link}.hash")
        tab.click(".toc-tree li li a")
        tab.run(_until(f"location.hash === {goal!r}"))
        tab.run("document.querySelector('label.overlay.toc-overlay').click()")
        tab.click(".mobile-header .theme-toggle")  # from automatic, which is light here
        if tab.run("document.body.dataset.theme") != "dark":
            self.faults.append("phone: the button for the colours does nothing")
        self.faults += [f"phone: {text}" for text in tab.complaints()]
        tab.close()


def _until(condition: str) -> str:
    """Return a script that waits until a condition of a page holds."""
    return (
        "new Promise(done => { const look = () => "
        f"({condition}) ? done() : requestAnimationFrame(look); look(); }})"
    )


@contextmanager
def served(site: Path) -> Iterator[str]:
    """Serve the site on loopback; yield its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    ) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main(arguments: list[str] | None = None) -> int:
    """Print what is wrong; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, help="write what is seen to this folder")
    parser.add_argument("--site", type=Path, default=SITE, help="where it was built")
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="only these, such as index.html")
    options = parser.parse_args(arguments)
    program = find_browser()
    if program is None:
        raise SystemExit("site: no Chromium was found; HUSSH_CHROMIUM can name one")
    if options.pictures:
        options.pictures.mkdir(parents=True, exist_ok=True)
    site = options.site.resolve()
    every = sorted(str(path.relative_to(site)) for path in site.rglob("*.html"))
    pages = options.pages or [page for page in every if not page.startswith("_")]
    faults: list[str] = []
    try:
        with Browser(program) as browser:
            looker = Looker(browser, site, options.pictures, faults)
            looker.look_at_pages(pages)
            links = looker.check_links()
            if not options.pages:
                with served(site) as address:
                    for base in (site.as_uri(), address):
                        looker.search(base)
                        looker.use_a_phone(base)
    except BrowserError as error:
        faults.append(str(error))
    print("\n".join(faults) or f"{len(pages)} pages and {links} links into them are right")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
