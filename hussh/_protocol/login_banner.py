"""Login banners (RFC 4252 section 5.4): the text that a server shows before the login.

`Login` in `auth_methods.py` hands each banner in. It is made fit to print, and given to the logger
``hussh.auth`` at level INFO and to the user's ``on_banner=``. The last one is remembered for
errors, and nothing else is kept. A server that never stops sending banners is an error. While a
callback runs, the next banners wait in C, which drops what is beyond 1.5 MiB.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import suppress
from functools import partial

from .._native.link import Link
from .._policy.prompts import BannerCallback
from .._policy.wire import Reader
from ..errors import HusshError, ProtocolError
from .core import Op, RunBlocking

__all__ = ["BANNER", "LoginBanners", "make_fit_to_print"]

BANNER = 53
#: Banners of one login; servers send one or two.
BANNERS_MAX = 1000
#: Characters of a banner in errors and in the log, as one line.
BANNER_TEXT_MAX = 1000

_log = logging.getLogger("hussh.auth")


class _FitToPrint(dict[int, str]):
    """A table for `str.translate` that remembers what it found out of the commoner characters."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        shown = char if char.isprintable() else " "
        if code < 0x3000:
            self[code] = shown
        return shown


_FIT_TO_PRINT = _FitToPrint({ord("\n"): "\n", ord("\t"): "\t"})


def make_fit_to_print(text: str) -> str:
    """Return the text with its lines and tabs, without what moves a cursor or turns the writing."""
    return text.replace("\r\n", "\n").translate(_FIT_TO_PRINT)


class LoginBanners:
    """The banners of one login at one hop.

    Attributes:
        last: the last banner as one line, cut to `BANNER_TEXT_MAX` characters; "" if none came.
    """

    def __init__(self, hop: str, callback: BannerCallback | None) -> None:
        self._hop = hop
        self._callback = callback
        self._count = 0
        self.last = ""

    def hear(self, message: bytes) -> Op[None]:
        """Take one SSH_MSG_USERAUTH_BANNER; raise what ``on_banner=`` raises.

        Raises:
            ProtocolError: it is malformed, or one too many.
        """
        text, line = self._note(message)
        if self._callback is not None or _log.isEnabledFor(logging.INFO):
            given = yield RunBlocking(partial(self._tell, text, line), detachable=True)
            # The driver of an event loop has awaited the result of a coroutine function.
            if inspect.isawaitable(given):
                if inspect.iscoroutine(given):
                    given.close()
                raise TypeError("on_banner= returned an awaitable, which nothing awaits here")

    def note_waiting(self, link: Link) -> None:
        """Look at banners that came and were not taken, for an error, when the login is over."""
        with suppress(HusshError):  # a bad banner is no reason for another error
            while (message := link.take_message()) is not None:
                if message[0] == BANNER:
                    self._note(message)

    def describe(self) -> str:
        """Return what an error says about the banners; "" if there was none."""
        return f"the server's banner: {self.last}" if self.last else ""

    def _note(self, message: bytes) -> tuple[str, str]:
        self._count += 1
        if self._count > BANNERS_MAX:
            raise ProtocolError(f"the server sent more than {BANNERS_MAX} login banners")
        text = Reader(message, 1).text()
        line = " ".join(make_fit_to_print(text[: 4 * BANNER_TEXT_MAX]).split())[:BANNER_TEXT_MAX]
        self.last = line or self.last  # an empty banner replaces none
        return text, line

    def _tell(self, text: str, line: str, _seconds_left: float | None) -> object:
        if line:
            _log.info("[%s] banner: %s", self._hop, line)
        return (
            None if self._callback is None else self._callback(self._hop, make_fit_to_print(text))
        )
