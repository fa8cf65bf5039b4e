"""Local forwards of hussh and its peers in one run, against a real sshd; writes a page in docs/.

Each client holds one forward open in a process of its own.  In turn, repetition by repetition,
the same connections go through each: one that downloads, one that uploads, a hundred at once, and
1 KiB there and back.  CPU seconds are those of the client's process alone, and, told apart, those
of sshd.  Run it through scripts/bench --tunnels.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from tests.support.keys import Keys  # noqa: E402
from tests.support.sshd import Sshd, openssh_version  # noqa: E402

CLIENTS = ("hussh", "hussh.aio", "OpenSSH", "asyncssh", "sshtunnel")
PART = bytes(1 << 18)
ROUNDS = 300


def serve(listener: socket.socket) -> None:
    """Do what the first byte of each connection asks for: d(ownload), u(pload) or e(cho)."""
    while True:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=answer, args=(sock,), daemon=True).start()


def answer(sock: socket.socket) -> None:
    """Serve one connection."""
    with sock, contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = sock.recv(9, socket.MSG_WAITALL)
        size = int.from_bytes(head[1:], "big")
        if head[:1] == b"d":
            while size > 0:
                size -= sock.send(PART[:size])
        elif head[:1] == b"u":
            buffer = bytearray(len(PART))
            while size > 0:
                size -= sock.recv_into(buffer)
            sock.sendall(b"k")
        else:
            while data := sock.recv(1 << 16):
                sock.sendall(data)


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, with all threads that it had."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid(3) makes it


def used(pids: set[int]) -> dict[int, float]:
    """Return what each of these processes has used so far, without those that have ended."""
    found = {}
    for pid in pids:
        with contextlib.suppress(OSError):
            found[pid] = cpu_seconds(pid)
    return found


def connect(port: int, order: bytes, size: int) -> socket.socket:
    """Begin one connection."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(order + size.to_bytes(8, "big"))
    return sock


def download(port: int, size: int) -> None:
    """Read so many bytes."""
    buffer = bytearray(len(PART))
    with connect(port, b"d", size) as sock:
        while size > 0:
            count = sock.recv_into(buffer)
            if not count:
                raise RuntimeError("the download ended early")
            size -= count


def upload(port: int, size: int) -> None:
    """Write so many bytes, and wait until they are there."""
    with connect(port, b"u", size) as sock:
        while size > 0:
            size -= sock.send(PART[:size])
        if sock.recv(1) != b"k":
            raise RuntimeError("the upload ended early")


def hundred(port: int, size: int) -> None:
    """Download by a hundred connections at once."""
    threads = [threading.Thread(target=download, args=(port, size // 100)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def echo(port: int, _: int) -> None:
    """Send 1 KiB and wait for it, again and again."""
    with connect(port, b"e", 0) as sock:
        for _ in range(ROUNDS):
            sock.sendall(PART[:1024])
            sock.recv(1024, socket.MSG_WAITALL)


ROWS = {
    "download": (download, "one connection, download"),
    "upload": (upload, "one connection, upload"),
    "hundred": (hundred, "100 connections at once, download"),
    "echo": (echo, "1 KiB there and back"),
}


@contextlib.contextmanager
def client(name: str, server: Sshd, target: int) -> Iterator[tuple[int, int]]:
    """Start a client; its pid and the port of its forward."""
    alice = server.alice
    if name == "OpenSSH":
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        command = [
            "ssh", "-F", "none", "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{target}",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "-i", str(alice.key.path),
            "-p", str(server.port), f"{alice.name}@{server.host}",
        ]  # fmt: skip
    else:
        port = 0
        command = [
            sys.executable, str(TOP / "benchmarks/clients/tunnels.py"), name, server.host,
            str(server.port), alice.name, str(alice.key.path), str(target),
        ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(TOP), "SSH_AUTH_SOCK": ""}
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        if not port and process.stdout is not None:
            port = int(process.stdout.readline())
        while True:  # until it listens
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            time.sleep(0.05)
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


#: Seconds, CPU seconds of the client, CPU seconds of sshd.
Sample = tuple[float, float, float]


def measure(repetitions: int, size: int) -> dict[str, dict[str, list[Sample]]]:
    """Return the samples of each client, row by row."""
    found: dict[str, dict[str, list[Sample]]] = {row: {} for row in ROWS}
    with (
        tempfile.TemporaryDirectory() as folder,
        Sshd(Path(folder) / "sshd", Keys(Path(folder))) as server,
        socket.create_server(("127.0.0.1", 0), backlog=256) as listener,
        contextlib.ExitStack() as running,
    ):
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        target = listener.getsockname()[1]
        clients = {name: running.enter_context(client(name, server, target)) for name in CLIENTS}
        servers = {process.pid for process in server.processes()}
        for number in range(repetitions):
            for row, (work, _) in ROWS.items():
                turn = list(clients.items())
                for name, (pid, port) in turn[number % 2 :] + turn[: number % 2]:
                    before, start = used({pid, *servers}), time.perf_counter()
                    work(port, size)
                    seconds = time.perf_counter() - start
                    after = used({pid, *servers})
                    spent = {one: after[one] - before[one] for one in after}
                    cpu, sshd = spent.pop(pid), sum(spent.values())
                    found[row].setdefault(name, []).append((seconds, cpu, sshd))
    return found


def ratio(mine: list[Sample], other: list[Sample], which: int) -> str:
    """Return the median of the quotients of samples that were taken one after the other."""
    pairs = zip(mine, other, strict=True)
    return f"{statistics.median(a[which] / b[which] for a, b in pairs):.2f}"


def report(found: dict[str, dict[str, list[Sample]]], size: int, count: int) -> str:
    """Return the page."""
    gigabytes = size / 1e9
    major, minor = openssh_version()
    told = (
        f"One run of `scripts/bench --tunnels`: {count} repetitions in turn, medians, sshd and all"
        f" clients on one machine ({os.cpu_count()} cores, load {os.getloadavg()[0]:.0f} at the"
        f" end, {platform.machine()}, OpenSSH {major}.{minor}, Python"
        f" {platform.python_version()}). CPU is the client's alone. Quotients are medians over"
        " pairs of measurements that were taken one after the other. sshd works on one core for"
        " each connection, and shares this machine's with the client: where its share is near"
        " 100 %, sshd is the limit."
    )
    head = ["# Tunnels, measured", "", told, ""]
    lines = [
        *head,
        "| | " + " | ".join(CLIENTS) + " |",
        "|---" * (len(CLIENTS) + 1) + "|",
    ]
    for row, (_, words) in ROWS.items():
        cells, cpus, shares, times, costs = [], [], [], [], []
        base = found[row]["OpenSSH"]
        for name in CLIENTS:
            samples = found[row][name]
            seconds = statistics.median(sample[0] for sample in samples)
            cpu = statistics.median(sample[1] for sample in samples)
            share = statistics.median(sample[2] / sample[0] for sample in samples)
            shares.append(f"{share * 100:.0f} %")
            times.append(ratio(samples, base, 0))
            costs.append(ratio(samples, base, 1))
            if row == "echo":
                cells.append(f"{seconds / ROUNDS * 1e6:.0f} µs")
                cpus.append(f"{cpu / ROUNDS * 1e6:.0f} µs")
            else:
                cells.append(f"{size / 1e6 / seconds:.0f} MB/s")
                cpus.append(f"{cpu / gigabytes:.2f} s/GB")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
        lines.append("| … CPU | " + " | ".join(cpus) + " |")
        lines.append("| … time ÷ that of OpenSSH | " + " | ".join(times) + " |")
        lines.append("| … CPU ÷ that of OpenSSH | " + " | ".join(costs) + " |")
        lines.append("| … sshd's share of a core | " + " | ".join(shares) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--output", type=Path, default=TOP / "docs/benchmarks-tunnels.md")
    given = parser.parse_args()
    size = given.megabytes * 1_000_000
    page = report(measure(given.repetitions, size), size, given.repetitions)
    given.output.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
