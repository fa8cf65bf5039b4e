"""A slow network: client, bastion and target, with every packet between them held for a while.

For ``scripts/bench --latency``; root only. The cables are pairs of tun devices, and a process for
each cable carries the packets (``delay_relay.py``). So the delay lies under the kernel's own TCP,
whose acknowledgements travel as slowly as the data: a relay of bytes acknowledges at once and hides
Nagle's algorithm. ``tc netem`` would do the same, but few kernels of virtual machines have it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import sys
from pathlib import Path

from . import preload
from .netns import Network, Place, _ip
from .processes import clean_environment

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_RELAY = Path(__file__).with_name("delay_relay.py")
_NODELAY = Path(__file__).with_name("nodelay_preload.c")


class DelayedNetwork(Network):
    """As ``Network``, but each way through one of the two cables takes half of ``round_trip``."""

    def __init__(self) -> None:
        """Nothing exists yet."""
        super().__init__()
        self._relays: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> DelayedNetwork:
        """Make the places and the two cables between them. Raises ``OSError``."""
        super().__enter__()
        return self

    def set_round_trip(self, seconds: float) -> None:
        """Hold packets that come from now on so long, both ways together, in each cable."""
        for relay in self._relays:
            assert relay.stdin is not None
            assert relay.stdout is not None
            relay.stdin.write(f"{seconds / 2}\n".encode())
            relay.stdin.flush()
            relay.stdout.readline()

    def close(self) -> None:
        """End the relays and the places; idempotent."""
        while self._relays:
            with self._relays.pop() as relay:
                relay.kill()
        super().close()

    def _cable(self, place: Place, end: str, address: str, inner: str, inside: str) -> None:
        near = self._tun(place, end, address, inside)
        far = self._tun("bastion", inner, inside, address)
        relay = subprocess.Popen(
            [sys.executable, str(_RELAY), str(near), str(far)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(near, far),
            env=clean_environment(),
        )
        os.close(near)
        os.close(far)
        self._relays.append(relay)

    def _tun(self, place: Place, name: str, address: str, peer: str) -> int:
        with self.enter(place):
            fd = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            flags = _IFF_TUN | _IFF_NO_PI
            fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            _ip("addr", "add", address, "peer", peer, "dev", name)
            _ip("link", "set", name, "txqueuelen", "10000", "up")
        return fd


def nodelay_library(folder: Path) -> Path:
    """Compile what makes an old sshd set TCP_NODELAY as that of OpenSSH 10.1 does."""
    return preload.compile_library(_NODELAY, folder / "nodelay.so")
