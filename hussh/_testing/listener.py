"""Accepts the connections of one throw-away server, and runs an sshd for each, until its end.

It is a program of its own, which `server.py` starts by its path. It imports only the standard
library, so that it starts quickly.

It adopts every process that a session leaves behind, and ends them all with itself. Its end comes
when the control socket ends. The kernel sees to that even if the tests are killed.

Usage: listener.py CONTROL LISTENER PID-FILE LOG ONLY-FROM COMMAND…
CONTROL and LISTENER are descriptors. ONLY-FROM is empty, or the PID-FILE of the one listener whose
sessions may connect. The byte ``e`` on the control socket ends all sessions, and is answered.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import struct
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36  # prctl(2)


def main(
    control: socket.socket, listener: socket.socket, log: str, only_from: str, command: list[str]
) -> None:
    """Serve until the control socket ends."""
    listener.setblocking(False)
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(listener, select.POLLIN)
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    while True:
        ready = dict(poller.poll())
        if control.fileno() in ready:
            order = control.recv(1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            end_descendants()
            if not order:
                return
            signal.signal(signal.SIGCHLD, lambda *_: reap())
            control.send(order)
        if listener.fileno() in ready:
            with contextlib.suppress(BlockingIOError, ConnectionError):  # it is gone again
                accept(listener, log, only_from, command)


def accept(listener: socket.socket, log: str, only_from: str, command: list[str]) -> None:
    """Take one connection; give it to an sshd, or reset it."""
    connection, peer = listener.accept()
    with connection:
        if only_from and not is_from(peer, connection.getsockname(), Path(only_from)):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return
        connection.setblocking(True)
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        os.posix_spawn(
            command[0],
            command,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, connection.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, connection.fileno(), 1),
                (os.POSIX_SPAWN_OPEN, 2, log, append, 0o600),
            ],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # which Python ignores
        )


def is_from(peer: tuple[str, int], here: tuple[str, int], pid_file: Path) -> bool:
    """Tell whether the other end of a connection belongs to a process below another listener."""
    wanted = [_format_proc_address(peer), _format_proc_address(here)]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1:3] == wanted:
            name = f"socket:[{fields[9]}]"
            return any(
                name in list_sockets(pid) for pid in list_descendants(int(pid_file.read_text()))
            )
    return False


def _format_proc_address(address: tuple[str, int]) -> str:
    host, port = address
    (number,) = struct.unpack("=I", socket.inet_aton(host))
    return f"{number:08X}:{port:04X}"


def list_sockets(pid: int) -> set[str]:
    """Return what the descriptors of a process are."""
    found = set()
    with contextlib.suppress(OSError):  # it has ended
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return found


def list_descendants(pid: int) -> list[int]:
    """Return all processes below another one, zombies excluded, nearest first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it has ended
                stat = Path(f"/proc/{name}/stat").read_text(errors="replace")
                # The name before this parenthesis may itself have parentheses.
                state, parent = stat.rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found[1:]


def reap() -> None:
    """Forget the children that have ended."""
    with contextlib.suppress(ChildProcessError):  # there are none
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def end_descendants() -> None:
    """End everything below this process, also what loses its parent meanwhile."""
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            for pid in list_descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            os.waitpid(-1, 0)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _control, _listener, _pid_file, _log, _only_from, *_command = sys.argv[1:]
    Path(_pid_file).write_text(str(os.getpid()))
    main(
        socket.socket(fileno=int(_control)),
        socket.socket(fileno=int(_listener)),
        _log,
        _only_from,
        _command,
    )
