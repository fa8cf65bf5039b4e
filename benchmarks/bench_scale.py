"""How hussh fares with 10 to 3000 targets behind one bastion and behind four.

The bastions are real sshds.  The targets are real sshds up to --real, and a
light SSH server (asyncssh) for any number: one address of 127.0.0.0/8 each.  The
client runs in a process of its own (benchmarks/clients/scale.py), which connects
to all, rests, runs a command on each, and closes.  Writes docs/scale.md,
docs/scale.json and docs/scale.png.  Run it with scripts/bench --scale.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

COUNTS = (10, 100, 1000, 3000)
BASTIONS = (1, 4)
LIGHT_PORT = 2222
LIGHT_SERVERS = 2
#: A few descriptors for the client's own files; the targets need none.
FEW = 64
GOAL_KIB = 120
GOAL_FLAT = 1.2

Row = dict[str, Any]


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


def measure(arguments: argparse.Namespace) -> list[Row]:
    counts = [count for count in COUNTS if count <= arguments.most]
    rows = []
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
            stack.enter_context(server)
        *bastions, target = servers
        lights = [address(index) for index in range(max(counts))]
        stack.enter_context(Light(lights, host_key.path, folder / "authorized"))
        known = home / ".ssh/known_hosts"
        lines = [server.known_hosts_line() for server in servers]
        blob = " ".join(host_key.public_line.split()[:2])
        lines += [f"[{light}]:{LIGHT_PORT} {blob}\n" for light in lights]
        known.write_text("".join(lines))
        orders: dict[str, Any] = {
            "user": target.alice.name,
            "key": str(key.path),
            "known_hosts": str(known),
            "home": str(home),
            "at_once": arguments.at_once,
        }
        for kind in ("light", "real"):
            for through in BASTIONS:
                for count in counts:
                    if kind == "real" and (count > arguments.real or through > 1):
                        continue
                    places = [[light, LIGHT_PORT] for light in lights[:count]]
                    if kind == "real":
                        places = [[target.host, target.port]] * count
                    ways = [[server.host, server.port] for server in bastions[:through]]
                    row = run_client({**orders, "targets": places, "bastions": ways})
                    rows.append({"kind": kind, "bastions": through, "targets": count, **row})
                    print("  " + " | ".join(cells(rows[-1])), file=sys.stderr, flush=True)
    return rows


# -- the report


HEAD = (
    "targets", "bastions", "connect, s", "CPU ms each", "exec, s", "CPU ms each",
    "KiB each, idle", "after exec", "at the peak", "fds",
    "poll returns, connect", "operations woken, connect", "poll returns, exec",
    "operations woken, exec",
)  # fmt: skip


def per(row: Row, phase: str, what: str, of: str | None = None) -> float:
    base = row["targets"] if of is None else max(1, row[phase][of])
    return float(row[phase][what]) / base


def cells(row: Row) -> list[str]:
    kib = 1024
    return [
        f"{row['targets']} {row['kind']}",
        str(row["bastions"]),
        f"{row['connect']['wall']:.2f}",
        f"{per(row, 'connect', 'cpu') * 1000:.2f}",
        f"{row['exec']['wall']:.2f}",
        f"{per(row, 'exec', 'cpu') * 1000:.2f}",
        f"{row['idle']['as_is'] / kib:.0f} ({row['idle']['trimmed'] / kib:.0f})",
        f"{row['after_exec']['as_is'] / kib:.0f} ({row['after_exec']['trimmed'] / kib:.0f})",
        f"{row['peak_per_target'] / kib:.0f}",
        f"{row['fds']}",
        f"{per(row, 'connect', 'polls', 'outer_packets'):.2f}",
        f"{per(row, 'connect', 'wakes', 'outer_packets'):.2f}",
        f"{per(row, 'exec', 'polls', 'outer_packets'):.2f}",
        f"{per(row, 'exec', 'wakes', 'outer_packets'):.2f}",
    ]


def goals(rows: list[Row]) -> list[str]:
    lines = ["| goal | measured | reached |", "|---|---:|---|"]

    def goal(name: str, value: str, reached: bool) -> None:
        lines.append(f"| {name} | {value} | {'yes' if reached else '**no**'} |")

    for through in BASTIONS:
        of = {r["targets"]: r for r in rows if r["kind"] == "light" and r["bastions"] == through}
        wide = [count for count in of if count >= 100]
        for phase in ("connect", "exec"):
            costs = [per(of[count], phase, "cpu") for count in wide]
            if len(costs) > 1:
                ratio = max(costs) / costs[0]
                name = f"CPU per target, {phase}, {wide[0]} to {wide[-1]}, {through} bastion(s)"
                goal(f"{name}: at most {GOAL_FLAT} times", f"{ratio:.2f}", ratio <= GOAL_FLAT)
    big = [r for r in rows if r["targets"] >= 100]
    if big:
        kib = max(r["idle"]["as_is"] for r in big) / 1024
        goal(f"memory per idle target below {GOAL_KIB} KiB", f"{kib:.0f}", kib < GOAL_KIB)
    fds = max(r["fds"] - r["fds_before"] for r in rows)
    goal("descriptors that the targets cost: none", str(fds), fds <= 0)
    return lines


def report(rows: list[Row], arguments: argparse.Namespace) -> str:
    version = ".".join(map(str, openssh_version()))
    return "\n".join(
        [
            "# Thousands of targets",
            "",
            "Written by `scripts/bench --scale`; do not edit.",
            "",
            "Real sshds as bastions, on loopback; `real` targets are an sshd too, `light` ones a",
            "light server (asyncssh) with an address of 127.0.0.0/8 for each. The client is one",
            f"process with one asyncio loop; {arguments.at_once} connections at a time are made,",
            "then each target is left idle, then each runs one command. Servers share the cores",
            "with the client: wall times are mostly theirs.",
            "",
            f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
            "",
            "| " + " | ".join(HEAD) + " |",
            "|---|" + "---:|" * (len(HEAD) - 1),
            *("| " + " | ".join(cells(row)) + " |" for row in rows),
            "",
            "- **CPU** is user and system time of the client, after one connection as a warm-up.",
            "- **KiB each** is the growth of the resident set since before the first target,",
            "  after a garbage collection; in brackets the same after `malloc_trim(0)`, which",
            "  gives back what the allocator holds free.",
            "- **poll returns**, **operations woken**: for each packet that came from a bastion.",
            "  More packets than returns arrive together; of the operations only those are woken",
            "  whose target the packet was for.",
            "- **fds** counts all of the client's, its bastions included.",
            "",
            "![CPU, memory and time by number of targets](scale.png)",
            "",
            *goals(rows),
            "",
        ]
    )


def chart(rows: list[Row], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    series = sorted({(r["kind"], r["bastions"]) for r in rows})
    panels = (
        ("client CPU per target, ms\n(connect and one command)",
         lambda r: (per(r, "connect", "cpu") + per(r, "exec", "cpu")) * 1000),
        ("memory per idle target, KiB", lambda r: r["idle"]["as_is"] / 1024),
        ("wall time of all, s\n(connect and one command)",
         lambda r: r["connect"]["wall"] + r["exec"]["wall"]),
    )  # fmt: skip
    for axis, (title, value) in zip(axes, panels, strict=True):
        for kind, through in series:
            mine = [r for r in rows if (r["kind"], r["bastions"]) == (kind, through)]
            label = f"{kind} targets, {through} bastion" + "s" * (through > 1)
            xs, ys = [r["targets"] for r in mine], [value(r) for r in mine]
            axis.plot(xs, ys, marker="o", label=label)
        axis.set_xscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("targets")
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[1].axhline(GOAL_KIB, color="grey", linestyle=":", label="goal")
    axes[1].legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=COUNTS[-1], help="no row with more targets")
    parser.add_argument("--real", type=int, default=1000, help="most targets that are real sshds")
    parser.add_argument("--at-once", type=int, default=100, help="connections made at a time")
    parser.add_argument("--short", action="store_true", help="--most 1000 --real 100")
    parser.add_argument("--output", type=Path, default=TOP / "docs", help="folder for the results")
    arguments = parser.parse_args()
    if arguments.short:
        arguments.most, arguments.real = min(arguments.most, 1000), min(arguments.real, 100)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # Of the bastions: two for each target, with room.
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < 2 * arguments.most + FEW:
        raise SystemExit(f"bench: {hard} descriptors are too few; --most {hard // 2 - FEW} fits")
    rows = measure(arguments)
    arguments.output.mkdir(exist_ok=True)
    (arguments.output / "scale.json").write_text(json.dumps(rows, indent=1) + "\n")
    (arguments.output / "scale.md").write_text(report(rows, arguments))
    chart(rows, arguments.output / "scale.png")
    print((arguments.output / "scale.md").read_text())


main()
