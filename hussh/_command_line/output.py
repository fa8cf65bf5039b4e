"""What `run` prints: lines of many hosts with the name of each before them, or JSON.

`run` feeds it from several threads. Bytes go to a file or a pipe as they came. A terminal gets
text, because a progress display shares the screen there. It runs no command and opens no
connection.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from typing import Any, Literal

from .._host_results import HostResult

__all__ = ["BrokenOutput", "HostLines", "forget_stdout", "format_json_line"]

#: What has come of a line, in bytes, before it is printed without its end.
LONGEST_LINE = 64 * 1024

Stream = Literal["stdout", "stderr"]


class BrokenOutput(Exception):
    """Nothing can be printed any more; the text says why, and is empty if nobody reads it."""


class HostLines:
    """Prints whole lines, one host's never within another's.

    Every call may come from any thread.

    Attributes:
        broken: what each further call raises, such as after the reader of a pipe has gone.
    """

    def __init__(self) -> None:
        self.broken: BrokenOutput | None = None
        self._lock = threading.Lock()
        self._begun: dict[tuple[str, str], bytes] = {}

    def add(self, host: str, stream: str, part: bytes) -> None:
        """Take what a host has written, and print the lines that are complete."""
        with self._lock:
            lines = (self._begun.pop((host, stream), b"") + part).split(b"\n")
            rest = lines.pop()
            if len(rest) > LONGEST_LINE:
                lines.append(rest)
                rest = b""
            if rest:
                self._begun[host, stream] = rest
            if lines:
                self._print(host, stream, lines)

    def end(self, host: str) -> None:
        """Print what a host has written after its last line."""
        with self._lock:
            for stream in ("stdout", "stderr"):
                rest = self._begun.pop((host, stream), b"")
                if rest:
                    self._print(host, stream, [rest])

    def end_all(self) -> None:
        """Print what all hosts have written after their last lines."""
        with self._lock:
            hosts = sorted({host for host, _ in self._begun})
        for host in hosts:
            self.end(host)

    def tell(self, host: str, text: str) -> None:
        """Print what hussh says about a host, to stderr."""
        with self._lock:
            self._print(host, "stderr", text.encode("utf-8", "replace").splitlines())

    def print_plain(self, line: str) -> None:
        """Print a line without the name of a host, to stdout."""
        with self._lock:
            self._write("stdout", line.encode() + b"\n")

    def _print(self, host: str, stream: str, lines: list[bytes]) -> None:
        name = host.encode("utf-8", "replace")
        self._write(stream, b"".join([b"%b: %b\n" % (name, line) for line in lines]))

    def _write(self, stream: str, data: bytes) -> None:
        # Looked up each time: a progress display puts itself before the real ones.
        file: Any = getattr(sys, stream)
        if self.broken is not None:
            raise self.broken
        if file is None:
            return
        try:
            if file.isatty():
                encoding = getattr(file, "encoding", None) or "utf-8"
                text = data.decode("utf-8", "replace")
                file.write(text.encode(encoding, "backslashreplace").decode(encoding))
            else:
                file.flush()
                file.buffer.write(data)
            file.flush()
        except OSError as error:
            reason = "" if isinstance(error, BrokenPipeError) else f"cannot print: {error}"
            self.broken = BrokenOutput(reason)
            raise self.broken from None


def forget_stdout() -> None:
    """Let what is still to be flushed at the exit go nowhere, without an error."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def format_json_line(result: HostResult) -> str:
    """Return a result as one line of JSON.

    Output that is not UTF-8 is there in base64, too, so that nothing of it is lost.
    """
    fields: dict[str, Any] = {
        "host": result.host,
        "status": result.status,
        "signal": result.signal,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "truncated": result.truncated,
        "error": None,
    }
    for stream, exact in (("stdout", result.stdout_bytes), ("stderr", result.stderr_bytes)):
        if fields[stream].encode("utf-8", "replace") != exact:
            fields[f"{stream}_base64"] = base64.b64encode(exact).decode()
    error = result.error
    if error is not None:
        fields["error"] = {
            "type": type(error).__name__,
            "text": str(error),
            "hop": result.hop,
            "phase": result.phase,
        }
    return json.dumps(fields)
