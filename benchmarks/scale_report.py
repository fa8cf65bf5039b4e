"""What bench_scale's processes say, as rows, a page of Markdown and a chart."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from tests.support.sshd import openssh_version

GOAL_KIB = 120
GOAL_FLAT = 1.2
#: Rows with fewer targets are no part of the goals: fixed costs are a large part of theirs.
GOALS_FROM = 100

Row = dict[str, Any]


def row_of(plan: Row, processes: list[Row]) -> Row:
    """One row: of what each process has, the median, and of CPU times the least and the most.

    Times are in seconds; CPU and the garbage collector's part of it for one connection
    or command, `wall` for all targets once; memory is in bytes for each target.
    """
    targets = plan["targets"]
    row: Row = {**plan, "processes": len(processes)}
    for phase in ("connect", "exec", "close"):
        phases = [[r[phase] for r in process["rounds"]] for process in processes]
        done = [sum(p["items"] for p in of_one) for of_one in phases]
        each = [sum(p["cpu"] for p in of_one) / n for of_one, n in zip(phases, done, strict=True)]
        gc = [sum(p["gc"] for p in of_one) / n for of_one, n in zip(phases, done, strict=True)]
        wall = [p["wall"] * targets / p["items"] for of_one in phases for p in of_one]
        row[phase] = {
            "cpu": median(each),
            "cpu_least": min(each),
            "cpu_most": max(each),
            "gc": median(gc),
            "wall": median(wall),
        }
    for when in ("idle", "after_exec"):
        row[when] = {
            kind: median(process[when][kind] for process in processes)
            for kind in ("as_is", "trimmed")
        }
    row["peak_per_target"] = median(process["peak_per_target"] for process in processes)
    row["fds_before"], row["fds"] = (
        max(process[key] for process in processes) for key in ("fds_before", "fds")
    )
    first = processes[0]
    row["loops"] = first["rounds"][0].get("loops", 1)
    if "counts" in first:
        row["counts"] = first["counts"]
    return row


def flatness(rows: list[Row], phase: str) -> tuple[float, list[float]] | None:
    """The dearest row's CPU over the cheapest one's, from GOALS_FROM targets, and all of them."""
    wide = [r for r in sorted(rows, key=lambda r: int(r["targets"])) if r["targets"] >= GOALS_FROM]
    costs = [float(r[phase]["cpu"]) for r in wide]
    return (max(costs) / min(costs), costs) if len(costs) > 1 else None


# -- the page

HEAD = (
    "targets", "bastions", "loops", "connect, s", "CPU ms each", "exec, s", "CPU ms each",
    "KiB each, idle", "after exec", "at the peak", "fds",
)  # fmt: skip
WAKES = (
    "targets", "bastions", "packets", "poll returns", "per packet", "tasks woken",
    "per packet", "packets", "poll returns", "per packet", "tasks woken", "per packet",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    kib = 1024
    return [
        f"{row['targets']} {row['kind']}",
        str(row["bastions"]),
        str(row["loops"]),
        f"{row['connect']['wall']:.2f}",
        f"{row['connect']['cpu'] * 1000:.2f}",
        f"{row['exec']['wall']:.2f}",
        f"{row['exec']['cpu'] * 1000:.3f}",
        f"{row['idle']['as_is'] / kib:.0f} ({row['idle']['trimmed'] / kib:.0f})",
        f"{row['after_exec']['as_is'] / kib:.0f} ({row['after_exec']['trimmed'] / kib:.0f})",
        f"{row['peak_per_target'] / kib:.0f}",
        f"{row['fds']}",
    ]


def wake_cells(row: Row) -> list[str]:
    found = [f"{row['targets']} {row['kind']}", str(row["bastions"])]
    for phase in ("connect", "exec"):
        counts = row["counts"][phase]
        found.append(f"{counts['packets'] / counts['items']:.1f}")
        for what in ("polls", "wakes"):
            found.append(f"{counts[what] / counts['items']:.2f}")
            found.append(f"{counts[what] / max(1, counts['packets']):.2f}")
    return found


def line(row: Row) -> str:
    """A row for whoever watches the run."""
    return f"{row['api']:11} | " + " | ".join(cells(row))


def table(head: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    return [
        "| " + " | ".join(head) + " |",
        "|---|" + "---:|" * (len(head) - 1),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def goals(rows: list[Row]) -> list[str]:
    lines = ["| goal | measured | reached |", "|---|---:|---|"]

    def goal(name: str, value: str, reached: bool) -> None:
        lines.append(f"| {name} | {value} | {'yes' if reached else '**no**'} |")

    for api in ("connections", "multi"):
        for through in sorted({r["bastions"] for r in rows}):
            own_rows = [
                r for r in rows if (r["api"], r["kind"], r["bastions"]) == (api, "light", through)
            ]
            for phase in ("connect", "exec"):
                found = flatness(own_rows, phase)
                if found is None:
                    continue
                ratio, costs = found
                most = max(r["targets"] for r in own_rows)
                bastions = "1 bastion" if through == 1 else f"{through} bastions"
                goal(
                    f"{phase}, {API[api]}, {bastions}: CPU per target of the dearest row from "
                    f"{GOALS_FROM} to {most} at most {GOAL_FLAT} times that of the cheapest",
                    f"{ratio:.2f} ({', '.join(f'{cost * 1000:.3f}' for cost in costs)} ms)",
                    ratio <= GOAL_FLAT,
                )
    big = [r for r in rows if r["targets"] >= GOALS_FROM]
    if big:
        kib = max(r["idle"]["as_is"] for r in big) / 1024
        goal(f"memory per idle target below {GOAL_KIB} KiB", f"{kib:.0f}", kib < GOAL_KIB)
    # A MultiConnection's bastions are not connected before, and each of its loops has three.
    fds = max(
        r["fds"] - r["fds_before"] - (r["bastions"] + 3 * r["loops"] if r["api"] == "multi" else 0)
        for r in rows
    )
    goal("descriptors that the targets cost: none", str(max(0, fds)), fds <= 0)
    return lines


API = {"connections": "`AsyncConnection`", "multi": "`MultiConnection`"}


def report(rows: list[Row], at_once: int) -> str:
    version = ".".join(map(str, openssh_version()))
    plain = [r for r in rows if r["api"] == "connections"]
    multi = [r for r in rows if r["api"] == "multi"]
    collector = max(r["connect"]["gc"] / r["connect"]["cpu"] for r in rows)
    most = max(r["processes"] for r in rows)
    least = min((r["processes"] for r in rows if r["kind"] == "light"), default=most)
    return "\n".join(
        [
            "# Thousands of targets",
            "",
            "Written by `scripts/bench --scale`; do not edit.",
            "",
            "Real sshds as bastions, on loopback; `real` targets are an sshd too, `light` ones a",
            "light server (asyncssh) with an address of 127.0.0.0/8 for each. The client is one",
            "process. Servers share the cores with the client, so wall times are mostly theirs;",
            "they run as batch work (SCHED_BATCH), which keeps them from interrupting the client.",
            "",
            f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
            f"A row is the median of {most} processes, of {least} from 1000 targets on, in turns",
            "with those of other rows; real targets have one process.",
            "",
            f"## An `AsyncConnection` for each target, {at_once} tasks at a time in one loop",
            "",
            *table(HEAD, [cells(row) for row in plain]),
            "",
            "## One `MultiConnection`, with its defaults",
            "",
            "That is 100 hosts at a time, 8 logins at a time on one server (each light target is",
            "a server, the real ones are one), as many loops as it chooses.",
            "",
            *table(HEAD, [cells(row) for row in multi]),
            "",
            "- **CPU** is user and system time of the client's process. It has opened, used and",
            "  closed 100 connections before. Rows with few targets connect in several rounds and",
            "  run several commands on each target, so that a process measures about 1000 logins",
            "  and 2000 commands in each row.",
            f"  Python's garbage collector has at most {collector:.0%} of it.",
            "- **connect, s** and **exec, s** are for all targets once.",
            "- **KiB each** is the growth of the resident set since the warm-up, after a garbage",
            "  collection; in brackets the same after `malloc_trim(0)`, which gives back what the",
            "  allocator holds free. Some of the warm-up's memory is used again, so rows of 100 or",
            "  less show a little too little.",
            "- **fds** counts all of the client's, its bastions and loops included.",
            "",
            "## What wakes the client",
            "",
            "For each connection (the first five columns) and each command (the last five), in a",
            "round that is not part of the times above. Packets are those that come from the",
            "bastions. More packets than returns of poll arrive together; most wake no task,",
            "since the loop's callback steps the operations of those targets that they are for.",
            "A command costs more CPU time where the packets come in smaller parts and the",
            "client has to be woken more often.",
            "",
            *table(WAKES, [wake_cells(row) for row in plain if "counts" in row]),
            "",
            "![CPU, memory and time by number of targets](scale.png)",
            "",
            *goals(rows),
            "",
        ]
    )


# -- the chart


def chart(rows: list[Row], path: Path) -> None:
    # Only the benchmark's environment has it, and the type checker must not miss it elsewhere.
    import_module("matplotlib").use("Agg")
    pyplot: Any = import_module("matplotlib.pyplot")

    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.8), layout="constrained")
    series = sorted({(r["api"], r["kind"], r["bastions"]) for r in rows if r["targets"] >= 100})
    panels: tuple[tuple[str, Callable[[Row], float], str | None], ...] = (
        ("client CPU per connection, ms", lambda r: r["connect"]["cpu"] * 1000, "connect"),
        ("client CPU per command, ms", lambda r: r["exec"]["cpu"] * 1000, "exec"),
        ("memory per idle target, KiB", lambda r: r["idle"]["as_is"] / 1024, None),
        ("wall time of all, s\n(connect and one command)",
         lambda r: r["connect"]["wall"] + r["exec"]["wall"], None),
    )  # fmt: skip
    for axis, (title, value, phase) in zip(axes, panels, strict=True):
        for api, kind, through in series:
            own_rows = [
                r for r in rows if (r["api"], r["kind"], r["bastions"]) == (api, kind, through)
            ]
            label = f"{api}, {kind}, {through} bastion" + "s" * (through > 1)
            xs, ys = [r["targets"] for r in own_rows], [value(r) for r in own_rows]
            style = "--" if api == "multi" else "-"
            (drawn,) = axis.plot(xs, ys, marker="o", markersize=4, linestyle=style, label=label)
            if phase is not None:
                low, high = (
                    [r[phase][key] * 1000 for r in own_rows] for key in ("cpu_least", "cpu_most")
                )
                axis.vlines(xs, low, high, color=drawn.get_color(), linewidth=1)
        axis.set_xscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("targets")
        axis.grid(alpha=0.3)
        axis.set_ylim(bottom=0)
    axes[2].axhline(GOAL_KIB, color="grey", linestyle=":", label="goal")
    axes[2].legend(fontsize=7)
    figure.savefig(path, dpi=110, metadata={"Software": None})
