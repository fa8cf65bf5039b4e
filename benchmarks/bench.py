"""Runs the clients side by side against real sshds and writes the table in docs/.

All clients do a row in turn, repetition by repetition, so that a machine whose
speed drifts slows all of them; what counts is the ratio of the medians.
Run it through scripts/bench, which prepares the environments.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from benchmarks.picture import FIGURES, PICTURE, draw, read_row  # noqa: E402
from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

ROWS = {
    "connect": "connect",
    "exec": "exec on an open connection",
    "exec_jump": "exec through a bastion",
    "exec_chain3": "exec in a chain of three",
    "first_exec_inner": "first exec on a fresh inner session",
    "cold_jump": "bastion + target + exec, cold",
    "exec40": "40 execs at once",
    "targets100": "100 targets through one bastion, exec on each",
}
#: Rows that take long are repeated less often.
MOST_REPETITIONS = {"exec40": 15, "targets100": 3}
OURS = "hussh"
OURS_ASYNC = "hussh.aio"
OURS_TRIO = "hussh.aio on trio"
OLD, OLD_ASYNC = "hussh 0.3.3", "hussh.aio 0.3.3"
PEER = "asyncssh"
#: The columns of the two sets of tables; ours first.
SYNC = (OURS, OLD, PEER, "OpenSSH")
ASYNC = (OURS_ASYNC, OURS_TRIO, OLD_ASYNC, PEER)
ASYNC_ROWS = ("connect", "exec", "exec_jump", "exec40", "cold_jump", "targets100")


class Worker:
    """One client in its own process."""

    def __init__(self, name: str, python: str, module: str, bed: dict[str, Any]) -> None:
        self.name = name
        environment = {**os.environ, "HOME": bed["home"]}
        if python == sys.executable:
            environment["PYTHONPATH"] = str(TOP)
        else:
            environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [python, str(TOP / "benchmarks/clients/worker.py"), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=bed["home"],
        )
        self.rows: list[str] = self.ask({"setup": bed})["rows"]
        self.samples: dict[str, list[dict[str, float]]] = {row: [] for row in self.rows}
        self.peak_mib = 0.0

    def ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the client {self.name} died (see above)")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def end(self) -> None:
        self.peak_mib = self.ask({"end": True})["peak_mib"]
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)

    def median(self, row: str, what: str = "ms") -> float | None:
        samples = self.samples.get(row)
        return statistics.median(sample[what] for sample in samples) if samples else None


def shuffled(workers: list[Worker], repetition: int) -> list[Worker]:
    """The clients in an order of this repetition: none always follows the same neighbour.

    Whoever follows one that leaves the cores busy, or idle for long, finds another machine.
    """
    return random.Random(repetition).sample(workers, len(workers))


def measure(workers: list[Worker], rows: list[str], repetitions: int) -> None:
    for row in rows:
        for repetition in range(min(repetitions, MOST_REPETITIONS.get(row, repetitions)) + 1):
            for worker in shuffled(workers, repetition):
                if row in worker.rows:
                    sample = worker.ask({"row": row})
                    if repetition:  # the first is warm-up
                        worker.samples[row].append(sample)
        print(f"  {row}", file=sys.stderr, flush=True)


def table(
    workers: dict[str, Worker], names: tuple[str, ...], rows: dict[str, str], what: str, unit: str
) -> list[str]:
    """A table of the rows that the first of these clients has samples of."""
    columns = [workers[name] for name in names if name in workers]
    lines = [
        f"| median, {unit} | " + " | ".join(worker.name for worker in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row, title in rows.items():
        cells = []
        base = columns[0].median(row, what)
        if base is None:
            continue
        for worker in columns:
            value = worker.median(row, what)
            if value is None:
                cells.append("–")
            elif worker is columns[0] or not base:
                cells.append(f"**{value:.2f}**")
            else:
                cells.append(f"{value:.2f} ({value / base:.1f} ×)")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def goals(workers: dict[str, Worker]) -> list[str]:
    """What we set out to reach, and what this run says."""

    def value(name: str, row: str, what: str = "ms") -> float:
        found = workers[name].median(row, what) if name in workers else None
        return float("nan") if found is None else found

    def ours(row: str, other: float) -> float:
        return value(OURS, row) / other

    rows = [
        ("exec through a bastion, of a direct one",
         ours("exec_jump", value(OURS, "exec")), "≤ 1.3"),
        ("exec in a chain of three, of a direct one",
         ours("exec_chain3", value(OURS, "exec")), "≤ 1.6"),
        ("first exec on a fresh inner session, of a later one",
         ours("first_exec_inner", value(OURS, "exec_jump")), "< 3"),
        ("connect, of asyncssh's", ours("connect", value(PEER, "connect")), "≤ 1"),
        ("direct exec, of asyncssh's", ours("exec", value(PEER, "exec")), "≤ 1"),
        ("the cold jump, of asyncssh's", ours("cold_jump", value(PEER, "cold_jump")), "≤ 0.45"),
        ("exec through a bastion, of 0.3.3's", ours("exec_jump", value(OLD, "exec_jump")),
         "≤ 0.125"),
    ]  # fmt: skip
    for peer in (PEER, OLD_ASYNC):
        rows += [
            (f"async: {ROWS[row]}, of {peer}'s", value(OURS_ASYNC, row) / value(peer, row), "< 1")
            for row in ASYNC_ROWS
        ]
    cpu = value(OURS_ASYNC, "targets100", "cpu_ms") / value(PEER, "targets100", "cpu_ms")
    rows.append(("async: client CPU for the 100 targets, of asyncssh's", cpu, "≤ 0.35"))
    lines = ["| our time as a part | measured | goal |", "|---|---:|---:|"]
    return lines + [
        f"| {name} | {part:.2f} | {goal} |" for name, part, goal in rows if part == part
    ]


def report(workers: dict[str, Worker], repetitions: int) -> str:
    version = ".".join(map(str, openssh_version()))
    asynchronous = {row: ROWS[row] for row in ASYNC_ROWS}
    synchronous = {row: title for row, title in ROWS.items() if row not in MOST_REPETITIONS}
    lines = [
        "# Figures",
        "",
        "Written by `scripts/bench`; do not edit. Real sshds on loopback, one process for each",
        f"client, {repetitions} repetitions in turns (3 for the 100 targets), after one warm-up.",
        "In brackets: how many times ours. Absolute times belong to the machine, ratios to the",
        "clients. Transfers have [a page of their own](benchmarks-sftp.md), and so have",
        "[200 targets at once](multi.md) and [thousands of them](scale.md).",
        "",
        f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
    ]
    sets = [("", SYNC, synchronous), (", async", ASYNC, asynchronous)]
    for name, columns, rows in sets:
        if columns[0] not in workers:
            continue
        lines += ["", f"## Time{name}", "", *table(workers, columns, rows, "ms", "ms")]
        if "OpenSSH" in columns:
            lines += ["", ("OpenSSH: an open connection is a ControlMaster; each exec starts a"
                      " program.")]  # fmt: skip
        lines += ["", f"## CPU time of the client{name}", ""]
        lines += table(workers, columns, rows, "cpu_ms", "ms of CPU")
    if OURS_ASYNC in workers:
        lines += ["", "## Memory for 100 targets through one bastion", ""]
        row = {"targets100": "growth of the process until its peak"}
        lines += table(workers, ASYNC, row, "grown_mib", "MiB")
        if OLD_ASYNC in workers:
            lines += ["", ("0.3.3 starts an `ssh` program for each target, whose memory is not"
                      " counted.")]  # fmt: skip
    shown = list(workers.values())
    lines += [
        "",
        "## Goals",
        "",
        *goals(workers),
        "",
        "## Peak memory of the client process",
        "",
        "| " + " | ".join(worker.name for worker in shown) + " |",
        "|" + "---:|" * len(shown),
        "| " + " | ".join(f"{worker.peak_mib:.0f} MiB" for worker in shown) + " |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--output", type=Path, default=TOP / "docs/benchmarks.md")
    parser.add_argument("--python-033", help="an interpreter that has hussh 0.3.3")
    parser.add_argument("--only", help="comma-separated clients")
    parser.add_argument("--rows", help=f"comma-separated, of {', '.join(ROWS)}")
    arguments = parser.parse_args()
    clients = [
        (OURS, sys.executable, "hussh_ours"),
        (OURS_ASYNC, sys.executable, "hussh_aio"),
        (OURS_TRIO, sys.executable, "hussh_trio"),
    ]
    if arguments.python_033:
        clients += [
            (OLD, arguments.python_033, "hussh_033"),
            (OLD_ASYNC, arguments.python_033, "hussh_033_aio"),
        ]
    clients += [
        (PEER, sys.executable, "asyncssh_client"),
        ("OpenSSH", sys.executable, "openssh"),
    ]
    rows = arguments.rows.split(",") if arguments.rows else list(ROWS)
    if arguments.only:
        clients = [client for client in clients if client[0] in arguments.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="hussh-bench-") as folder:
        (keys_folder := Path(folder, "keys")).mkdir()
        keys = Keys(keys_folder)
        home = Path(folder, "home")
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        key = keys.get("ed25519", name="bench")
        servers = {}
        workers: list[Worker] = []
        try:
            for name in ("bastion", "middle", "target"):
                options = {"LogLevel": "INFO", "MaxSessions": 200, "MaxStartups": "300:30:300"}
                server = Sshd(Path(folder, name), keys, name=name, options=options)
                server.authorize(server.alice, key)
                servers[name] = server.start()
            known = home / ".ssh/known_hosts"
            known.write_text("".join(s.known_hosts_line() + "\n" for s in servers.values()))
            bed = {
                "user": servers["bastion"].alice.name,
                "key": str(key.path),
                "known_hosts": str(known),
                "home": str(home),
                **{name: [server.host, server.port] for name, server in servers.items()},
            }
            for name, python, module in clients:
                workers.append(Worker(name, os.path.abspath(python), module, bed))
            measure(workers, rows, arguments.repetitions)
            for worker in workers:
                worker.end()
        finally:
            for worker in workers:
                worker.process.kill()
            for server in servers.values():
                server.stop()
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(report({w.name: w for w in workers}, arguments.repetitions))
    print(arguments.output.read_text())
    if arguments.output == FIGURES and not arguments.only and not arguments.rows:
        PICTURE.write_text(draw(read_row(FIGURES.read_text())))


if __name__ == "__main__":
    main()
