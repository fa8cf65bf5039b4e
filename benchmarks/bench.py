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
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

ROWS = {
    "connect": "connect",
    "exec": "exec on an open connection",
    "exec_jump": "exec through a bastion",
    "exec_chain3": "exec in a chain of three",
    "first_exec_inner": "first exec on a fresh inner session",
    "cold_jump": "bastion + target + exec, cold",
}
OURS = "hussh"


class Worker:
    """One client in its own process."""

    def __init__(self, name: str, python: str, module: str, bed: dict[str, Any]) -> None:
        self.name = name
        environment = {**os.environ, "HOME": bed["home"]}
        if name == OURS:
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


def measure(workers: list[Worker], repetitions: int) -> None:
    for row in ROWS:
        for repetition in range(repetitions + 1):
            # Another client begins each time: none always follows the same neighbour.
            turn = repetition % len(workers)
            for worker in workers[turn:] + workers[:turn]:
                if row in worker.rows:
                    sample = worker.ask({"row": row})
                    if repetition:  # the first is warm-up
                        worker.samples[row].append(sample)
        print(f"  {row}", file=sys.stderr, flush=True)


def table(workers: list[Worker], what: str, unit: str) -> list[str]:
    lines = [
        f"| median, {unit} | " + " | ".join(worker.name for worker in workers) + " |",
        "|---|" + "---:|" * len(workers),
    ]
    ours = workers[0]
    for row, title in ROWS.items():
        cells = []
        base = ours.median(row, what)
        for worker in workers:
            value = worker.median(row, what)
            if value is None:
                cells.append("–")
            elif worker is ours or not base:
                cells.append(f"**{value:.2f}**")
            else:
                cells.append(f"{value:.2f} ({value / base:.1f} ×)")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def goals(workers: list[Worker]) -> list[str]:
    """What we set out to reach, and what this run says."""
    by_name = {worker.name: worker for worker in workers}
    ours = by_name[OURS]

    def ratio(row: str, other: float | None) -> float:
        mine = ours.median(row)
        return mine / other if mine and other else float("nan")

    direct = ours.median("exec")
    rows = [
        ("exec through a bastion, of a direct one", ratio("exec_jump", direct), "≤ 1.3"),
        ("exec in a chain of three, of a direct one", ratio("exec_chain3", direct), "≤ 1.6"),
        ("first exec on a fresh inner session, of a later one",
         ratio("first_exec_inner", ours.median("exec_jump")), "< 3"),
    ]  # fmt: skip
    peer = by_name.get("asyncssh")
    if peer:
        rows += [
            ("connect, of asyncssh's", ratio("connect", peer.median("connect")), "≤ 1"),
            ("direct exec, of asyncssh's", ratio("exec", peer.median("exec")), "≤ 1"),
            (
                "the cold jump, of asyncssh's",
                ratio("cold_jump", peer.median("cold_jump")),
                "≤ 0.45",
            ),
        ]
    old = by_name.get("hussh 0.3.3")
    if old:
        slow = ratio("exec_jump", old.median("exec_jump"))
        rows.append(("exec through a bastion, of 0.3.3's", slow, "≤ 0.125"))
    lines = ["| our time as a part | measured | goal |", "|---|---:|---:|"]
    return lines + [f"| {name} | {value:.2f} | {goal} |" for name, value, goal in rows]


def report(workers: list[Worker], repetitions: int) -> str:
    version = ".".join(map(str, openssh_version()))
    lines = [
        "# Figures",
        "",
        "Written by `scripts/bench`; do not edit. Real sshds on loopback, one process for each",
        f"client, {repetitions} repetitions in turns, after one warm-up. In brackets: how many",
        "times ours. Absolute times belong to the machine, ratios to the clients.",
        "Transfers have [a page of their own](benchmarks-sftp.md).",
        "",
        f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
        "",
        "## Time",
        "",
        *table(workers, "ms", "ms"),
        "",
        "OpenSSH: an open connection is a ControlMaster; each exec starts a program.",
        "",
        "## CPU time of the client",
        "",
        *table(workers, "cpu_ms", "ms of CPU"),
        "",
        "## Goals",
        "",
        *goals(workers),
        "",
        "## Peak memory of the client process",
        "",
        "| " + " | ".join(worker.name for worker in workers) + " |",
        "|" + "---:|" * len(workers),
        "| " + " | ".join(f"{worker.peak_mib:.0f} MiB" for worker in workers) + " |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=40)
    parser.add_argument("--output", type=Path, default=TOP / "docs/benchmarks.md")
    parser.add_argument("--python-033", help="an interpreter that has hussh 0.3.3")
    parser.add_argument("--only", help="comma-separated clients")
    arguments = parser.parse_args()
    clients = [(OURS, sys.executable, "hussh_ours")]
    if arguments.python_033:
        clients.append(("hussh 0.3.3", arguments.python_033, "hussh_033"))
    clients += [
        ("asyncssh", sys.executable, "asyncssh_client"),
        ("OpenSSH", sys.executable, "openssh"),
    ]
    if arguments.only:
        clients = [client for client in clients if client[0] in arguments.only.split(",")]
    with tempfile.TemporaryDirectory(prefix="hussh-bench-") as folder:
        (keys_folder := Path(folder, "keys")).mkdir()
        keys = Keys(keys_folder)
        home = Path(folder, "home")
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        key = keys.get("ed25519", name="bench")
        servers = {}
        try:
            for name in ("bastion", "middle", "target"):
                server = Sshd(Path(folder, name), keys, name=name, options={"LogLevel": "INFO"})
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
            workers = [Worker(name, python, module, bed) for name, python, module in clients]
            measure(workers, arguments.repetitions)
            for worker in workers:
                worker.end()
        finally:
            for server in servers.values():
                server.stop()
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(report(workers, arguments.repetitions))
    print(arguments.output.read_text())


main()
