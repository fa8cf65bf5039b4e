"""SFTP throughput of hussh, asyncssh and OpenSSH's sftp in one run, against real sshds.

Each client copies one file up and down, straight and through a bastion, in turn,
repetition by repetition; what counts is the ratio of the medians.  hussh also
copies a directory of small files, at once and one by one.  Run it with a Python
that has hussh's dependencies and asyncssh:  python benchmarks/bench_sftp.py
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

WAYS = ("direct", "jump")
DIRECTIONS = ("up", "down")
Bed = dict[str, Any]


class Hussh:
    """Our own sync API."""

    def __init__(self, bed: Bed) -> None:
        from hussh import Connection

        def connect(name: str, **more: Any) -> Any:
            host, port = bed[name]
            return Connection(
                host, port, bed["user"], private_key=bed["key"], host_key_policy="ignore", **more
            )

        self.bastion = connect("bastion")
        self.to = {
            "direct": connect("target"),
            "jump": connect("target", proxy_jump=self.bastion),
        }

    def up(self, way: str, source: str, place: str) -> None:
        self.to[way].sftp_write(source, place)

    def down(self, way: str, source: str, place: str) -> None:
        self.to[way].sftp_read(source, place)

    def tree_up(self, way: str, source: str, place: str) -> None:
        assert not self.to[way].sftp_put_dir(source, place)[1]

    def tree_down(self, way: str, source: str, place: str) -> None:
        assert not self.to[way].sftp_get_dir(source, place)[1]

    def single_up(self, way: str, source: str, place: str) -> None:
        self.to[way].sftp.makedirs(place, exist_ok=True)
        for name in os.listdir(source):
            self.to[way].sftp_write(f"{source}/{name}", f"{place}/{name}")

    def single_down(self, way: str, source: str, place: str) -> None:
        os.makedirs(place, exist_ok=True)
        for name in self.to[way].sftp.listdir(source):
            self.to[way].sftp_read(f"{source}/{name}", f"{place}/{name}")


class Asyncssh:
    """asyncssh with its defaults."""

    def __init__(self, bed: Bed) -> None:
        import asyncssh

        self.loop = asyncio.new_event_loop()
        self.run = self.loop.run_until_complete

        async def connect(name: str, tunnel: Any = ()) -> Any:
            host, port = bed[name]
            return await asyncssh.connect(
                host, port, username=bed["user"], client_keys=[bed["key"]], known_hosts=None,
                config=None, tunnel=tunnel, agent_path=None,
            )  # fmt: skip

        bastion = self.run(connect("bastion"))
        self.to = {
            "direct": self.run(self.run(connect("target")).start_sftp_client()),
            "jump": self.run(self.run(connect("target", bastion)).start_sftp_client()),
        }

    def up(self, way: str, source: str, place: str) -> None:
        self.run(self.to[way].put(source, place))

    def down(self, way: str, source: str, place: str) -> None:
        self.run(self.to[way].get(source, place))


class OpenSSH:
    """sftp(1); what connecting costs is measured apart and taken off."""

    def __init__(self, bed: Bed) -> None:
        folder = tempfile.mkdtemp(prefix="bench-")
        text = (
            f"Host *\n User {bed['user']}\n IdentityFile {bed['key']}\n IdentitiesOnly yes\n"
            " StrictHostKeyChecking no\n UserKnownHostsFile /dev/null\n LogLevel ERROR\n"
        )
        for name, server, more in (
            ("bastion", "bastion", ""),
            ("direct", "target", ""),
            ("jump", "target", f" ProxyCommand ssh -F {folder}/config -W %h:%p bastion\n"),
        ):
            host, port = bed[server]
            text += f"Host {name}\n HostName {host}\n Port {port}\n{more}"
        Path(folder, "config").write_text(text)
        self.command = ["sftp", "-q", "-F", f"{folder}/config", "-b", "-"]
        self.connecting = {way: min(self.batch(way, "pwd") for _ in range(3)) for way in WAYS}

    def batch(self, way: str, line: str) -> float:
        start = time.perf_counter()
        subprocess.run(
            [*self.command, way], input=line + "\n", text=True, check=True, capture_output=True
        )
        return time.perf_counter() - start

    def up(self, way: str, source: str, place: str) -> float:
        return self.batch(way, f"put {source} {place}") - self.connecting[way]

    def down(self, way: str, source: str, place: str) -> float:
        return self.batch(way, f"get {source} {place}") - self.connecting[way]


CLIENTS: dict[str, type] = {"hussh": Hussh, "asyncssh": Asyncssh, "OpenSSH": OpenSSH}


def cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def work(name: str, bed: Bed) -> None:
    """The process of one client: does what the lines of stdin say."""
    client = CLIENTS[name](bed)
    print("ready", flush=True)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        call: Callable[..., float | None] = getattr(client, what)
        before, start = cpu(), time.perf_counter()
        taken = call(*arguments)
        seconds = taken or time.perf_counter() - start
        print(json.dumps([seconds, cpu() - before]), flush=True)


class Worker:
    def __init__(self, name: str, bed: Bed) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--worker", name, "--bed", json.dumps(bed)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.say(None)

    def say(self, order: list[str] | None) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if order is not None:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: a client died (see above)")
        return line

    def do(self, *order: str) -> tuple[float, float]:
        seconds, cpu_seconds = json.loads(self.say(list(order)))
        return seconds, cpu_seconds

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)


def compare(bed: Bed, names: list[str], size: int, repetitions: int, folder: Path) -> None:
    source = folder / "source"
    source.write_bytes(os.urandom(1 << 20) * (size >> 20))
    workers = {name: Worker(name, bed) for name in names}
    print(f"{size >> 20} MiB, median MB/s (client CPU s per GB)")
    for way in WAYS:
        for direction in DIRECTIONS:
            samples: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for turn in range(repetitions + 1):
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    ends = (
                        (str(source), "copy") if direction == "up" else ("copy", f"{source}.{name}")
                    )
                    sample = workers[name].do(direction, way, *ends)
                    if turn:  # the first is warm-up
                        samples[name].append(sample)
            rate, row = {}, []
            for name in names:
                seconds = statistics.median(sample[0] for sample in samples[name])
                used = statistics.median(sample[1] for sample in samples[name])
                rate[name] = size / 1e6 / seconds
                row.append(f"{name} {rate[name]:6.0f} ({used / size * 1e9:.2f})")
            best = max([rate[name] for name in names if name != "hussh"], default=0)
            ratio = f"  {rate['hussh'] / best:.2f} x the best peer" if best else ""
            print(f"  {way:6} {direction:4}  " + "  ".join(row) + ratio, flush=True)
    for worker in workers.values():
        worker.end()


def small_files(bed: Bed, count: int, folder: Path) -> None:
    source = folder / "small"
    source.mkdir()
    for number in range(count):
        (source / f"file-{number}").write_bytes(os.urandom(1024))
    worker = Worker("hussh", bed)
    print(f"{count} files of 1 KiB: microseconds a file (client CPU)")
    for way in WAYS:
        for direction in DIRECTIONS:
            row, taken = [], {}
            for kind in ("tree", "single"):
                ends = (str(source), f"{kind}-{way}") if direction == "up" else (
                    f"tree-{way}", f"{folder}/{kind}-{way}",
                )  # fmt: skip
                taken[kind], used = worker.do(f"{kind}_{direction}", way, *ends)
                row.append(f"{kind} {taken[kind] / count * 1e6:.0f} ({used / count * 1e6:.0f})")
            factor = taken["single"] / taken["tree"]
            print(f"  {way:6} {direction:4}  " + "  ".join(row) + f"  {factor:.1f} x", flush=True)
    worker.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--files", type=int, default=10_000, help="0: leave that out")
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--bed", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, json.loads(given.bed))
        return
    from tests.support.keys import Keys
    from tests.support.sshd import Sshd

    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "keys").mkdir()
        keys = Keys(folder / "keys")
        with (
            Sshd(folder / "b", keys, name="bastion") as bastion,
            Sshd(folder / "t", keys, name="target") as target,
        ):
            bed = {
                "bastion": (bastion.host, bastion.port),
                "target": (target.host, target.port),
                "user": target.alice.name,
                "key": str(target.alice.key.path),
            }
            clients = given.clients.split(",")
            compare(bed, clients, given.size << 20, given.repetitions, folder)
            if given.files:
                small_files(bed, given.files, folder)


if __name__ == "__main__":
    main()
