"""Start each server of the zoo, try every check on it, and write docs/servers.md.

`scripts/zoo` runs it. Status 1 where a check failed that should have worked, or worked although the
server's module calls it a fault.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from .checks import all_checks
from .peer import NotHere, Peer
from .report import ABSENT, FAILED, FAULT, NONE, WORKS, Cell, page
from .servers.catalogue import SERVERS
from .servers.machine import OpenSSH
from .servers.server import Server

#: Seconds after which a check is called hung; every call of it has 30 s.
PATIENCE = 90.0


def main() -> int:
    """Run the zoo; return the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/zoo", description=__doc__.split("\n")[0])
    parser.add_argument("--only", metavar="SERVER,…", help="these servers; writes no page")
    parser.add_argument("--checks", metavar="WORD,…", help="checks whose title has one of these")
    parser.add_argument("--output", type=Path, default=Path("docs/servers.md"))
    given = parser.parse_args()
    checks = {
        title: check
        for title, check in all_checks().items()
        if not given.checks or any(word in title for word in given.checks.split(","))
    }
    wanted = [word.lower() for word in given.only.split(",")] if given.only else [""]
    servers = [one for one in SERVERS if any(word in one.name.lower() for word in wanted)]
    versions: dict[str, str] = {}
    cells: dict[tuple[str, str], Cell] = {}
    right = True
    with ExitStack() as stack:
        target = _start(stack, OpenSSH())
        for server in servers:
            versions[server.name], found = _try(server, checks, target)
            for title, cell in found.items():
                cells[server.name, title] = cell
                print(f"{server.name:18}{title:30}{cell.word:9}{cell.why[:160]}", flush=True)
                right = right and cell.word != FAILED
    if not (given.only or given.checks):
        given.output.write_text(page(versions, list(checks), cells))
    return 0 if right else 1


def _start(stack: ExitStack, server: Server) -> Peer | None:
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zoo-"))
    os.chmod(folder, 0o755)
    try:
        return stack.enter_context(server.run(Path(folder)))
    except NotHere as missing:
        print(f"{server.name}: not here: {missing}", flush=True)
        return None


def _try(
    server: Server, checks: dict[str, Callable[[Peer], None]], target: Peer | None
) -> tuple[str, dict[str, Cell]]:
    found: dict[str, Cell] = {}
    with ExitStack() as stack:
        peer = _start(stack, server)
        if peer is None:
            return "not here", {title: Cell(ABSENT) for title in checks}
        peer = peer.with_target(target)
        for title, check in checks.items():
            if title in server.none:
                found[title] = Cell(NONE, server.none[title])
                continue
            error = _run(check, peer)
            fault = server.faults.get(title)
            if fault is None:
                found[title] = Cell(FAILED, error) if error else Cell(WORKS)
            elif error:
                found[title] = Cell(FAULT, fault)
            else:
                found[title] = Cell(FAILED, f"works now, but is called a fault: {fault}")
    return peer.version, found


def _run(check: Callable[[Peer], None], peer: Peer) -> str:
    """Return why a check failed, or nothing."""
    errors: list[str] = []

    def call() -> None:
        try:
            check(peer)
        except Exception as error:
            if "-v" in os.environ.get("ZOO_FLAGS", ""):
                traceback.print_exc()
            errors.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if thread.is_alive():
        return f"still running after {PATIENCE:.0f} s"
    return errors[0] if errors else ""


if __name__ == "__main__":
    sys.exit(main())
