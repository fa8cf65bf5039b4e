"""Networks in which the target is out of the client's reach: network namespaces, root only.

For tests and demos that must show that only the bastion reaches the target. The client's network
and the inner one share nothing but the bastion, which forwards no packets::

    client 192.0.2.1 --- 192.0.2.2 bastion 198.51.100.1 --- 198.51.100.2 target

Servers are started inside with ``Network.enter()``: it moves the calling thread, so use it around
``Sshd.start()`` and around what connects. Namespaces have no name and no file; they end with
their last process, which ``close()`` ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hussh._runtime import workers

from .processes import clean_environment

Place = Literal["client", "bastion", "target"]
ADDRESSES = {"client": "192.0.2.1", "bastion": "192.0.2.2", "target": "198.51.100.2"}
BASTION_INSIDE = "198.51.100.1"
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """Three places in two networks; made by entering it."""

    def __init__(self) -> None:
        """Nothing exists yet."""
        self._keepers: dict[Place, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Network:
        """Make the places and the two cables between them. Raises ``OSError``."""
        try:
            places: tuple[Place, ...] = ("client", "bastion", "target")
            for place in places:
                self._keepers[place] = _keeper()
            self._cable("client", "out0", ADDRESSES["client"], "out1", ADDRESSES["bastion"])
            self._cable("target", "in0", ADDRESSES["target"], "in1", BASTION_INSIDE)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the places; idempotent. What still runs inside keeps its own place alive."""
        while self._keepers:
            _, keeper = self._keepers.popitem()
            with keeper:
                keeper.kill()

    @contextlib.contextmanager
    def enter(self, place: Place) -> Iterator[None]:
        """Move this thread, and what it starts meanwhile, to ``place`` for the block.

        hussh gets new workers: those that rest since an earlier call stay where they were started.
        """
        with contextlib.ExitStack() as stack:
            here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, here)
            pid = self._keepers[place].pid
            there = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, there)
            _move(there)
            before, workers._pool = workers._pool, workers._Pool()
            try:
                yield
            finally:
                workers._pool = before
                _move(here)

    def _cable(self, place: Place, end: str, address: str, inner: str, inside: str) -> None:
        bastion = str(self._keepers["bastion"].pid)
        with self.enter(place):
            _ip("link", "add", end, "type", "veth", "peer", "name", inner, "netns", bastion)
            _ip("addr", "add", f"{address}/24", "dev", end)
            _ip("link", "set", end, "up")
        with self.enter("bastion"):
            _ip("addr", "add", f"{inside}/24", "dev", inner)
            _ip("link", "set", inner, "up")


def mount_folder(source: Path, target: Path) -> None:
    """Show ``source`` at ``target`` to this thread, for good, and to what it starts from now on.

    For a thread that ends with its test. Raises ``OSError``.
    """
    if _libc.unshare(_CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount(None, b"/", _MS_REC | _MS_PRIVATE)
    _mount(os.fsencode(source), os.fsencode(target), _MS_BIND)


def _mount(source: bytes | None, target: bytes, flags: int) -> None:
    if _libc.mount(source, target, None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), f"mount on {os.fsdecode(target)}")


def _keeper() -> subprocess.Popen[bytes]:
    # `cat` speaks only when it runs, by then inside; it ends with its input at the latest.
    keeper = subprocess.Popen(
        ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && echo up && exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    )
    assert keeper.stdout is not None
    if keeper.stdout.readline() != b"up\n":
        error = keeper.communicate()[1].decode(errors="replace")
        raise OSError(error.strip())
    return keeper


def _move(namespace: int) -> None:
    if _libc.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _ip(*arguments: str) -> None:
    done = subprocess.run(
        ["ip", *arguments], capture_output=True, text=True, env=clean_environment()
    )
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
