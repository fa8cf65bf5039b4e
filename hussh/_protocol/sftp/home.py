"""Expands ``~`` in remote paths; nothing else does.

Every operation that takes a path of the user goes through `expands_home` or `run_at_home`, as those
of `ops.py` do. scp uses the rule for servers without the extension. The home is asked for once for
each connection, and only if a path begins with ``~``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from ..._policy.remote_path import expand_from_home, is_at_home
from ..core import Op
from . import wire
from .session import SftpSession, SftpState, wait
from .wire import Name, string

__all__ = ["START", "run_at_home", "expand_home", "expands_home"]

P = ParamSpec("P")
T = TypeVar("T")

#: Where a session starts, which is the home unless the server's settings say otherwise.
START = b"."
_EXPAND = b"expand-path@openssh.com"


def expand_home(sftp: SftpState, path: bytes) -> Op[bytes]:
    """Return the path that the server understands; only one that begins with ``~`` changes."""
    if not is_at_home(path):
        return path
    if sftp.home is None:
        sftp.home = yield from _ask_home((yield from sftp.get_session()))
    return expand_from_home(path, sftp.home)


def run_at_home(sftp: SftpState, path: bytes, op: Callable[[bytes], Op[T]]) -> Op[T]:
    """Run an operation on a path, which it gets expanded."""
    if not is_at_home(path):
        return op(path)
    return _run_at_home(sftp, path, op)


def _run_at_home(sftp: SftpState, path: bytes, op: Callable[[bytes], Op[T]]) -> Op[T]:
    return (yield from op((yield from expand_home(sftp, path))))


def expands_home(
    op: Callable[Concatenate[SftpState, bytes, P], Op[T]],
) -> Callable[Concatenate[SftpState, bytes, P], Op[T]]:
    """Decorate an operation whose second argument is a path on the server."""

    @wraps(op)
    def located(sftp: SftpState, path: bytes, /, *more: P.args, **named: P.kwargs) -> Op[T]:
        return run_at_home(sftp, path, lambda there: op(sftp, there, *more, **named))

    return located


def _ask_home(session: SftpSession) -> Op[bytes]:
    machine = session.machine
    if _EXPAND not in machine.extensions:
        return START
    # Only "~" itself: the server resolves what it is given, and a new file is not there yet.
    asked = machine.queue_extended(_EXPAND, string(b"~"), wire.name_list, reply=wire.NAME)
    names: list[Name] | None = (yield from wait(session, asked)).value
    if not names or not names[0].name.startswith(b"/"):
        return START
    home = names[0].name
    # Of a session in a chroot the account's home need not exist.
    there = yield from wait(session, machine.request(wire.STAT, string(home)))
    return START if there.value is None else home
