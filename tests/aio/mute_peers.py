"""Cancelling while every peer is mute: whatever ends then has waited for none of them.

How long it takes is counted without the time in which the machine had other things to do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.support.relay import Relay
from tests.support.sshd import Sshd

__all__ = ["Silence", "waited_so_far"]

#: Seconds that a cancelled call may wait for its own threads and processes.
LIMIT = 1.0
#: Seconds after which the peers speak again, so that a call which waits for them fails its test
#: and does not hang; an end without peers takes milliseconds.
RESCUE = 30.0


class Silence:
    """Servers that fall silent when a call is cancelled, until it has ended.

    Args:
        relay_factory: the fixture.
    """

    def __init__(self, relay_factory: Callable[..., Relay]) -> None:
        self._relay_factory = relay_factory
        self._relays: list[Relay] = []
        self._rescue: threading.Timer | None = None
        self._rescued = False
        self._began = 0.0

    def before(self, server: Sshd) -> Any:
        """Return a place with alice in it whose traffic with the server can be silenced."""
        relay = self._relay_factory(server)
        self._relays.append(relay)
        return SimpleNamespace(host=relay.host, port=relay.port, alice=server.alice)

    def and_then(self, strike: Callable[[], object]) -> Callable[[], None]:
        """Return what silences the servers and then cancels; called where the call waits."""

        def begin() -> None:
            for relay in self._relays:
                relay.freeze()
            self._rescue = threading.Timer(RESCUE, self._speak_again)
            self._rescue.start()
            self._began = waited_so_far()
            strike()

        return begin

    def is_over(self) -> bool:
        """Let the servers speak, once the call has ended; False: it was never cancelled."""
        if self._rescue is None:
            return False
        waited = waited_so_far() - self._began
        self._rescue.cancel()
        self._rescue.join()
        self._rescue = None
        assert not self._rescued, "the cancelled call waited for its peer"
        for relay in self._relays:
            relay.thaw()
        assert waited < LIMIT, f"the cancelled call ended after {waited:.2f} s"
        return True

    def _speak_again(self) -> None:
        self._rescued = True
        for relay in self._relays:
            relay.thaw()


def waited_so_far() -> float:
    """Seconds in which this thread neither ran nor could have run, since some moment."""
    try:
        queued = int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    except OSError:  # a kernel without it
        queued = 0
    return time.monotonic() - time.thread_time() - queued / 1e9
