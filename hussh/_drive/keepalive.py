"""Keepalives for connections of the sync driver: one thread for all of them.

A keepalive is a global request that every server must answer, if only with
"failure" (RFC 4254 section 4).  Whatever arrives counts as life, so a busy
link is never asked for nothing; an idle one is read here, since nobody else
does.  Each hop is asked for itself: the error names the one that died.
"""

from __future__ import annotations

import errno
import os
import threading
import weakref
from time import monotonic
from typing import Protocol

from .._native.link import Link
from .._policy.wire import boolean, string

__all__ = ["MISSES", "Keepalive", "Tended", "ended", "tend"]

#: So many intervals without a sign of life end a connection.
MISSES = 3
REQUEST = bytes((80,)) + string(b"keepalive@openssh.com") + boolean(True)


class Tended(Protocol):
    """What the thread looks after: a session."""

    closed: bool

    def probe(self, keepalive: Keepalive) -> bool:
        """Look for signs of life and ask for the next; False: there is nothing to tend."""


class Keepalive:
    """The state of one link: what has come, and what was missed."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self._received = -1
        self._missed = 0

    def probe(self, link: Link) -> bool:
        """One beat, after everything that has arrived was taken in; False: the link is dead."""
        state = link.look()
        if state.death:
            return False
        self._missed = 0 if state.received != self._received else self._missed + 1
        self._received = state.received
        if self._missed >= MISSES:
            seconds = f"{self.interval * MISSES:g} s"
            link.lose(errno.ETIMEDOUT, f"no answer to {MISSES} keepalives in {seconds}")
            return False
        link.send(REQUEST)
        return True


class _Thread:
    """Beats for all sessions; started with the first, ends when there are none."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._due: dict[int, tuple[float, weakref.ref[Tended], Keepalive]] = {}
        self._thread: threading.Thread | None = None

    def add(self, session: Tended, interval: float) -> None:
        with self._news:
            keepalive = Keepalive(interval)
            self._due[id(keepalive)] = (monotonic() + interval, weakref.ref(session), keepalive)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="hussh-keepalive", daemon=True
                )
                self._thread.start()
            self._news.notify()

    def remove_ended(self) -> None:
        """A session has closed: do not keep a thread for it."""
        with self._news:
            self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                for key, (_, reference, _) in list(self._due.items()):
                    session = reference()
                    if session is None or session.closed:
                        del self._due[key]
                    del session
                if not self._due:
                    self._thread = None
                    return
                key, (when, reference, keepalive) = min(
                    self._due.items(), key=lambda item: item[1][0]
                )
                left = when - monotonic()
                if left > 0:
                    self._news.wait(left)
                    continue
                self._due[key] = (monotonic() + keepalive.interval, reference, keepalive)
            session = reference()
            if session is not None and not session.probe(keepalive):
                with self._news:
                    self._due.pop(key, None)
            del session


_thread = _Thread()


def tend(session: Tended, interval: float) -> None:
    """Send keepalives for the session every `interval` seconds until it is closed."""
    _thread.add(session, interval)


def ended() -> None:
    """A session with keepalives was closed: let the thread see whether it is still needed."""
    _thread.remove_ended()


def _after_fork() -> None:
    global _thread
    _thread = _Thread()  # the parent's thread is not here, and its sessions are not ours


os.register_at_fork(after_in_child=_after_fork)
