"""One command on each of 200 targets: hussh's MultiConnection beside its peers, in one run.

The targets are the addresses of one real sshd, reached directly and through one
bastion, each client with all of them at once; a row is everything from the first
connection to the last one closed.  The clients take turns.  Everything runs in a
network namespace of its own, since one sshd listens on few addresses or on all.
Writes docs/multi.md.  Run it with scripts/bench --multi.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from benchmarks.bench import OURS, Worker, shuffled  # noqa: E402
from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

ROWS = {"direct": "direct", "jump": "through one bastion"}
ONE_LOOP = "hussh in one loop"
INSIDE = "--in-namespace"
REST = 10.0  # seconds, at most
#: Clients that took no more milliseconds than this to warm up get so many times the repetitions:
#: where they differ by a few per cent, two repetitions are mostly noise.
QUICK, OFTEN = 3500.0, 3


def enter_namespace() -> None:
    """Run this program again in a network namespace whose only network is its loopback."""
    if os.geteuid():
        raise SystemExit("bench: network namespaces need root")
    again = [sys.executable, str(Path(__file__).resolve()), INSIDE, *sys.argv[1:]]
    script = 'ip link set lo up && exec "$@"'
    os.execvp("unshare", ["unshare", "--net", "sh", "-c", script, "sh", *again])


def rest(servers: list[Sshd]) -> None:
    """Let the servers end what one client left, so that the next does not pay for it."""
    end = time.monotonic() + REST
    while any(server.processes() for server in servers) and time.monotonic() < end:
        time.sleep(0.05)


def measure(arguments: argparse.Namespace) -> list[Worker]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hussh-bench-")))
        (folder / "keys").mkdir()
        keys = Keys(folder / "keys")
        home = folder / "home"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        key = keys.get("ed25519", name="bench")
        options = {"LogLevel": "INFO", "MaxStartups": 10 * arguments.targets}
        servers = {}
        for name, address in (("bastion", "127.0.0.1"), ("target", "0.0.0.0")):
            server = Sshd(folder / name, keys, name=name, address=address, options=options)
            server.authorize(server.alice, key)
            servers[name] = stack.enter_context(server)
        bastion, target = servers["bastion"], servers["target"]
        targets = [f"127.1.{i // 250}.{i % 250 + 1}" for i in range(arguments.targets)]
        known = home / ".ssh/known_hosts"
        lines = [bastion.known_hosts_line()]
        lines += [target.known_hosts_line(host=host) for host in targets]
        known.write_text("".join(lines))
        bed: dict[str, Any] = {
            "user": target.alice.name,
            "key": str(key.path),
            "known_hosts": str(known),
            "home": str(home),
            "targets": targets,
            "port": target.port,
            "bastion": [bastion.host, bastion.port],
        }
        ports = {"direct": [target.port], "jump": [bastion.port]}
        clients = [
            (OURS, sys.executable, "multi_hussh"),
            (ONE_LOOP, sys.executable, "multi_loop"),
            ("parallel-ssh", sys.executable, "multi_pssh"),
            ("hussh 0.3.3", arguments.python_033, "multi_033"),
            ("asyncssh", sys.executable, "multi_asyncssh"),
            ("OpenSSH", sys.executable, "multi_openssh"),
        ]
        only = arguments.only.split(",") if arguments.only else None
        workers = [
            Worker(name, python, module, bed)
            for name, python, module in clients
            if python and (only is None or name in only)
        ]
        for row in ROWS:
            slow: set[str] = set()
            for repetition in range(arguments.repetitions * OFTEN + 1):
                for worker in shuffled(workers, repetition):
                    if repetition % OFTEN and worker.name in slow:
                        continue
                    sample = worker.ask({"row": row, "ports": ports[row]})
                    rest(list(servers.values()))
                    if repetition:
                        worker.samples[row].append(sample)
                    elif sample["ms"] > QUICK:  # this is the warm-up
                        slow.add(worker.name)
                    print(f"  {row} {worker.name}: {sample}", file=sys.stderr, flush=True)
        for worker in workers:
            worker.end()
        return workers


def table(workers: list[Worker], what: str, unit: str, scale: float) -> list[str]:
    lines = [
        f"| median, {unit} | " + " | ".join(worker.name for worker in workers) + " |",
        "|---|" + "---:|" * len(workers),
    ]
    for row, title in ROWS.items():
        base = workers[0].median(row, what)
        cells = []
        for worker in workers:
            value = worker.median(row, what)
            if value is None or not base:
                cells.append("–")
            elif worker is workers[0]:
                cells.append(f"**{value * scale:.2f}**")
            else:
                cells.append(f"{value * scale:.2f} ({value / base:.1f} ×)")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return lines


def goals(workers: list[Worker]) -> list[str]:
    lines = ["| goal | measured, of the best peer's | reached |", "|---|---:|---|"]
    peers = [
        worker for worker in workers if not worker.name.startswith(OURS) or "0.3" in worker.name
    ]
    for row, title in ROWS.items():
        for what, name in (("ms", "wall time"), ("cpu_ms", "client CPU")):
            ours = workers[0].median(row, what)
            best = min(value for worker in peers if (value := worker.median(row, what)))
            ratio = ours / best if ours else float("nan")
            reached = "yes" if ratio < 1 else "**no**"
            lines.append(f"| fastest in {name}, {title} | {ratio:.2f} | {reached} |")
    return lines


def report(workers: list[Worker], arguments: argparse.Namespace) -> str:
    version = ".".join(map(str, openssh_version()))
    return "\n".join(
        [
            "# Many hosts beside peers",
            "",
            "Written by `scripts/bench --multi`; do not edit.",
            "",
            f"One command on each of {arguments.targets} targets, all at once, from the first",
            "connection to the last one closed: one real sshd (MaxStartups raised) with an",
            "address for each target, and one as the bastion, all on loopback. One process for",
            f"each client, in random order: {arguments.repetitions} repetitions after a warm-up,",
            f"{arguments.repetitions * OFTEN} where that took under {QUICK / 1000:g} s.",
            "In brackets: how many times ours. The servers share the cores with the",
            "client and take most of the wall time; the differences are the client's. A client",
            "that returns while its connections are being closed, as hussh 0.3.3 does, is waited",
            "for; parallel-ssh does not close them, so its rows end when it returns.",
            "",
            f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
            "",
            "## Time",
            "",
            *table(workers, "ms", "s", 0.001),
            "",
            "## CPU time of the client, its child processes included",
            "",
            *table(workers, "cpu_ms", "s", 0.001),
            "",
            "- hussh: `MultiConnection`; one loop: `AsyncConnection` in tasks of one asyncio loop.",
            "- hussh and OpenSSH check the host keys strictly, asyncssh does, too; parallel-ssh",
            "  and hussh 0.3.3 check none.",
            "- parallel-ssh logs in to the bastion once for each target; the others once in all",
            "  (OpenSSH through a ControlMaster).",
            "",
            "## Goals",
            "",
            *(goals(workers) if len(workers) > 2 else []),
            "",
            "## Peak memory of the client process, or of its largest child",
            "",
            "| " + " | ".join(worker.name for worker in workers) + " |",
            "|" + "---:|" * len(workers),
            "| " + " | ".join(f"{worker.peak_mib:.0f} MiB" for worker in workers) + " |",
            "",
        ]
    )


def main() -> None:
    if INSIDE not in sys.argv:
        enter_namespace()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(INSIDE, action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--targets", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--python-033", help="an interpreter that has hussh 0.3.3")
    parser.add_argument("--only", help="comma-separated clients")
    parser.add_argument("--output", type=Path, default=TOP / "docs/multi.md")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    workers = measure(arguments)
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(report(workers, arguments))
    print(arguments.output.read_text())


if __name__ == "__main__":
    main()
