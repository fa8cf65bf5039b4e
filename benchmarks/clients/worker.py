"""The process around one client: runs a row when told, answers with what it cost.

Reads JSON lines {"row": name} or {"setup": {...}} from stdin and answers each
with one line.  Time is measured here, around the client's own call; CPU time is
this process's and its finished children's, so that clients which start
programs pay for them.  An order that names ports lasts until no connection to
one of them is open any more: some clients return before they have closed theirs.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ESTABLISHED = "01"
#: Seconds that a client may take to close what it has left open; one that does not do so at all
#: has done its row when it returns.
PATIENCE = 2.0


def cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def peak_mib() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(usage.ru_maxrss for usage in usages) / 1024


def memory_mib(field: str) -> float:
    """A field of /proc/self/status: VmRSS, or VmHWM, the most since `forget_peak`."""
    with open("/proc/self/status") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def are_open(ports: list[int]) -> bool:
    """Whether this process has a connection to one of these ports; others may have some, too."""
    wanted = {f"{port:04X}" for port in ports}
    with open("/proc/self/net/tcp") as file:
        lines = [line.split() for line in list(file)[1:]]
    sockets = {
        f"socket:[{line[9]}]"
        for line in lines
        if line[2].rpartition(":")[2] in wanted and line[3] == ESTABLISHED
    }
    return bool(sockets) and not sockets.isdisjoint(_own_files())


def _own_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # such as that of the list
            yield os.readlink(f"/proc/self/fd/{fd}")


def load(name: str) -> Any:
    path = Path(__file__).with_name(f"{name}.py")
    sys.path.insert(0, str(path.parent))  # one client may extend another
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Client


def main() -> None:
    client: Any = None
    for line in sys.stdin:
        order = json.loads(line)
        answer: dict[str, Any]
        if "setup" in order:
            client = load(sys.argv[1])(order["setup"])
            rows = [name for name in dir(client) if name.startswith("row_")]
            answer = {"rows": [name.removeprefix("row_") for name in rows]}
        elif "row" in order:
            prepared = getattr(client, f"before_{order['row']}", lambda: None)()
            given = () if prepared is None else (prepared,)
            forget_peak()
            before = memory_mib("VmRSS")
            cpu, start = cpu_seconds(), time.perf_counter()
            left = getattr(client, f"row_{order['row']}")(*given)
            elapsed, looking = time.perf_counter() - start, time.thread_time()
            closed = elapsed
            while "ports" in order and are_open(order["ports"]) and closed < elapsed + PATIENCE:
                time.sleep(0.002)
                closed = time.perf_counter() - start
            looking = time.thread_time() - looking
            if closed < elapsed + PATIENCE:
                elapsed = closed
            getattr(client, f"after_{order['row']}", lambda _: None)(left)
            del left
            gc.collect()  # so that the next client does not pay for what this one has left open
            answer = {
                "ms": elapsed * 1000,
                "cpu_ms": (cpu_seconds() - cpu - looking) * 1000,
                "grown_mib": memory_mib("VmHWM") - before,
            }
        else:
            client.end()
            answer = {"peak_mib": peak_mib()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
