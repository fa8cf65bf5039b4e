"""Runs a ProxyCommand: a child process whose stdin and stdout carry a root link.

`connect.py` and `async_connect.py` start one. Its stderr never gets into the stream. The thread or
loop that waits for the link also empties that pipe. The last 4 KiB are kept for the error, and the
logger ``hussh.proxy`` gets each line at level DEBUG.

The stream ends with the process. If the process fails while something that it left behind still
holds the pipes, that is killed, so that the failure is noticed at once. A process that ends with
status 0 may leave the stream to its descendants.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from time import monotonic

from .._runtime.lock import unless_exiting
from .._runtime.polling import make_poll
from .._runtime.workers import Call, finish
from ..errors import ConnectionLost, HusshError, ProxyCommandError, ServerBusy
from .child import Child
from .log import logger

__all__ = ["ProxyStream", "start_proxy"]

TAIL = 4096
LINE = 1024  # bytes of a line for the log; longer ones are cut into several
PIPE_SIZE = 1 << 18  # bytes; the default of 64 KiB costs a wake-up for every packet or two
PART = 65536
PARTS_AT_ONCE = 16  # a program that writes faster than we read must not keep us
PATIENCE = 0.5  # seconds between the end of its stdout and its own, for an error that says more

_log = logger.getChild("proxy")


def start_proxy(argv: Sequence[str]) -> ProxyStream:
    """Start the command.

    Raises:
        ProxyCommandError: it cannot be started at all.
    """
    try:
        return ProxyStream(Child(argv))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ProxyCommandError(f"Failed to start proxy command: {error}") from error


class ProxyStream:
    """The stream of a running proxy command."""

    slow = True

    def __init__(self, child: Child) -> None:
        self._child = child
        self._fds = (child.stdout, child.stdin)
        self._stderr_open = True
        self._exit_noted = child.pidfd < 0  # without a pidfd its end is not watched
        self._closed = False
        self._adopted = False
        self._tail = b""
        self._line = b""
        self._patience = PATIENCE
        # For what several threads may do at once: read stderr, ask why it ended, close.
        self._lock = threading.RLock()
        for fd in self._fds:
            with contextlib.suppress(OSError):  # over the user's limit: slower, not wrong
                fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE_SIZE)

    def adopt(self) -> None:
        self._adopted = True

    def __del__(self) -> None:
        if not getattr(self, "_adopted", True):  # an interrupt came before there was a tree
            Call(self._child.close, is_slow=True).start()

    def fds(self) -> tuple[int, int]:
        return self._fds

    def side_fds(self) -> tuple[int, ...]:
        """Return what to poll besides: the pipe of its stderr, and the end of the process."""
        stderr = (self._child.stderr,) if self._stderr_open else ()
        return stderr if self._exit_noted else (*stderr, self._child.pidfd)

    def read_side(self) -> None:
        """Take what stderr has, and note the end of the process."""
        with unless_exiting(self._lock):
            lines = self._look_aside()
        _write_log(self._child.pid, lines)

    def program_text(self) -> str:
        """Return the end of what it wrote to stderr, fit for an error; it may be empty."""
        self.read_side()
        text = "".join(
            char if char.isprintable() or char == "\n" else " "
            for char in self._tail.decode("utf-8", "replace")
        )
        return text.strip()

    def explain(self, error: HusshError, *, before_banner: bool, heard: bool) -> HusshError:
        if not isinstance(error, ConnectionLost):
            return error
        if isinstance(error, ServerBusy) and error.server_text:
            return error  # it is not the command's fault
        lines: list[bytes] = []
        with unless_exiting(self._lock):
            ended = self._await_end(lines)
            code = self._child.peek_exit_code()
        _write_log(self._child.pid, lines)
        tail = self.program_text()
        if code is None:
            how = "ended" if ended else "closed its output"
        elif code < 0:
            how = f"killed by {_name_signal(-code)}"
        else:
            how = f"exited with exit status: {code}"
        what = "Failed to start proxy command" if before_banner else "the proxy command ended"
        known = [tail, error.text if heard else ""] if tail or heard else ["nothing on its stderr"]
        text = f"{what} ({how}): {'; '.join(filter(None, known))}"
        better = ProxyCommandError(text, exit_code=code, stderr_tail=tail)
        if not before_banner:
            better.phase = error.phase
        return better

    def shutdown(self) -> None:
        """Ask it to end; wait for nothing and look for none of its children."""
        self._child.signal_group(signal.SIGTERM)

    def close(self) -> None:
        """Close the pipes, end the process and what it started, reap it.

        It takes at most about a second, if the command ignores SIGTERM. Ctrl-C is raised after
        that.
        """
        with unless_exiting(self._lock):
            self._closed = self._adopted = True
            finish(self._child.close)

    def abandon(self) -> None:
        """Close the copies of the pipes, in a forked child; the command is the parent's."""
        self._lock = threading.RLock()  # a thread of the parent may have held the old lock
        self._closed = self._adopted = True
        self._child.close()

    # -- with our lock held; what is to be logged is returned or added to `lines`

    def _await_end(self, lines: list[bytes]) -> bool:
        """Wait for the process, whose stdout is at its end: a moment later it ends, too."""
        end = monotonic() + self._patience
        while not self._child.wait(0):
            left = end - monotonic()
            if left <= 0 or self._closed:
                self._patience = 0.0  # it does not end; the next caller need not wait again
                return False
            fds = [self._child.stderr] if self._stderr_open else []
            if self._child.pidfd >= 0:
                poll = make_poll()
                for fd in (*fds, self._child.pidfd):
                    poll.register(fd, select.POLLIN)
                poll.poll(left * 1000)
            else:
                self._child.wait(min(left, 0.05))
            lines += self._look_aside()
        return True

    def _look_aside(self) -> list[bytes]:
        if self._closed:
            return []
        lines = self._read_stderr()
        if not self._exit_noted and self._child.wait(0):
            self._exit_noted = True
            if self._child.peek_exit_code():
                # In another thread: it searches all processes, and a loop may be here.
                Call(self._kill_heirs, is_slow=True).start()
        return lines

    def _kill_heirs(self) -> None:
        with self._lock:
            if not self._closed:
                self._child.signal(signal.SIGKILL)

    def _read_stderr(self) -> list[bytes]:
        """Empty the pipe, keeping the tail."""
        lines: list[bytes] = []
        for _ in range(PARTS_AT_ONCE):
            if not self._stderr_open:
                break
            try:
                part = os.read(self._child.stderr, PART)
            except BlockingIOError:
                break
            except OSError:
                part = b""
            if not part:
                self._stderr_open = False
                self._child.close_stderr()
                lines += [self._line] if self._line else []
                break
            self._tail = (self._tail + part)[-TAIL:]
            if _log.isEnabledFor(logging.DEBUG):
                *whole, self._line = (self._line + part).split(b"\n")
                lines += whole
                while len(self._line) > LINE:
                    lines.append(self._line[:LINE])
                    self._line = self._line[LINE:]
        return lines


def describe_proxy(argv: Sequence[str]) -> tuple[str, str]:
    """Return what a story tells of a proxy command: who carries the stream, and a line.

    It has the program's name only, because its arguments may contain a secret.
    """
    in_shell = list(argv[:2]) == ["/bin/sh", "-c"]
    words = argv[2].removeprefix("exec ").split() if in_shell else list(argv[:1])
    program = os.path.basename(words[0]) if words and "=" not in words[0] else "a program"
    return f"proxy command {program}", f"started {program}"


def _write_log(pid: int, lines: list[bytes]) -> None:
    # Never while a lock is held, because a handler may do anything.
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip()
        shown = "".join(char if char.isprintable() else " " for char in text)
        _log.debug("[%d] %s", pid, shown)


def _name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
