"""How many round trips the clients need, under real TCP; writes docs/latency.md.

Client, bastion and target stand in network namespaces, and every packet between them is held for
a while (`tests/support/delay.py`).  A row is done with two delays; the slope between the two times
is the number of round trips, whatever else takes time on this machine.  Root only.  Run it
through scripts/bench --latency, which prepares the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from benchmarks.bench import Worker  # noqa: E402
from tests.support.agent import SshAgent  # noqa: E402
from tests.support.delay import DelayedNetwork, nodelay_library  # noqa: E402
from tests.support.keys import Keys  # noqa: E402
from tests.support.netns import ADDRESSES, Place  # noqa: E402
from tests.support.sshd import Options, Sshd, openssh_version  # noqa: E402

ROWS = {
    "connect": "connect with a key",
    "connect_exec": "connect + first exec",
    "cold_jump": "bastion + target + exec, cold",
    "exec": "exec on an open connection",
    "exec_jump": "the same through a bastion",
    "sftp": "SFTP: open + stat",
    "sftp_spare": "the same on a spare channel",
    "put": "put of 1 KiB",
    "get": "get of 1 KiB",
    "put_tree": "put of 200 small files",
    "get_tree": "get of 200 small files",
    "agent": "login, two keys of the agent refused",
    "targets20": "20 targets, cold",
}
CLIENTS = {
    "hussh": "latency_hussh",
    "asyncssh": "latency_asyncssh",
    "paramiko": "latency_paramiko",
    "OpenSSH": "latency_openssh",
}
#: Round-trip times in seconds of each cable.
DELAYS = (0.05, 0.2)
#: Rows in which some clients need hundreds of round trips are done once.
LONG = ("put_tree", "get_tree")
KINDS = ("plain", "nodelay")

Trips = dict[str, dict[str, float]]


def measure(folder: Path, kind: str, names: list[str], rows: list[str], repetitions: int) -> Trips:
    """Client -> row -> round trips, at one kind of sshd."""
    folder.mkdir()
    (keys_folder := folder / "keys").mkdir()
    keys = Keys(keys_folder)
    key = keys.get(name="bench")
    library = nodelay_library(folder) if kind == "nodelay" else None
    options: Options = {"LogLevel": "INFO", "MaxSessions": 200, "MaxStartups": "300:30:300"}
    bed = {**_files(folder), "key": str(key.path)}
    servers: dict[Place, Sshd] = {}
    workers: dict[str, Worker] = {}
    with DelayedNetwork() as network, SshAgent(folder) as agent:
        for name in ("one", "two"):
            agent.add(keys.get(name=name))
        agent.add(key)
        bed["agent"] = str(agent.socket)
        try:
            places: tuple[Place, ...] = ("bastion", "target")
            for place in places:
                server = Sshd(
                    folder / place, keys, name=place, address=ADDRESSES[place], port=2222,
                    options=options, library=library,
                )  # fmt: skip
                server.authorize(server.alice, key)
                servers[place] = server
                bed[place] = [server.host, server.port]
                with network.enter(place):
                    server.start()
            bed["user"] = servers["bastion"].alice.name
            known = Path(bed["home"], ".ssh/known_hosts")
            known.write_text("".join(server.known_hosts_line() for server in servers.values()))
            bed["known_hosts"] = str(known)
            _serve_files(servers["bastion"], bed)
            for name in names:
                with network.enter("client"):
                    workers[name] = Worker(name, sys.executable, CLIENTS[name], bed)
            best = _times(network, workers, rows, repetitions)
        finally:
            for worker in workers.values():
                worker.process.kill()
                worker.process.wait()
            for server in servers.values():
                server.stop()
    low, high = DELAYS
    return {
        name: {
            row: (best[name, row, high] - best[name, row, low]) / (high - low) / 1000
            for row in rows
            if (name, row, high) in best
        }
        for name in names
    }


def _times(
    network: DelayedNetwork, workers: dict[str, Worker], rows: list[str], repetitions: int
) -> dict[tuple[str, str, float], float]:
    """The best time in ms by client, row and delay."""
    best: dict[tuple[str, str, float], float] = {}
    for delay in DELAYS:
        network.set_round_trip(delay)
        for row in rows:
            for name, worker in workers.items():
                if row not in worker.rows:
                    continue
                times = [worker.ask({"row": row})["ms"]
                         for _ in range(1 if row in LONG else repetitions)]  # fmt: skip
                best[name, row, delay] = min(times)
            print(f"  {delay * 1000:.0f} ms {row}", file=sys.stderr, flush=True)
    return best


def _files(folder: Path) -> dict[str, Any]:
    """What the rows read and where they write."""
    for name in ("home/.ssh", "local", "tree"):
        (folder / name).mkdir(parents=True)
    (folder / "small").write_bytes(bytes(1024))
    for number in range(200):
        (folder / "tree" / f"file{number:03}").write_bytes(bytes(1000))
    return {
        "home": str(folder / "home"), "local": str(folder / "local"),
        "small": str(folder / "small"), "tree": str(folder / "tree"),
    }  # fmt: skip


def _serve_files(server: Sshd, bed: dict[str, Any]) -> None:
    """Let the server have the same files, and the folders for those that clients send."""
    script = (
        "mkdir tree tree-openssh && head -c 1024 /dev/zero >small && "
        "for i in $(seq 100 299); do head -c 1000 /dev/zero >tree/file$i; done"
    )
    home = server.alice.home
    command = server.inside("su", server.alice.name, "-s", "/bin/sh", "-c", f"cd && {script}")
    subprocess.run(command, check=True)
    bed["remote_small"], bed["remote_tree"] = f"{home}/small", f"{home}/tree"


def report(found: dict[str, Trips], names: list[str], rows: list[str]) -> str:
    """The page."""
    version = ".".join(map(str, openssh_version()))
    low, high = (round(delay * 1000) for delay in DELAYS)
    lines = [
        "# Round trips",
        "",
        "Written by `scripts/bench --latency`; do not edit. How many round trips each client",
        f"needs: the slope between round-trip times of {low} and {high} ms. Client, bastion and",
        "target stand in network namespaces, and the packets between them are held under the",
        "kernel's own TCP, so that Nagle's algorithm and delayed acknowledgements count. The way",
        "from the client to the bastion and that from the bastion to the target take a round trip",
        "each: what goes through the bastion takes two.",
        "",
        f"The first number is of the sshd of OpenSSH {version}, which leaves Nagle's algorithm on.",
        "The second is of the same sshd with TCP_NODELAY set by a preloaded library, as sshd sets",
        "it by itself since 10.1; no package of that could be had.",
        "",
        "hussh does not guess the server's key exchange (RFC 4253 section 7). A guess is right",
        "only if both sides put the same key exchange and the same type of host key first. The",
        "sshd of Debian 12 (9.2) and of Debian 13 (10.0) put `rsa-sha2-512` first, which hussh",
        "does only where an RSA key is recorded; 9.2 puts sntrup761 first, too, and dropbear",
        "2022.83 curve25519. So no guess would be right at any of them as they are installed.",
        "",
        "| sshd as it is / with TCP_NODELAY | " + " | ".join(names) + " |",
        "|---|" + "---:|" * len(names),
    ]
    for row in rows:
        cells = []
        for name in names:
            numbers = [found[kind][name].get(row) for kind in KINDS if kind in found]
            shown = [f"{number:.1f}" for number in numbers if number is not None]
            cells.append(" / ".join(shown) or "–")
        lines.append(f"| {ROWS[row]} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "An exec is one of a connection that has run three before. For OpenSSH an open connection",
        "is a ControlMaster, and SFTP is sftp(1). paramiko copies a tree file by file.",
        "",
        f"CPython {platform.python_version()}, Linux {platform.release()}.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--output", type=Path, default=TOP / "docs/latency.md")
    parser.add_argument("--only", help="comma-separated clients")
    parser.add_argument("--rows", help=f"comma-separated, of {', '.join(ROWS)}")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of sshd, comma-separated")
    parser.add_argument("--json", type=Path, help="keep, and complete, what was measured here")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("bench: only root can make the networks")
    names = arguments.only.split(",") if arguments.only else list(CLIENTS)
    rows = arguments.rows.split(",") if arguments.rows else list(ROWS)
    found: dict[str, Trips] = {}
    if arguments.json and arguments.json.exists():
        found = json.loads(arguments.json.read_text())
    with tempfile.TemporaryDirectory(prefix="hb-") as folder:
        for kind in arguments.kinds.split(","):
            trips = measure(Path(folder, kind), kind, names, rows, arguments.repetitions)
            for name, numbers in trips.items():
                found.setdefault(kind, {}).setdefault(name, {}).update(numbers)
    if arguments.json:
        arguments.json.write_text(json.dumps(found))
    known = [name for name in CLIENTS if any(name in trips for trips in found.values())]
    text = report(found, known, list(ROWS))
    if arguments.only is None or arguments.json:
        arguments.output.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
