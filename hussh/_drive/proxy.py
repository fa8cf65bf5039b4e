"""A ProxyCommand: a child process whose stdin and stdout carry a root link.

The child leads a session of its own, so that the terminal's Ctrl-C does not
reach it before our clean-up, and so that one signal reaches whatever it started.
Its stderr never touches the stream: whoever waits for the link also empties
that pipe, and the last 4 KiB are kept for the error.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import subprocess
from collections.abc import Sequence

from ..errors import ConnectionLost, HusshError, ProxyCommandError

__all__ = ["ProxyStream", "start_proxy"]

TAIL = 4096
PIPE_SIZE = 1 << 20  # bytes; the default of 64 KiB costs a wake-up for every packet or two
TERM_SECONDS = 1.0  # between SIGTERM and SIGKILL


def start_proxy(argv: Sequence[str]) -> ProxyStream:
    """Start the command.

    Raises:
        ProxyCommandError: it cannot be started at all.
    """
    try:
        child = subprocess.Popen(  # noqa: S603  (never a shell with untrusted text: see route.py)
            list(argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ProxyCommandError(f"Failed to start proxy command: {error}") from error
    return ProxyStream(child)


class ProxyStream:
    """The stream of a running proxy command."""

    def __init__(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        self._stdin, self._stdout, self._stderr = child.stdin, child.stdout, child.stderr
        assert self._stdin is not None  # noqa: S101  (all three were asked for)
        assert self._stdout is not None  # noqa: S101
        assert self._stderr is not None  # noqa: S101
        self._fds = (self._stdout.fileno(), self._stdin.fileno())
        self._stderr_fd: int | None = self._stderr.fileno()
        self._tail = b""
        self._forked = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        for fd in (*self._fds, self._stderr_fd):
            os.set_blocking(fd, False)
        for fd in self._fds:
            with contextlib.suppress(OSError):  # over the user's limit: slower, not wrong
                fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), PIPE_SIZE)

    def fds(self) -> tuple[int, int]:
        return self._fds

    def side_fds(self) -> tuple[int, ...]:
        """What to poll besides: the pipe of its stderr, and what `shutdown` wakes."""
        return (self._wake,) if self._stderr_fd is None else (self._wake, self._stderr_fd)

    def read_side(self) -> None:
        """Empty the stderr pipe, keeping the tail."""
        while self._stderr_fd is not None:
            try:
                part = os.read(self._stderr_fd, 65536)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            if not part:
                self._close_stderr()
                return
            self._tail = (self._tail + part)[-TAIL:]

    def explain(self, error: HusshError, *, before_banner: bool) -> HusshError:
        """A better error for a link that died with this stream."""
        if not isinstance(error, ConnectionLost):
            return error
        # Its stdout is at its end; a moment later, as a rule, so is the process.
        self._wait(0.5)
        self.read_side()
        code = self._exit_code()
        tail = "".join(
            char if char.isprintable() or char == "\n" else " "
            for char in self._tail.decode("utf-8", "replace")
        ).strip()
        if code is None:
            how = "closed its output"
        elif code < 0:
            how = f"killed by {_signal_name(-code)}"
        else:
            how = f"exited with exit status: {code}"
        what = "Failed to start proxy command" if before_banner else "the proxy command ended"
        return ProxyCommandError(
            f"{what} ({how}): {tail or 'nothing on its stderr'}",
            exit_code=code,
            stderr_tail=tail,
        )

    def shutdown(self) -> None:
        """Ask it to end, and wake whoever polls, should it refuse."""
        self._signal(signal.SIGTERM)
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Close the pipes, end the process and what it started, reap it.

        Takes at most about a second, if the command ignores SIGTERM.
        """
        for pipe in (self._stdin, self._stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._close_stderr()
        os.close(self._wake)
        if self._forked:
            self._child.returncode = 0  # the parent's child: not ours to wait for
            return
        self._signal(signal.SIGTERM)
        self._wait(TERM_SECONDS)
        self._signal(signal.SIGKILL)
        self._child.wait()

    def abandon(self) -> None:
        """In a forked child: the command is not ours, only copies of the pipes are."""
        self._forked = True
        self.close()

    def _close_stderr(self) -> None:
        if self._stderr_fd is not None:
            self._stderr_fd = None
            assert self._stderr is not None  # noqa: S101
            self._stderr.close()

    def _signal(self, number: int) -> None:
        # Not reaped, the leader keeps the group's number from being another's, also when dead.
        if self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)

    def _exit_code(self) -> int | None:
        """As `Popen.returncode`, but the process stays to be reaped; None: it runs."""
        how = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if how is None:
            return None
        return how.si_status if how.si_code == os.CLD_EXITED else -how.si_status

    def _wait(self, seconds: float) -> None:
        """Wait for the process to end, without reaping it, so that its group can be signalled."""
        try:
            pidfd = os.pidfd_open(self._child.pid)
        except OSError:
            return
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(pidfd)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
