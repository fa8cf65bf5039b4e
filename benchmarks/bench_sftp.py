"""SFTP throughput of hussh and its peers in one run, against real sshds; writes a page in docs/.

Each client copies one file up and down, straight and through a bastion, in turn,
repetition by repetition; what counts is the ratio of the medians.  Every copy is
compared with its source.  The slow ways go through relays that delay each
direction by 25 ms and limit nothing.  hussh also copies a directory of small
files, at once and one by one.  Run it through scripts/bench --sftp.
"""

from __future__ import annotations

import argparse
import contextlib
import filecmp
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from tests.support.keys import Keys  # noqa: E402
from tests.support.relay import Relay  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

OURS = "hussh"
OURS_ASYNC = "hussh.aio"
WAYS = {
    "direct": "direct",
    "jump": "through a bastion",
    "equal": "direct, all with AES-GCM",
    "equal_jump": "through a bastion, all with AES-GCM",
    "slow": "direct, 50 ms",
    "slow_jump": "through a bastion, 50 ms per hop",
}
DIRECTIONS = {"up": "upload", "down": "download"}
RTT = 0.05
#: On the slow ways beside us; what the others do there would take minutes.
ON_SLOW_WAYS = ("OpenSSH",)
#: These copy a part of the file, or one row would take a minute.
PART = {"paramiko": 4, "hussh 0.3.3": 16}
#: Seconds that one client may spend on one row before it is left out of the next repetition.
PATIENCE = {"direct": 6.0, "jump": 6.0, "equal": 6.0, "equal_jump": 6.0}
PATIENCE |= {"slow": 9.0, "slow_jump": 9.0}
FAST = ("direct", "jump", "equal", "equal_jump")
#: Ways to servers that take this cipher only, so that no client's own choice counts.
EQUAL = ("equal", "equal_jump")
CIPHER = "aes256-gcm@openssh.com"
ONE_BY_ONE = 1000

Sample = tuple[float, float]  # seconds and CPU seconds


@dataclass
class Client:
    """One client in a process of its own."""

    name: str
    python: str
    module: str
    tree: Path | None = None  # the checkout that `hussh` is imported from
    process: subprocess.Popen[str] = field(init=False)
    peak_mib: float = 0.0

    def start(self, bed: dict[str, Any]) -> None:
        environment = {**os.environ, "HOME": bed["home"]}
        environment.pop("PYTHONPATH", None)
        if self.tree is not None:
            environment["PYTHONPATH"] = str(self.tree)
        self.process = subprocess.Popen(
            [self.python, str(TOP / "benchmarks/clients/sftp_worker.py"), self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=bed["home"],
        )
        self.do(bed)

    def do(self, *order: Any) -> Sample:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: the client {self.name} died (see above)")
        seconds, cpu, self.peak_mib = json.loads(line)
        return seconds, cpu

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


@dataclass
class Bench:
    """Servers, files, clients, and what was measured: samples by way, direction and client."""

    folder: Path
    homes: dict[str, Path]  # of the account at the target of each way
    clients: list[Client]
    size: int
    repetitions: int
    samples: dict[tuple[str, str], dict[str, list[Sample]]] = field(default_factory=dict)
    small: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)

    def size_of(self, client: Client) -> int:
        return self.size // PART.get(client.name, 1)

    def source_of(self, client: Client) -> Path:
        source = self.folder / f"source-{self.size_of(client)}"
        if not source.exists():
            with source.open("wb") as file:
                block = os.urandom(1 << 20)
                for number in range(self.size_of(client) >> 20):
                    file.write(number.to_bytes(8, "big") + block[8:])
        return source

    def copy(self, client: Client, way: str, direction: str) -> Sample:
        """One transfer, compared with its source."""
        source = self.source_of(client)
        remote = self.homes[way] / f"copy {client.name}".replace(" ", "-")
        if direction == "up":
            sample = client.do("up", way, str(source), remote.name)
            result = remote
        else:
            result = self.folder / f"got-{client.name}".replace(" ", "-")
            sample = client.do("down", way, remote.name, str(result))
        if not filecmp.cmp(source, result, shallow=False):
            raise SystemExit(f"bench: {client.name} did not copy the file as it is")
        filecmp.clear_cache()
        return sample

    def row(self, way: str, direction: str) -> None:
        clients = [c for c in self.clients if way in FAST or c.name in (OURS, *ON_SLOW_WAYS)]
        found: dict[str, list[Sample]] = {client.name: [] for client in clients}
        spent = dict.fromkeys(found, 0.0)
        self.samples[way, direction] = found
        for turn in range(self.repetitions + 1):
            first = turn % len(clients)
            for client in clients[first:] + clients[:first]:
                if spent[client.name] > PATIENCE[way]:
                    continue
                sample = self.copy(client, way, direction)
                spent[client.name] += sample[0]
                # The first is warm-up, unless there will be no other.
                if turn or spent[client.name] > PATIENCE[way]:
                    found[client.name].append(sample)
        cells = ", ".join(f"{name} {self.rate(way, direction, name):.0f}" for name in found)
        print(f"  {way} {direction}: {cells}", file=sys.stderr, flush=True)

    def measure(self, ways: list[str]) -> None:
        for way in ways:
            for client in self.clients:
                if way in FAST or client.name in (OURS, *ON_SLOW_WAYS):
                    client.do("connect", way)
            for direction in DIRECTIONS:
                self.row(way, direction)

    def small_files(self, count: int) -> None:
        """Seconds per file: a directory of them at once, and some of them one by one."""
        ours = self.clients[0]
        for kind, number in (("tree", count), ("single", min(count, ONE_BY_ONE))):
            (self.folder / kind).mkdir()
            for index in range(number):
                (self.folder / kind / f"file-{index}").write_bytes(os.urandom(1024))
            for way in ("direct", "jump"):
                ends = {
                    "up": (str(self.folder / kind), f"{kind}-{way}"),
                    "down": (f"{kind}-{way}", str(self.folder / f"{kind}-{way}")),
                }
                for direction in DIRECTIONS:
                    seconds, _ = ours.do(f"{kind}_{direction}", way, *ends[direction])
                    self.small.setdefault((way, direction), {})[kind] = seconds / number
                same = filecmp.dircmp(self.folder / kind, self.folder / f"{kind}-{way}")
                if same.left_only or same.diff_files or same.funny_files:
                    raise SystemExit("bench: a small file is not what it was")

    def rate(self, way: str, direction: str, name: str) -> float:
        """MB/s."""
        (client,) = (each for each in self.clients if each.name == name)
        samples = self.samples[way, direction][name]
        return self.size_of(client) / 1e6 / statistics.median(sample[0] for sample in samples)

    def cpu(self, way: str, direction: str, name: str) -> float:
        """CPU seconds of the client per GB."""
        (client,) = (each for each in self.clients if each.name == name)
        samples = self.samples[way, direction][name]
        return statistics.median(sample[1] for sample in samples) / self.size_of(client) * 1e9

    # -- the page

    def table(self, value: Any, digits: int) -> list[str]:
        names = [client.name for client in self.clients]
        lines = ["| | " + " | ".join(names) + " |", "|---|" + "---:|" * len(names)]
        for (way, direction), samples in self.samples.items():
            cells = []
            for name in names:
                text = f"{value(way, direction, name):.{digits}f}" if samples.get(name) else "–"
                cells.append(f"**{text}**" if name == OURS else text)
            lines.append(f"| {DIRECTIONS[direction]} {WAYS[way]} | " + " | ".join(cells) + " |")
        return lines

    def goals(self) -> list[str]:
        lines = ["| our rate as a multiple | measured | goal |", "|---|---:|---:|"]
        for (way, direction), samples in self.samples.items():
            title = f"{DIRECTIONS[direction]} {WAYS[way]}"
            ours = [name for name in (OURS, OURS_ASYNC) if name in samples]
            peers = [name for name in samples if name not in ours and "also" not in name]
            if way in FAST and peers:
                best = max(peers, key=lambda name: self.rate(way, direction, name))
                for name in ours:
                    ratio = self.rate(way, direction, name) / self.rate(way, direction, best)
                    goal = {"direct": "≥ 1.3", "jump": "≥ 1.6"}.get(way, "> 1")
                    goal = goal if name == OURS else "> 1"
                    lines.append(
                        f"| {name}: {title}, of {best}'s, the best peer | {ratio:.2f} | {goal} |"
                    )
            elif "OpenSSH" in peers:
                ratio = self.rate(way, direction, OURS) / self.rate(way, direction, "OpenSSH")
                lines.append(f"| {title}, of OpenSSH's | {ratio:.2f} | ≥ 0.9 |")
        for (way, direction), times in self.small.items():
            ratio = times["single"] / times["tree"]
            title = f"small files, {DIRECTIONS[direction]} {WAYS[way]}, of one by one"
            lines.append(f"| {title} | {ratio:.1f} | ≥ 5 |")
        return lines

    def page(self, count: int) -> str:
        version = ".".join(map(str, openssh_version()))
        parts = [f"{name} {(self.size // part) >> 20} MiB" for name, part in PART.items()]
        lines = [
            "# Figures for SFTP",
            "",
            "Written by `scripts/bench --sftp`; do not edit. Real sshds on loopback, one process",
            f"for each client, {self.repetitions} repetitions in turns after one warm-up (fewer",
            f"where one takes long). Each copies a file of {self.size >> 20} MiB ("
            + ", ".join(parts)
            + "),",
            "and every copy is compared with its source. 50 ms: relays delay each direction by",
            "25 ms and limit nothing. Absolute rates belong to the machine, ratios to the clients.",
            "",
            f"CPython {platform.python_version()}, OpenSSH {version}, {os.cpu_count()} cores.",
            "",
            "## MB/s (medians)",
            "",
            *self.table(self.rate, 0),
            "",
            "Client and servers share the cores, so what a client's cipher costs the server",
            "counts: hussh prefers AES-GCM where the processor has instructions for it, others",
            f"ChaCha20-Poly1305. In the rows with AES-GCM the servers take {CIPHER} only.",
            "",
            "## CPU seconds of the client per GB",
            "",
            *self.table(self.cpu, 2),
            "",
            "## Goals",
            "",
            *self.goals(),
            "",
        ]
        if self.small:
            single = min(count, ONE_BY_ONE)
            lines += [f"Small files: {count} of 1 KiB at once, {single} one by one.", ""]
        lines += ["## Peak memory of the client process", ""]
        lines += ["| " + " | ".join(client.name for client in self.clients) + " |"]
        lines += ["|" + "---:|" * len(self.clients)]
        lines += ["| " + " | ".join(f"{c.peak_mib:.0f} MiB" for c in self.clients) + " |", ""]
        return "\n".join(lines)


def clients_of(given: argparse.Namespace) -> list[Client]:
    found = [
        Client(OURS, sys.executable, "sftp_hussh", TOP),
        Client(OURS_ASYNC, sys.executable, "sftp_hussh_aio", TOP),
    ]
    if given.also:
        also = Path(given.also).resolve()
        found.append(Client(f"also {also.name}", sys.executable, "sftp_hussh", also))
    if given.python_033:
        found.append(Client("hussh 0.3.3", given.python_033, "sftp_hussh"))
    for name in ("asyncssh", "paramiko", "OpenSSH"):
        found.append(Client(name, sys.executable, f"sftp_{name.lower()}"))
    if given.only:
        kept = [OURS, OURS_ASYNC, *given.only.split(",")]
        found = [client for client in found if client.name in kept]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--repetitions", type=int, default=4)
    parser.add_argument("--files", type=int, default=10_000, help="small ones; 0: leave that out")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--output", type=Path, default=TOP / "docs/benchmarks-sftp.md")
    parser.add_argument("--python-033", help="an interpreter that has hussh 0.3.3")
    parser.add_argument("--only", help="comma-separated peers")
    parser.add_argument("--also", help="another checkout of hussh, built, to compare with")
    given = parser.parse_args()
    started = time.monotonic()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hussh-bench-")))
        folder.chmod(0o755)
        (folder / "keys").mkdir()
        keys = Keys(folder / "keys")
        bastion, target = (
            stack.enter_context(Sshd(folder / name, keys, name=name, options={"LogLevel": "INFO"}))
            for name in ("bastion", "target")
        )
        ends = {"bastion": [bastion.host, bastion.port], "target": [target.host, target.port]}
        equal = [
            stack.enter_context(
                Sshd(
                    folder / f"equal-{name}", keys, name=name,
                    options={"LogLevel": "INFO", "Ciphers": CIPHER},
                )
            )
            for name in ("bastion", "target")
        ]  # fmt: skip
        for server in equal:
            ends[f"equal {server.name}"] = [server.host, server.port]
        for name in ("bastion", "target"):
            relay = stack.enter_context(Relay(*ends[name], rtt=RTT))
            ends[f"slow {name}"] = [relay.host, relay.port]
        home = folder / "home"
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        known = home / ".ssh/known_hosts"
        known.write_text(
            "".join(
                server.known_hosts_line(*end)
                for server in (bastion, target)
                for end in (ends[server.name], ends[f"slow {server.name}"])
            )
            + "".join(server.known_hosts_line() for server in equal)
        )
        bed = {
            "user": target.alice.name,
            "key": str(target.alice.key.path),
            "known_hosts": str(known),
            "home": str(home),
            "ways": {
                "direct": [ends["target"]],
                "jump": [ends["bastion"], ends["target"]],
                "equal": [ends["equal target"]],
                "equal_jump": [ends["equal bastion"], ends["equal target"]],
                "slow": [ends["slow target"]],
                "slow_jump": [ends["slow bastion"], ends["slow target"]],
            },
        }
        size = given.size << 20
        homes = {way: (equal[1] if way in EQUAL else target).alice.files for way in WAYS}
        bench = Bench(folder, homes, clients_of(given), size, given.repetitions)
        for client in bench.clients:
            client.start(bed)
        bench.measure(given.ways.split(","))
        if given.files:
            bench.small_files(given.files)
        for client in bench.clients:
            client.end()
    given.output.write_text(bench.page(given.files))
    print(given.output.read_text())
    print(f"took {time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
