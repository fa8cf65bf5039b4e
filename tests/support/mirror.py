"""A mirror of the Debian archive on loopback, of which a test decides what it has.

For tests of vendor/fetch.py. Serves files from memory and notes what it was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Mirror", "mirror"]


@dataclass
class Mirror:
    """A running mirror.

    Attributes:
        url: its address, as it stands in a sources.list.
        files: what it has, each path below the address with the bytes.
        asked: the paths that it was asked for, in order.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@contextmanager
def mirror() -> Iterator[Mirror]:
    """Run a mirror, empty at first, as long as the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.removeprefix("/debian/")
            running.asked.append(path)
            content = running.files.get(path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running = Mirror(f"http://127.0.0.1:{server.server_port}/debian")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()
