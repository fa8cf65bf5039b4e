"""Finding what a test left behind: processes, descriptors, threads, files outside its folder.

For ``tests/conftest.py`` (a hook around every test) and fixtures of a wider scope than one test,
which start what shall outlive the test inside ``spared()``. Never ends a leftover before it is
reported; ends leftover processes afterwards, so that one failure does not become a hundred.

Processes: our direct children in any state, zombies too, and living orphans, found by a variable
that each test puts into the environment. Orphans get a moment to finish dying, because nobody can
wait for a grandchild; a child that is still there is a leak at once.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from .outside import names_in
from .processes import children_of, kill_all, read_process, wait_gone

MARK = "HUSSH_TEST_MARK"
GRACE = 2.0  # seconds for orphans and threads that are already ending
# Opened once by a library and kept for the life of the process, by design.
_BENIGN_FILES = ("/dev/urandom", "/dev/random")
# Trio keeps idle workers for some seconds and ends them by itself.
_BENIGN_THREADS = ("Trio thread", "pydevd.", "asyncio-waitpid")


@dataclass
class Snapshot:
    """What existed at one moment: keys identify, values describe."""

    children: dict[int, str] = field(default_factory=dict)
    files: dict[tuple[int, str], str] = field(default_factory=dict)
    threads: dict[int, str] = field(default_factory=dict)

    def minus(self, other: Snapshot) -> Snapshot:
        """Return what is here but not in ``other``."""
        return Snapshot(
            {k: v for k, v in self.children.items() if k not in other.children},
            {k: v for k, v in self.files.items() if k not in other.files},
            {k: v for k, v in self.threads.items() if k not in other.threads},
        )

    def add(self, other: Snapshot) -> None:
        """Count what is in ``other`` as being here, too."""
        self.children |= other.children
        self.files |= other.files
        self.threads |= other.threads

    def lines(self) -> list[str]:
        """Return one line per item."""
        return [
            *(f"child process: {text}" for text in self.children.values()),
            *(f"descriptor {number}: {text}" for (number, _), text in self.files.items()),
            *(f"thread: {text}" for text in self.threads.values()),
        ]


_spared = Snapshot()


@contextlib.contextmanager
def spared() -> Iterator[None]:
    """Let what the block starts or opens outlive the running test."""
    before = take()
    yield
    _spared.add(take().minus(before))


class Server(Protocol):
    """What `shared` starts and stops."""

    def start(self) -> object: ...

    def stop(self) -> object: ...


@contextlib.contextmanager
def shared(*servers: Server) -> Iterator[None]:
    """Run servers for longer than one test."""
    try:
        with spared():
            for server in servers:
                server.start()
        yield
    finally:
        for server in servers:
            server.stop()


def take() -> Snapshot:
    """Return what this process holds now."""
    files: dict[tuple[int, str], str] = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is gone by now.
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{name}")
            if target not in _BENIGN_FILES:
                files[int(name), target] = target
    threads = {
        thread.ident: thread.name
        for thread in threading.enumerate()
        if thread.ident is not None and not _is_benign(thread)
    }
    return Snapshot(_children(), files, threads)


class Watch:
    """One test's account: made before its fixtures, settled after they are gone."""

    def __init__(self, name: str, folders: Sequence[Path] = ()) -> None:
        """Note what exists, and mark what will be started from now on.

        In ``folders`` the test may make nothing.
        """
        self._folders = folders
        self._names = names_in(folders)
        self._mark = f"{os.getpid()}-{time.monotonic_ns()}-{name}"
        self._outer = os.environ.get(MARK)
        os.environ[MARK] = self._mark
        # What runs already cannot come to bear the mark.
        self._others = set(os.listdir("/proc"))
        self._before = take()

    def settle(self) -> list[str]:
        """Return one line per leftover, then end leftover processes."""
        if self._outer is None:
            os.environ.pop(MARK, None)
        else:
            os.environ[MARK] = self._outer
        left = self._left()
        if left.files or left.threads or left.children:
            # Objects in reference cycles do not count as held.
            gc.collect()
            self._let_threads_end(left)
            left = self._left()
        for key in left.files:
            left.files[key] = _describe(*key)
        orphans = self._orphans()
        lines = [*left.lines(), *(f"orphan process: {text}" for text in orphans.values())]
        kill_all([*left.children, *orphans])
        for pid in left.children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        for path in sorted(names_in(self._folders) - self._names):
            lines.append(f"file outside the test's own folder: {path}")
        return lines

    def _left(self) -> Snapshot:
        return take().minus(self._before).minus(_spared)

    def _let_threads_end(self, left: Snapshot) -> None:
        deadline = time.monotonic() + GRACE
        for thread in threading.enumerate():
            if thread.ident in left.threads and thread is not threading.current_thread():
                # Trio names a worker after its job, and "Trio thread" again when it is idle.
                while thread.is_alive() and not _is_benign(thread):
                    left_over = deadline - time.monotonic()
                    if left_over <= 0:
                        break
                    thread.join(min(left_over, 0.02))

    def _orphans(self) -> dict[int, str]:
        wanted = f"{MARK}={self._mark}".encode()
        known = {*_children(), os.getpid()}
        found = {}
        for name in set(os.listdir("/proc")) - self._others:
            if not name.isdigit() or int(name) in known:
                continue
            with contextlib.suppress(OSError):  # gone, or not ours to read
                # A zombie shows nothing here; whoever adopted it reaps it.
                environment = Path(f"/proc/{name}/environ").read_bytes()
                process = read_process(int(name)) if wanted in environment else None
                if process is not None:
                    found[process.pid] = str(process)
        alive = set(wait_gone(found, GRACE)) if found else set()
        return {pid: text for pid, text in found.items() if pid in alive}


def _is_benign(thread: threading.Thread) -> bool:
    """Whether it does nothing, and ends by itself; so do hussh's own workers, `is_idle` then."""
    return thread.name.startswith(_BENIGN_THREADS) or bool(getattr(thread, "is_idle", False))


def _children() -> dict[int, str]:
    return {process.pid: str(process) for process in children_of(os.getpid())}


def _describe(descriptor: int, target: str) -> str:
    if not target.startswith("socket:"):
        return target
    try:
        with socket.socket(fileno=os.dup(descriptor)) as held:
            local: object = held.getsockname()
            if held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return f"listening socket {local}"
            return f"socket {local} -> {_peer(held)}"
    except OSError:
        return target


def _peer(held: socket.socket) -> object:
    try:
        return held.getpeername()
    except OSError:
        return "nobody"
