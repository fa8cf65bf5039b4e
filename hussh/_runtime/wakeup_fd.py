"""A file descriptor that becomes readable: with it one thread ends another's `poll`.

A thread that leads a tree sleeps in `poll`, which a lock cannot end. Only `thread_driver` uses it.
It never waits and never raises for a full or empty counter.
"""

from __future__ import annotations

import contextlib
import os
from itertools import chain, starmap

from .._policy.owned_fd import close_fds

__all__ = ["WakeupFd"]


class WakeupFd:
    """An fd that is readable from `wake` until `clear`; a second `wake` changes nothing."""

    __slots__ = ("fd", "_write_fd", "_owned")

    def __init__(self) -> None:
        self.fd = self._write_fd = -1
        # Filled in one step of C: no interrupt comes between opening and owning.
        self._owned: list[int] = []
        if hasattr(os, "eventfd"):
            self._owned.extend(map(os.eventfd, (0,), (os.EFD_CLOEXEC | os.EFD_NONBLOCK,)))
        else:
            self._owned.extend(chain.from_iterable(starmap(os.pipe, [()])))
            for fd in self._owned:
                os.set_blocking(fd, False)
        self.fd, self._write_fd = self._owned[0], self._owned[-1]

    def wake(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                if len(self._owned) == 1:
                    os.eventfd_write(self.fd, 1)  # which eventlet does not patch to wait
                else:
                    os.write(self._write_fd, b"x")

    def clear(self) -> None:
        if self.fd >= 0:
            with contextlib.suppress(BlockingIOError):
                if len(self._owned) == 1:
                    os.eventfd_read(self.fd)
                else:
                    os.read(self.fd, 4096)

    def close(self) -> None:
        self.fd = self._write_fd = -1
        close_fds(self._owned)

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # an interrupt may come before any of this
            self.close()
