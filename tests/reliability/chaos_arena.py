"""Three servers, each behind a relay, and what ``scripts/chaos`` does to them.

One thread uses an arena. After each round `heal` makes all well again, whatever was done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.keys import Keys
from tests.support.processes import kill_all
from tests.support.relay import Faults, Relay
from tests.support.sshd import Sshd

from .chaos_plan import Fault, Plan
from .echo import Echo

__all__ = ["Arena"]

SERVERS = 3
#: A relay remembers every connection; it is replaced after so many rounds.
RELAY_ROUNDS = 100
Action = tuple[float, Callable[[], object]]


class Arena:
    """The servers; started by entering it."""

    def __init__(self, folder: Path) -> None:
        """Prepare the servers in an empty folder."""
        (folder / "keys").mkdir()
        keys = Keys(folder / "keys")
        self._folder = folder
        self._stack = ExitStack()
        self._rounds = 0
        self._stopped: list[int] = []
        self.servers = [
            Sshd(folder / f"server{index}", keys, name=f"server{index}") for index in range(SERVERS)
        ]
        for server in self.servers:
            server.authorize(server.alice, self.servers[0].alice.key)
        self.relays: list[Relay] = []
        self.echo = Echo()

    def __enter__(self) -> Arena:
        """Start everything."""
        for server in self.servers:
            self._stack.enter_context(server)
        self._stack.enter_context(self.echo)
        self._new_relays()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything."""
        self._go_on()
        for relay in self.relays:
            relay.__exit__()
        self._stack.close()

    def orders(self) -> dict[str, Any]:
        """Return what a client needs to know: where the servers are, and how to log in."""
        alice = self.servers[0].alice
        return {
            "places": [[relay.host, relay.port] for relay in self.relays],
            "echo": self.echo.address,
            "user": alice.name,
            "key": str(alice.key.path),
            "known_hosts": str(self._folder / "known_hosts"),
        }

    def prepare(self, plan: Plan) -> list[Action]:
        """Set up what strikes by bytes; return what is to be done when, in seconds, sorted."""
        actions: list[Action] = []
        for fault in plan.faults:
            if fault.kind in ("stop", "kill", "kill daemon"):
                actions += self._on_processes(fault)
            elif fault.kind in _RELAYED:
                actions += self._on_bytes(fault)
        return sorted(actions, key=lambda action: action[0])

    def heal(self) -> None:
        """Let stopped processes go on, end all sessions, restart what was killed."""
        self._go_on()
        for server in self.servers:
            if server._pid is None or not os.path.exists(f"/proc/{server._pid}"):
                server.restart()
            else:
                kill_all(process.pid for process in server.processes())
        self._rounds += 1
        if self._rounds % RELAY_ROUNDS == 0:
            self._new_relays()
        for relay in self.relays:
            relay.set(rtt=0.0)
            relay.drop(reset=True)

    # -- faults --------------------------------------------------------------------------------

    def _on_processes(self, fault: Fault) -> list[Action]:
        server = self.servers[fault.hop]

        def victim() -> int | None:
            pids = [process.pid for process in server.processes()]
            if fault.kind == "stop" and server._pid is not None:
                pids.append(server._pid)
            return pids[fault.number % len(pids)] if pids else None

        def send(number: int, pid: int | None) -> None:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)

        def stop() -> None:
            pid = victim()
            send(signal.SIGSTOP, pid)
            if pid is not None:
                self._stopped.append(pid)

        if fault.kind == "stop":
            return [(fault.at, stop), (fault.at + fault.lasts, self._go_on)]
        if fault.kind == "kill":
            return [(fault.at, lambda: send(signal.SIGKILL, victim()))]
        return [(fault.at, server.stop)]

    def _on_bytes(self, fault: Fault) -> list[Action]:
        relay = self.relays[fault.hop]
        if fault.kind == "delay":
            relay.set(rtt=0.001 * (fault.number % 60))
            return []
        if fault.kind == "stall":
            relay.set(**{fault.direction: Faults(freeze_after=fault.offset)})  # type: ignore[arg-type]
            return [(fault.at + fault.lasts, relay.thaw)]
        relay.set(**{fault.direction: _RELAYED[fault.kind](fault)})  # type: ignore[arg-type]
        return []

    def _go_on(self) -> None:
        while self._stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._stopped.pop(), signal.SIGCONT)

    def _new_relays(self) -> None:
        for relay in self.relays:
            relay.__exit__()
        self.relays = [Relay(server.host, server.port).__enter__() for server in self.servers]
        lines = [
            server.known_hosts_line(relay.host, relay.port)
            for server, relay in zip(self.servers, self.relays, strict=True)
        ]
        (self._folder / "known_hosts").write_text("".join(lines))


_RELAYED: dict[str, Callable[[Fault], Faults]] = {
    "delay": lambda fault: Faults(),
    "stall": lambda fault: Faults(freeze_after=fault.offset),
    "split": lambda fault: Faults(chunks=(1 + fault.number % 7, 1 + fault.number % 1500)),
    "cut": lambda fault: Faults(cut_after=fault.offset),
    "reset": lambda fault: Faults(cut_after=fault.offset, cut_with="reset"),
    "corrupt": lambda fault: Faults(flip=(fault.offset, fault.number % 8)),
    "duplicate": lambda fault: Faults(duplicate=(fault.offset, 1 + fault.number % 600)),
}


def carry_out(actions: list[Action], begun: float) -> float | None:
    """Do what is due; return the seconds until the next action, or None if there is none."""
    while actions:
        left = begun + actions[0][0] - time.monotonic()
        if left > 0:
            return left
        actions.pop(0)[1]()
    return None
