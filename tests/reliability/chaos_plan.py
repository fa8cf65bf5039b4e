"""What happens in one round of ``scripts/chaos``: drawn from a seed and a number, and nothing else.

A round has an API, a way to the target, some works that run at once on the connection, one time
limit for every call, and one or two faults. The same seed and number give the same plan on every
machine; what the kernel makes of it is its own.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, replace
from typing import Any

__all__ = ["BENIGN", "FAULTS", "Fault", "Plan", "checkup", "draw"]

APIS = ("sync", "asyncio", "trio")
#: How the target is reached: the hops of the way, as indices of the arena's servers.
WAYS = {"direct": (2,), "jump": (0, 2), "three hops": (0, 1, 2), "proxy command": (2,)}
WORKS = ("execute", "popen", "shell", "sftp", "tree", "scp", "stream", "forward", "multi", "login")
DIRECTIONS = ("to_server", "to_client")

#: Faults of servers and of the network between; the arena does them.
OUTSIDE = (
    "stop", "kill", "kill daemon", "delay", "split", "stall", "cut", "reset", "corrupt",
    "duplicate",
)  # fmt: skip
#: Faults of the client's own process and machine.
INSIDE = ("cancel", "interrupt", "signals", "fork", "descriptors", "memory", "disk")
FAULTS = (*OUTSIDE, *INSIDE)
#: Faults that no answer may suffer from: each is right, or its time was over.
BENIGN = frozenset({"delay", "split", "signals", "fork"})


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        kind: one of `FAULTS`.
        hop: which hop of the way it strikes, as an index of the arena's servers.
        at: seconds after the beginning of the round, for what happens at a time.
        lasts: seconds until a process goes on, or bytes pass again.
        direction: of bytes.
        offset: bytes of that direction before it strikes.
        number: which process, bit, chunk, length, spare descriptor or MiB; by kind.
    """

    kind: str
    hop: int
    at: float
    lasts: float
    direction: str
    offset: int
    number: int


@dataclass(frozen=True)
class Plan:
    """One round; see the module.

    Attributes:
        at_once: whether one connect makes all of the hops.
        size: bytes that a work sends at most.
        repeat: how often the works are done.
        limit: seconds for each call.
    """

    number: int
    api: str
    way: str
    at_once: bool
    works: tuple[str, ...]
    size: int
    repeat: int
    limit: float
    faults: tuple[Fault, ...]

    @property
    def hops(self) -> tuple[int, ...]:
        """The servers on the way, in the order of travel."""
        return WAYS[self.way]

    @property
    def is_benign(self) -> bool:
        """Whether no fault excuses an error but a time-out."""
        return all(fault.kind in BENIGN for fault in self.faults)

    def as_json(self) -> dict[str, Any]:
        """Return what the client process needs."""
        return {**asdict(self), "benign": self.is_benign}

    def __str__(self) -> str:
        """Return one line that tells what happens."""
        faults = ", ".join(_told(fault) for fault in self.faults)
        how = " by one connect" if self.at_once else ""
        works = f"{self.repeat} times {' '.join(self.works)} of {self.size} B"
        return f"{self.api}, {self.way}{how}, {works}, {self.limit} s: {faults}"


def _told(fault: Fault) -> str:
    return (
        f"{fault.kind} (hop {fault.hop}, at {fault.at:.2f} s for {fault.lasts:.2f} s, "
        f"{fault.direction} {fault.offset}, {fault.number})"
    )


def draw(seed: int, number: int) -> Plan:
    """Return the plan of a round; every kind of fault comes in any twenty rounds or so."""
    # Seeded by text: that is the same in every version of Python.
    dice = random.Random(f"{seed}/{number}")
    way = dice.choice(list(WAYS))
    api = dice.choice(APIS)
    kinds = [FAULTS[number % len(FAULTS)]]
    if dice.random() < 0.3:
        kinds.append(dice.choice(FAULTS))
    limit = 10.0 if all(kind in BENIGN for kind in kinds) else dice.choice((0.5, 1.0, 2.0))
    faults = tuple(_fault(dice, kind, WAYS[way], limit) for kind in dict.fromkeys(kinds))
    works = tuple(dice.sample(WORKS, dice.randint(1, 4)))
    if "memory" in kinds:  # the program that uses a forward needs a thread
        works = tuple(work for work in works if work != "forward") or ("execute",)
    size = dice.choice((10, 1000, 40_000, 400_000)) if "memory" not in kinds else 6_000_000
    at_once, repeat = dice.random() < 0.5, dice.randint(1, 4)
    return Plan(number, api, way, at_once, works, size, repeat, limit, faults)


def checkup(plan: Plan) -> Plan:
    """Return a round on the same way in which nothing is broken any more."""
    return replace(plan, works=("execute",), size=100, repeat=1, limit=10.0, faults=())


def _fault(dice: random.Random, kind: str, hops: tuple[int, ...], limit: float) -> Fault:
    hop = dice.choice(hops)
    # Most works are done within a second; a busy machine takes longer.
    at = dice.uniform(0.0, dice.choice((0.1, 0.4, 1.0)))
    # Half of them last longer than any call may.
    lasts = dice.choice((dice.uniform(0.0, limit), limit * 3))
    direction = dice.choice(DIRECTIONS)
    # A login makes about 3,000 bytes in each direction.
    offset = dice.choice((dice.randint(0, 60), dice.randint(0, 4000), dice.randint(0, 100_000)))
    return Fault(kind, hop, at, lasts, direction, offset, dice.randint(0, 1 << 16))
