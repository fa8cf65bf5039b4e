"""Is every answer right or a typed error, in time, while everything breaks? For ``scripts/chaos``.

This process has the servers and relays, and does to them what the plan of each round says. The
client is another process (``chaos_client.py``), which judges its answers. A few lanes run side by
side, each with servers and a client of its own, because most of a round is waiting.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.accounts import IS_ROOT
from tests.support.processes import clean_environment

from .chaos_arena import Arena, carry_out
from .chaos_calls import LEFT_BEHIND
from .chaos_plan import FAULTS, Plan, checkup, draw

__all__ = ["Chaos", "main"]

TOP = Path(__file__).parents[2]
LANES = 2
#: Seconds without an answer after which a client hangs: far more than all of its limits together.
PATIENCE = 120.0
#: A client does so many rounds; a new one has new memory.
CLIENT_ROUNDS = 200


class Hung(Exception):
    """The client gave no answer, or ended."""


class ClientProcess:
    """A running client; started at once."""

    def __init__(self, folder: Path) -> None:
        """Let its home and temporary files be in this folder, where its errors are written."""
        self.errors = folder / "client-errors"
        (folder / "home").mkdir(exist_ok=True)
        with self.errors.open("ab") as sink:
            self._process = subprocess.Popen(
                [*_with_full_disk(folder), sys.executable, "-m", "tests.reliability.chaos_client"],
                cwd=TOP,
                env=clean_environment(
                    HOME=str(folder / "home"),
                    TMPDIR=str(folder),
                    HUSSH_FULL_DISK=str(folder / "full"),
                ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                start_new_session=True,
            )
        self._buffer = b""

    def tell(self, orders: dict[str, Any]) -> None:
        """Give it a round to do."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, seconds: float) -> dict[str, Any] | None:
        """Return its next line, or None if there is none within so many seconds."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = max(0.0, end - time.monotonic())
            if not select.select([descriptor], [], [], left)[0]:
                return None
            data = os.read(descriptor, 1 << 16)
            if not data:
                raise Hung(f"the client ended with {self._process.wait()}: {self._tail()}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        found: dict[str, Any] = json.loads(line)
        return found

    def dump(self) -> str:
        """Return where all of its threads are."""
        self._process.send_signal(signal.SIGUSR2)
        time.sleep(1.0)
        return self._tail()

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _tail(self) -> str:
        return self.errors.read_text(errors="replace")[-6000:]


def _with_full_disk(folder: Path) -> list[str]:
    """Return what gives a command a small disk of its own, where the rights allow."""
    if not IS_ROOT:
        return []
    (folder / "full").mkdir(exist_ok=True)
    mount = 'mount -n -t tmpfs -o size=64k tmpfs "$HUSSH_FULL_DISK" && exec "$@"'
    return ["unshare", "--mount", "--", "sh", "-c", mount, "full-disk"]


class Chaos:
    """All rounds of a run.

    Attributes:
        counts: how often there was which outcome, by kind of fault, of all kinds as "".
        kinds: how many rounds had which kind of fault.
        findings: what was wrong, a text each.
        rounds: how many there were.
        worst: the most seconds that the load excused.
    """

    def __init__(self, seed: int) -> None:
        """Draw rounds from a seed."""
        self.seed = seed
        self.counts: dict[str, Counter[str]] = {kind: Counter() for kind in ("", *FAULTS)}
        self.kinds: Counter[str] = Counter()
        self.findings: list[str] = []
        self.rounds = 0
        self.worst = 0.0
        self._lock = threading.Lock()

    def run(self, seconds: float, folder: Path, first: int, lanes: int, most: int) -> None:
        """Do rounds from number ``first`` until the time is over, or ``most`` of them."""
        end = time.monotonic() + seconds
        errors: list[BaseException] = []

        def work(lane: int) -> None:
            try:
                self._lane(folder / f"lane{lane}", range(first + lane, first + most, lanes), end)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(lane,)) for lane in range(lanes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _lane(self, folder: Path, numbers: Sequence[int], end: float) -> None:
        folder.mkdir()
        folder.chmod(0o755)
        client: ClientProcess | None = None
        with Arena(folder) as arena:
            try:
                for count, number in enumerate(numbers):
                    if time.monotonic() > end:
                        return
                    if client is None or count % CLIENT_ROUNDS == 0:
                        if client is not None:
                            client.close()
                        client = ClientProcess(folder)
                    plan = draw(self.seed, number)
                    try:
                        is_as_before = self._round(arena, client, plan)
                    except Hung as hung:
                        self._found(plan, [str(hung)])
                        arena.heal()
                        is_as_before = False
                    if not is_as_before:
                        client.close()
                        client = None
            finally:
                if client is not None:
                    client.close()

    def _round(self, arena: Arena, client: ClientProcess, plan: Plan) -> bool:
        """Do a round; return False if it left what the client's next rounds would report again."""
        answer = self._ask(arena, client, plan)
        arena.heal()
        after = self._ask(arena, client, checkup(plan))
        with self._lock:
            self.rounds += 1
            kinds = {fault.kind for fault in plan.faults}
            self.kinds.update(kinds)
            for kind in ("", *kinds):
                self.counts[kind].update(answer["counts"])
            self.worst = max(self.worst, answer["worst"])
        if after["counts"] != {"right": 2}:
            after["findings"].append(f"when nothing was broken any more: {after['counts']}")
        findings = [*answer["findings"], *after["findings"]]
        if findings:
            self._found(plan, findings)
        return not any(line.startswith(LEFT_BEHIND) for line in findings)

    def _ask(self, arena: Arena, client: ClientProcess, plan: Plan) -> dict[str, Any]:
        orders = {**arena.orders(), "plan": plan.as_json(), "hops": plan.hops,
                  "dice": f"{self.seed}/{plan.number}"}  # fmt: skip
        actions = arena.prepare(plan)
        client.tell(orders)
        if client.answer(PATIENCE) is None:
            raise Hung("the client did not begin")
        begun = time.monotonic()
        while True:
            left = carry_out(actions, begun)
            answer = client.answer(1.0 if left is None else min(left, 1.0))
            if answer is not None:
                return answer
            if time.monotonic() > begun + PATIENCE:
                raise Hung(f"no answer within {PATIENCE} s: {client.dump()}")

    def _found(self, plan: Plan, lines: list[str]) -> None:
        text = "\n  ".join([f"round {plan.number}: {plan}", *lines])
        again = f"again: scripts/chaos --seed {self.seed} --round {plan.number}"
        with self._lock:
            self.findings.append(text)
            print(f"FOUND in {text}\n  {again}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as long as the arguments say; print what came; return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("minutes", nargs="?", type=float, default=15.0)
    parser.add_argument("--seed", type=int, help="of a run that shall come again")
    parser.add_argument("--round", type=int, help="only this one, or the first of --rounds")
    parser.add_argument("--rounds", type=int, help="so many at most")
    parser.add_argument("--lanes", type=int, default=LANES, help="rounds at the same time")
    given = parser.parse_args(arguments)
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}", flush=True)
    first = given.round or 0
    most = given.rounds or (1 << 30 if given.round is None else 1)
    chaos = Chaos(seed)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="hussh-chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        chaos.run(
            given.minutes * 60, folder, first, min(given.lanes, most), most,
        )  # fmt: skip
    _report(chaos, time.monotonic() - begin)
    return bool(chaos.findings)


def _report(chaos: Chaos, seconds: float) -> None:
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{chaos.rounds} rounds in {seconds / 60:.1f} minutes, load {load}")
    print(f"{'fault':12} {'rounds':>7} {'right':>7}  other outcomes")
    for kind, counts in chaos.counts.items():
        rounds = chaos.kinds[kind] if kind else chaos.rounds
        others = [f"{count} {name}" for name, count in counts.most_common() if name != "right"]
        print(f"{kind or 'all':12} {rounds:7} {counts['right']:7}  {', '.join(others)}")
    print(f"the load excused {chaos.worst:.2f} s beyond the limit and half a second, at most")
    print(f"{len(chaos.findings)} findings" if chaos.findings else "nothing found")


if __name__ == "__main__":
    sys.exit(main())
