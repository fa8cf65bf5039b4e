"""How hussh fares with 10 to 3000 targets behind one bastion and behind four.

The bastions are real sshds.  The targets are real sshds up to --real, and a
light SSH server (asyncssh) for any number: one address of 127.0.0.0/8 each.  The
client runs in a process of its own (benchmarks/clients/scale.py), which warms up,
connects to all, rests, runs commands on each, and closes; either with an
`AsyncConnection` for each target or with a `MultiConnection` for all.  Each row
is measured by a few processes, in turns with the other rows.  Writes
docs/scale.md, docs/scale.json and docs/scale.png.  Run it with scripts/bench --scale.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from benchmarks.scale_report import chart, line, report, row_of  # noqa: E402
from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd  # noqa: E402

COUNTS = (10, 100, 1000, 3000)
BASTIONS = (1, 4)
LIGHT_PORT = 2222
LIGHT_SERVERS = 2
#: A few descriptors for the client's own files; the targets need none.
FEW = 64
#: Connections that a process opens, uses and closes before it is measured.
WARM_UP = 100
#: Connections, and commands, that are enough for a phase's CPU time to be measured: rows with
#: fewer targets connect to them in more rounds, and run more than one command on each.
CONNECTIONS = 1000
COMMANDS = 2000
MOST_ROUNDS = 20
#: How many processes measure a row, and one with enough targets for all to be measured in a round.
MOST_PROCESSES, FEWER_PROCESSES = 5, 3
#: For a real target sshd forks twice.
REAL_COMMANDS = 500
#: Seconds until hussh trusts the times of a file that was written; until then it reads the file
#: again for each connection.
FILE_SETTLES = 2.5

Row = dict[str, Any]


class Plan(NamedTuple):
    """One row: which API, what targets, through how many bastions, how many targets."""

    api: str
    kind: str
    bastions: int
    targets: int

    @property
    def rounds(self) -> int:
        most = 3 if self.kind == "real" else MOST_ROUNDS
        return max(1, min(most, CONNECTIONS // self.targets))

    @property
    def processes(self) -> int:
        if self.kind == "real":
            return 1  # what takes the time there is the servers'
        return MOST_PROCESSES if self.targets < CONNECTIONS else FEWER_PROCESSES

    @property
    def repeat(self) -> int:
        """How many commands each target runs in a round's one phase."""
        commands = REAL_COMMANDS if self.kind == "real" else COMMANDS
        return max(1, commands // self.rounds // self.targets)


class Light:
    """Light servers that share the addresses between them."""

    def __init__(self, addresses: list[str], host_key: Path, authorized: Path) -> None:
        self.processes = []
        for index in range(LIGHT_SERVERS):
            process = subprocess.Popen(
                [sys.executable, str(TOP / "benchmarks/light_server.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.processes.append(process)
            orders = {
                "addresses": addresses[index::LIGHT_SERVERS],
                "port": LIGHT_PORT,
                "host_key": str(host_key),
                "authorized_keys": str(authorized),
            }
            assert process.stdin is not None
            process.stdin.write(json.dumps(orders) + "\n")
            process.stdin.flush()

    def __enter__(self) -> Light:
        for process in self.processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise SystemExit("bench: a light server did not start (see above)")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()


def run_client(orders: dict[str, Any]) -> Row:
    process = subprocess.run(
        [sys.executable, str(TOP / "benchmarks/clients/scale.py")],
        input=json.dumps(orders) + "\n",
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(TOP), "HOME": orders["home"]},
    )
    if process.returncode:
        raise SystemExit("bench: the client died (see above)")
    row: Row = json.loads(process.stdout)
    return row


def address(index: int) -> str:
    """One of 127.64.0.0/10, which nothing else is likely to use."""
    return f"127.{64 + index // 62500}.{index // 250 % 250}.{index % 250 + 1}"


@contextmanager
def interrupting_nobody() -> Iterator[None]:
    """Processes that are started meanwhile do not interrupt others when they have something to do.

    On shared cores each packet of the client's would else hand its core to a server,
    more or less often as chance and the number of servers have it.  Over a real
    network they do not share cores.
    """
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


def plans(most: int, real: int) -> list[Plan]:
    light = [count for count in COUNTS if count <= most]
    rows = [Plan("connections", "light", through, n) for through in BASTIONS for n in light]
    rows += [Plan("connections", "real", 1, n) for n in COUNTS if n <= real]
    rows += [Plan("multi", "light", through, n) for through in BASTIONS for n in light if n >= 100]
    rows += [Plan("multi", "real", 1, n) for n in COUNTS if 100 <= n <= min(real, 100)]
    return rows


def measure(arguments: argparse.Namespace) -> list[Row]:
    rows = plans(arguments.most, arguments.real)
    figures: dict[Plan, list[Row]] = {row: [] for row in rows}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hussh-bench-")))
        (folder / "keys").mkdir()
        keys = Keys(folder / "keys")
        home = folder / "home"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        key, host_key = keys.get("ed25519", name="bench"), keys.get("ed25519", name="host-light")
        (folder / "authorized").write_text(key.public_line + "\n")
        names = [*(f"bastion{index}" for index in range(max(BASTIONS))), "target"]
        servers = [
            Sshd(folder / name, keys, name=name, options={"LogLevel": "INFO"}) for name in names
        ]
        for server in servers:
            server.authorize(server.alice, key)
            with interrupting_nobody():
                stack.enter_context(server)
        *bastions, target = servers
        lights = [address(index) for index in range(max(row.targets for row in rows))]
        known = home / ".ssh/known_hosts"
        lines = [server.known_hosts_line() for server in servers]
        blob = " ".join(host_key.public_line.split()[:2])
        lines += [f"[{light}]:{LIGHT_PORT} {blob}\n" for light in lights]
        known.write_text("".join(lines))
        written = time.monotonic()
        with interrupting_nobody():
            light_servers = Light(lights, host_key.path, folder / "authorized")
        stack.enter_context(light_servers)
        time.sleep(max(0.0, written + FILE_SETTLES - time.monotonic()))
        for turn in range(arguments.turns):
            for row in rows:
                if turn >= row.processes:
                    continue
                real = [[target.host, target.port]] * row.targets
                light = [[place, LIGHT_PORT] for place in lights[: row.targets]]
                orders = {
                    "user": target.alice.name,
                    "key": str(key.path),
                    "known_hosts": str(known),
                    "home": str(home),
                    "at_once": arguments.at_once,
                    "api": row.api,
                    "targets": real if row.kind == "real" else light,
                    "bastions": [[server.host, server.port] for server in bastions[: row.bastions]],
                    "warm_up": WARM_UP,
                    "rounds": row.rounds,
                    "repeat": row.repeat,
                    "counted": not turn,
                }
                figures[row].append(run_client(orders))
                so_far = row_of(row._asdict(), figures[row])
                print("  " + line(so_far), file=sys.stderr, flush=True)
    return [row_of(row._asdict(), figures[row]) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="no row with more targets")
    parser.add_argument("--real", type=int, default=1000, help="most targets that are real sshds")
    parser.add_argument("--at-once", type=int, default=100, help="connections made at a time")
    parser.add_argument(
        "--turns", type=int, default=MOST_PROCESSES, help="most processes that measure a row"
    )
    parser.add_argument("--short", action="store_true", help="--most 1000 --real 100 --turns 1")
    parser.add_argument("--output", type=Path, default=TOP / "docs", help="folder for the results")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.most, arguments.real = min(arguments.most, 1000), min(arguments.real, 100)
        arguments.turns = 1
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of the bastions: two for each target, with room.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 2 * arguments.most + FEW:
        raise SystemExit(f"bench: {hard} descriptors are too few; --most {hard // 2 - FEW} fits")
    rows = measure(arguments)
    arguments.output.mkdir(exist_ok=True)
    (arguments.output / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")
    (arguments.output / "scale.md").write_text(report(rows, arguments.at_once))
    chart(rows, arguments.output / "scale.png")
    print((arguments.output / "scale.md").read_text())


if __name__ == "__main__":
    main()
