"""A headless Chromium that is told what to do over two pipes (Chrome DevTools Protocol).

`browse_site.py` uses it. A `Browser` has one `Tab` at a time. Nothing listens, and the profile is a
temporary folder.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

__all__ = ["Browser", "BrowserError", "Tab", "find_browser"]

#: Programs that are Chromium, the smallest first.
_PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
#: Seconds for whatever is asked of the browser.
_LIMIT = 30.0
#: Returns where to click on the first visible element of a selector.
_MIDDLE = """async selector => {
  const found = [...document.querySelectorAll(selector)].find(e => e.checkVisibility());
  if (!found) return null;
  found.scrollIntoView({block: "center", behavior: "instant"});
  await new Promise(requestAnimationFrame);
  await Promise.allSettled(document.getAnimations().map(each => each.finished));
  const box = found.getClientRects()[0];
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""


class BrowserError(Exception):
    """The browser does not answer, has ended, or refuses a command."""


def find_browser() -> str | None:
    """Return the path of the Chromium that HUSSH_CHROMIUM names, or that is installed."""
    named = os.environ.get("HUSSH_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, _PROGRAMS)), None)


class Browser:
    """A running Chromium; leaving its ``with`` block ends it and all its processes."""

    def __init__(self, program: str) -> None:
        self._profile = tempfile.TemporaryDirectory(
            prefix="hussh-browser-", ignore_cleanup_errors=True
        )
        folder = Path(self._profile.name)
        self._log = folder / "log"
        options = [
            "--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            "--disable-dev-shm-usage", "--hide-scrollbars", "--mute-audio",
            f"--user-data-dir={folder / 'profile'}",
            # Names lead nowhere: a page that asks for anything outside of this machine is seen.
            "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        ]  # fmt: skip
        if os.getuid() == 0:  # its sandbox wants another user; it sees nothing but our pages
            options.append("--no-sandbox")
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT, 0o600)
        # Copies, so that none is 3 or 4 before it becomes that.
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (commands, answers)]
        self._pid = os.posix_spawn(
            program,
            [program, *options, "about:blank"],
            {**os.environ, "HOME": str(folder)},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, ends[0], 3),
                (os.POSIX_SPAWN_DUP2, ends[1], 4),
            ],
            setpgroup=0,
        )
        for fd in (commands, answers, log, *ends):
            os.close(fd)
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self._write, self._read):
            os.close(fd)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._profile.cleanup()

    def send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        try:
            while data:
                data = data[os.write(self._write, data) :]
        except OSError:
            raise BrowserError(f"the browser has ended: {self._last_words()}") from None
        for answer in self._messages(method):
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)
        raise AssertionError("unreachable")

    def wait_for(self, event: str) -> None:
        """Wait until an event has come after the last call of `take_events`."""
        if any(each["method"] == event for each in self.events):
            return
        for message in self._messages(event):
            self.events.append(message)
            if message.get("method") == event:
                return

    def take_events(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        events, self.events = self.events, []
        return events

    def _messages(self, awaited: str) -> Iterator[dict[str, Any]]:
        """Yield what the browser says, until the time is over."""
        deadline = monotonic() + _LIMIT
        while True:
            while b"\0" not in self._buffer:
                if not select.select([self._read], [], [], max(0, deadline - monotonic()))[0]:
                    raise BrowserError(f"{awaited}: no answer within {_LIMIT:.0f} s")
                data = os.read(self._read, 1 << 20)
                if not data:
                    raise BrowserError(f"the browser has ended: {self._last_words()}")
                self._buffer += data
            message, _, self._buffer = self._buffer.partition(b"\0")
            yield json.loads(message)

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-1000:]


class Tab:
    """A page of a browser, of a given size."""

    def __init__(self, browser: Browser, width: int, height: int, *, is_phone: bool) -> None:
        self._browser = browser
        target = browser.send("Target.createTarget", url="about:blank")["targetId"]
        self._target = target
        self._session = browser.send(
            "Target.attachToTarget", targetId=target, flatten=True
        )["sessionId"]  # fmt: skip
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=is_phone)  # fmt: skip
        self.send("Emulation.setTouchEmulationEnabled", enabled=is_phone)

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol for this page."""
        return self._browser.send(method, self._session, **parameters)

    def close(self) -> None:
        """Close the page."""
        self._browser.send("Target.closeTarget", targetId=self._target)

    def open(self, address: str) -> None:
        """Go to an address, and wait until all of the page is there."""
        self._browser.take_events()
        failure = self.send("Page.navigate", url=address).get("errorText")
        if failure:
            raise BrowserError(f"{address}: {failure}")
        self._browser.wait_for("Page.loadEventFired")

    def wait_for_load(self) -> None:
        """Wait until the page to which something led has been loaded."""
        self._browser.wait_for("Page.loadEventFired")

    def forget_events(self) -> None:
        """Drop what was said, so that `wait_for_load` waits for what comes."""
        self._browser.take_events()

    def run(self, script: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is awaited."""
        try:
            answer = self.send("Runtime.evaluate", expression=script, returnByValue=True,
                               awaitPromise=True)  # fmt: skip
        except BrowserError as error:
            raise BrowserError(f"{script}: {error}") from None
        if "exceptionDetails" in answer:
            details = answer["exceptionDetails"]
            text = details.get("exception", {}).get("description", details["text"])
            raise BrowserError(f"{script[:60]}…: {text}")
        return answer["result"].get("value")

    def type_text(self, text: str) -> None:
        """Type text and Enter into what has the focus."""
        self.send("Input.insertText", text=text)
        key = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        self.send("Input.dispatchKeyEvent", type="keyDown", **key)
        self.send("Input.dispatchKeyEvent", type="keyUp", **key)

    def click(self, selector: str) -> None:
        """Press and release the mouse in the middle of an element, where it comes to rest."""
        place = self.run(f"({_MIDDLE})({json.dumps(selector)})")
        if place is None:
            raise BrowserError(f"nothing that can be seen is {selector}")
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1],
                      button="left", clickCount=1)  # fmt: skip

    def complaints(self) -> list[str]:
        """Return what the console and the network said since the page was opened."""
        found = []
        for event in self._browser.take_events():
            what, about = event.get("method"), event.get("params", {})
            if what == "Runtime.exceptionThrown":
                details = about["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif what == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning"):
                found.append(" ".join(str(each.get("value")) for each in about["args"]))
            elif what == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
                found.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
            elif what == "Network.loadingFailed":
                found.append(f"not loaded: {about['errorText']}")
            elif what == "Network.responseReceived" and about["response"]["status"] >= 400:
                found.append(f"{about['response']['status']}: {about['response']['url']}")
        return found

    def picture(self, path: Path) -> None:
        """Write what the window shows as a PNG file."""
        data = self.send("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
