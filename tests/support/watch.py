"""Waiting for text in a growing file without polling it: inotify, plus the writer's pidfd.

For ``tests/support`` (daemon logs) and tests. Holds no descriptor between calls.
"""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

_IN_MODIFY = 0x2
_libc = ctypes.CDLL(None, use_errno=True)


class WriterEnded(Exception):
    """The process that writes the file ended before the text appeared."""


def wait_for_text(
    path: Path,
    accept: Callable[[str], object],
    *,
    timeout: float,
    writer: int | None = None,
) -> str:
    """Return the file's text as soon as ``accept(text)`` is true.

    Raises ``TimeoutError`` after ``timeout`` seconds and ``WriterEnded`` when the process
    ``writer`` has ended; both carry the end of the text.
    """
    deadline = time.monotonic() + timeout
    watch = _watch(path)
    process = None
    try:
        poller = select.poll()
        poller.register(watch, select.POLLIN)
        if writer is not None:
            process = os.pidfd_open(writer)
            poller.register(process, select.POLLIN)
        ended = False
        while True:
            text = path.read_text(errors="replace")
            if accept(text):
                return text
            left = deadline - time.monotonic()
            if ended:
                raise WriterEnded(f"{path.name} ends with:\n{text[-4000:]}")
            if left <= 0:
                raise TimeoutError(f"after {timeout} s {path.name} ends with:\n{text[-4000:]}")
            for descriptor, _ in poller.poll(left * 1000):
                if descriptor == watch:
                    os.read(watch, 65536)
                else:
                    # Read once more: the last words may have been written after our look.
                    ended = True
    finally:
        os.close(watch)
        if process is not None:
            os.close(process)


def _watch(path: Path) -> int:
    descriptor: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    if _libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        error = ctypes.get_errno()
        os.close(descriptor)
        raise OSError(error, "inotify_add_watch")
    return descriptor
