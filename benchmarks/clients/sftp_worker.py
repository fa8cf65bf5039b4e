"""The process around one client of bench_sftp: makes a call when told, answers with what it cost.

Its argument is a module of this folder whose `Client(bed)` has the calls.  Reads
JSON lines [call, argument ...] from stdin, the first of them [bed], and answers
each with [seconds, CPU seconds, peak MiB].  A call may return the seconds
itself.  CPU time is this process's and its finished children's.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from worker import cpu_seconds, load, peak_mib


def main() -> None:
    client: Any = None
    for line in sys.stdin:
        call, *arguments = json.loads(line)
        cpu, start = cpu_seconds(), time.perf_counter()
        taken = None
        if client is None:
            client = load(sys.argv[1])(call)
        else:
            taken = getattr(client, call)(*arguments)
        seconds = taken or time.perf_counter() - start
        print(json.dumps([seconds, cpu_seconds() - cpu, peak_mib()]), flush=True)
    if hasattr(client, "end"):
        client.end()


if __name__ == "__main__":
    main()
