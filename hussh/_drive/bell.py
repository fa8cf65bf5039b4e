"""The bell: how one thread ends another's `poll`.

A thread that leads a tree sleeps in `poll`, where no lock reaches it.  Only
`sync` uses it; it never waits and never raises for a full or empty counter.
"""

from __future__ import annotations

import contextlib
import os

__all__ = ["Bell"]


class Bell:
    """Readable from `ring` until `silence`; ringing twice is ringing once."""

    __slots__ = ("fd", "_write_fd")

    def __init__(self) -> None:
        self.fd = self._write_fd = -1
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            return
        self.fd, self._write_fd = os.pipe()
        for fd in (self.fd, self._write_fd):
            os.set_blocking(fd, False)

    def ring(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(self._write_fd, b"\1\0\0\0\0\0\0\0")  # what an eventfd takes

    def silence(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                os.read(self.fd, 4096)

    def close(self) -> None:
        fds, self.fd = {self.fd, self._write_fd}, -1
        self._write_fd = -1
        for fd in fds - {-1}:
            os.close(fd)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an interrupt may come before any of this
            self.close()
