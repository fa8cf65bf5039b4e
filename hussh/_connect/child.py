"""Runs a child process in a session of its own, and makes sure that all of it ends.

Only `proxy_command` uses it. It never waits longer than it is told, and never signals a number that
may belong to another process: a leader that is not reaped yet keeps its pid, and that is the number
of its session.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import signal
import subprocess
import time
import weakref
from collections.abc import Sequence

from .._runtime.polling import make_poll
from .._runtime.weak_set import list_members

__all__ = ["Child"]

GRACE = 0.8  # seconds between SIGTERM and SIGKILL
DEATH = 2.0  # seconds that the kernel gets to carry out a SIGKILL
NAP = 0.005  # seconds between two looks, where the kernel has no pidfds


class Child:
    """A running program with three pipes, and everything in its session.

    Attributes:
        stdin, stdout, stderr: our ends of the pipes, non-blocking.
        pidfd: readable once it has ended; -1 if the kernel has none.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        """Start the program.

        An interrupt in the middle of this would leave a process that nobody knows. Call it in a
        thread that gets no signals, through `workers`.

        Raises:
            OSError, ValueError, SubprocessError: it cannot be started.
        """
        self.pidfd = -1
        self._owner = os.getpid()
        # Pipes of our own: some CPythons (3.11.2) lose those of Popen when descriptors run out.
        ours: list[int] = []
        theirs: list[int] = []
        try:
            for write in (True, False, False):
                ends = os.pipe()
                ours.append(ends[write])
                theirs.append(ends[not write])
            # Our other descriptors do not reach it (close_fds), nor does the terminal's Ctrl-C.
            self._process = subprocess.Popen(  # noqa: S603  (no untrusted text: see route.py)
                argv,
                stdin=theirs[0],
                stdout=theirs[1],
                stderr=theirs[2],
                start_new_session=True,
            )
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self.stdin, self.stdout, self.stderr = self._pipes = ours
        _live.add(self)
        try:
            for fd in ours:
                os.set_blocking(fd, False)
            self.pidfd = _open_pidfd(self._process.pid)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        return self._process.pid

    def close_stderr(self) -> None:
        self._close_pipe(self.stderr)

    def _close_pipe(self, fd: int) -> None:
        if fd in self._pipes:
            self._pipes.remove(fd)
            os.close(fd)

    def peek_exit_code(self) -> int | None:
        """Return the status as `subprocess.Popen.returncode`, but leave a zombie one.

        It is None while the program runs, and if somebody else reaped it, so that nobody knows.
        """
        if self._process.returncode is not None:
            return self._process.returncode
        try:
            how = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None
        if how is None:
            return None
        return how.si_status if how.si_code == os.CLD_EXITED else -how.si_status

    def signal_group(self, number: int) -> None:
        """Send a signal to the processes of its own group, which is quick."""
        if self._is_ours():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def signal(self, number: int) -> list[int]:
        """Send a signal to every process of the session; return those besides its leader."""
        if not self._is_ours():
            return []
        self.signal_group(number)
        others = self._list_others()
        for pid in others:
            # A shell with job control gave it another group.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) != self.pid:
                    os.kill(pid, number)
        return others

    def wait(self, seconds: float) -> bool:
        """Wait for the end of the leader, which stays a zombie; return False if it still runs."""
        if self.pidfd >= 0:
            return _wait_readable([self.pidfd], seconds)
        end = time.monotonic() + seconds
        while self._is_ours() and self.peek_exit_code() is None:
            if time.monotonic() >= end:
                return False
            time.sleep(NAP)
        return True

    def close(self) -> None:
        """Close the pipes, end the session, reap it; a second call does nothing.

        It takes as long as the program needs to obey SIGTERM, `GRACE` at most. In a forked child
        only its copies of the pipes are closed.
        """
        try:
            for fd in list(self._pipes):
                self._close_pipe(fd)
            if self._is_ours():
                self.signal(signal.SIGTERM)
                self.wait(GRACE)
        finally:
            try:
                self.kill()
            finally:
                pidfd, self.pidfd = self.pidfd, -1
                if pidfd >= 0:
                    os.close(pidfd)
                _live.discard(self)

    def kill(self) -> None:
        """Send SIGKILL to the session; it is gone and reaped on return."""
        if self._process.returncode is not None:
            return
        if os.getpid() != self._owner:
            self._process.returncode = 0  # the parent has to wait for it
            return
        others = self.signal(signal.SIGKILL)
        _wait_gone(others, DEATH)
        self.wait(DEATH)
        for pid in others:
            # Orphans are our children if we are process 1 of a container, or a subreaper.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._process.poll()

    def _is_ours(self) -> bool:
        if os.getpid() != self._owner or self._process.returncode is not None:
            return False
        try:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # reaped by somebody who waits for any child
            return False
        return True

    def _list_others(self) -> list[int]:
        """Return the processes of the session besides its leader, zombies included."""
        found = []
        try:
            entries = os.listdir("/proc")
        except OSError:
            return []
        for entry in entries:
            if entry.isdigit():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    if os.getsid(int(entry)) == self.pid and int(entry) != self.pid:
                        found.append(int(entry))
        return found


def _open_pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return -1  # an old kernel, or a sandbox


def _wait_readable(fds: list[int], seconds: float) -> bool:
    """Return whether all of them became readable in time."""
    end = time.monotonic() + seconds
    for fd in fds:
        poll = make_poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(max(0.0, end - time.monotonic()) * 1000):
            return False
    return True


def _wait_gone(pids: list[int], seconds: float) -> None:
    """Wait until these processes, which have been killed, are zombies or less."""
    fds = []
    try:
        for pid in pids:
            with contextlib.suppress(AttributeError, OSError):
                fds.append(os.pidfd_open(pid))
        _wait_readable(fds, seconds)
    finally:
        for fd in fds:
            os.close(fd)


_live: weakref.WeakSet[Child] = weakref.WeakSet()


@atexit.register
def _end_at_exit() -> None:
    """End all of them at once, because nothing will close them any more."""
    children = [child for child in list_members(_live) if child._is_ours()]
    for child in children:
        child.signal(signal.SIGTERM)
    end = time.monotonic() + GRACE
    for child in children:
        child.wait(max(0.0, end - time.monotonic()))
    for child in children:
        child.kill()
