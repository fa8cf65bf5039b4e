"""The client that connects to hostile servers, a program that runs in its own process.

`client_process.py` starts it and exchanges JSON lines with it. So a crash fails a test and does
not end pytest, and another build of hussh can be tested (PYTHONPATH).
Imports only hussh and the standard library; never looks at files of the user.
"""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import json
import sys
import time
from typing import Any

import hussh
from hussh._native.kex_work import load_mlkem

DEFAULTS: dict[str, Any] = {
    "host": "127.0.0.1",
    "username": "joe",
    "password": "secret",
    "known_hosts": [],
    "host_key_policy": "ignore",
    "agent": False,
}


class _MallInfo(ctypes.Structure):
    """glibc's `struct mallinfo2`; of interest are `uordblks` and `hblkhd`, bytes in use."""

    _fields_ = [(f"field{at}", ctypes.c_size_t) for at in range(10)]


def _memory() -> int:
    """Bytes that malloc has handed out."""
    ask = ctypes.CDLL(None).mallinfo2
    ask.restype = _MallInfo
    info = ask()
    return int(info.field4 + info.field7)


def _status(name: str) -> int:
    """A line of /proc/self/status, in KiB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


def attempt(task: dict[str, Any]) -> dict[str, Any]:
    """Connect and run the commands; return how that ended."""
    done: dict[str, Any] = {"error": None, "text": "", "where": "connect", "results": []}
    # In the order of travel; nothing else may hold them, or dropping them means nothing.
    connections: list[hussh.Connection] = []
    try:
        common = {**DEFAULTS, **task["connect"]}
        if task["bastion"]:
            connections.append(hussh.Connection(**{**common, "port": task["bastion"]}))
            common["proxy_jump"] = connections[0]
        connections.append(hussh.Connection(**common))
        del common
        done["where"] = "execute"
        for command in task["commands"]:
            result = connections[-1].execute(command, max_output=task["limit"])
            done["results"].append([result.stdout, result.stderr, result.status])
    except Exception as error:
        done["error"] = [kind.__name__ for kind in type(error).__mro__]
        done["text"] = str(error)
    while connections:
        if task["end"] == "close":
            connections[-1].close()
        del connections[0 if task["end"] == "in order" else -1]
        gc.collect()
    return done


def main() -> None:
    """Serve tasks from stdin until it ends."""
    faulthandler.enable()
    load_mlkem()  # whose import would count as the first task's memory
    for line in sys.stdin:
        task = json.loads(line)
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")  # VmHWM, the peak, starts anew
        gc.collect()
        before, held, start = _status("VmRSS"), _memory(), time.monotonic()
        for _ in range(task["times"]):
            done = attempt(task)
        done["seconds"] = time.monotonic() - start
        gc.collect()
        done["peak"] = max(0, _status("VmHWM") - before)
        done["kept"] = _memory() - held
        print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main()
