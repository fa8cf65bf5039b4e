"""A program that interrupts a command at every step of our own code: run by ``test_signals.py``.

Between which steps a signal's handler runs is the interpreter's choice; no storm of signals meets
every case. So a trace function raises KeyboardInterrupt at the n-th place where a handler could
have raised it: after a call, after a jump backwards, at the start of a function. Arguments: a JSON
object with the options of ``hussh.Connection``, every how many places to try one, and how many
other threads use the connection. It prints one line for each thing that went wrong.
"""

from __future__ import annotations

import dis
import faulthandler
import json
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import CodeType, FrameType
from typing import Any

from hussh import Connection

CODE = ("/hussh/_runtime/thread_driver.py", "/hussh/_runtime/driver.py", "/hussh/_runtime/lock.py",
        "/hussh/_protocol/execute.py", "/hussh/_protocol/channel.py",
        "/hussh/_native/link.py", "/hussh/_native/channel.py",
        "/hussh/_native/deferred_frees.py")  # fmt: skip
LIMIT = 10_000  # milliseconds for commands that should take a few


@cache
def places(code: CodeType) -> frozenset[int]:
    """Offsets of instructions before which the interpreter looks for signals."""
    found = set()
    name, begin = "RESUME", True
    for step in dis.get_instructions(code):
        if name.startswith(("CALL", "RESUME")) or begin:
            found.add(step.offset)
        if "JUMP" in step.opname and step.argval is not None and step.argval <= step.offset:
            found.add(step.argval)
        name, begin = step.opname, False
    return frozenset(found)


def is_ours(code: CodeType) -> bool:
    """Tell whether to interrupt there. A finalizer's exceptions would only be printed."""
    return code.co_filename.endswith(CODE) and code.co_name != "__del__"


class Injector:
    """Raises KeyboardInterrupt in this thread at one place, counted from 1."""

    def __init__(self, number: int, is_traced: Callable[[CodeType], bool] = is_ours) -> None:
        """Prepare; ``where`` is the place once it was reached."""
        self.left = number
        self.where = ""
        self._is_traced = is_traced

    def run(self, call: Callable[[], object]) -> bool:
        """Make the call; return whether the interrupt came out of it."""
        sys.settrace(self.enter)
        try:
            call()
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Trace what is to be traced, and nothing that it calls."""
        if not self._is_traced(frame.f_code):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return self.step

    def step(self, frame: FrameType, event: str, argument: Any) -> Any:
        """Count the places."""
        if event == "opcode" and frame.f_lasti in places(frame.f_code):
            self.left -= 1
            if not self.left:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                raise KeyboardInterrupt
        return self.step


class Neighbour:
    """A thread that runs commands on the same connection until told to stop."""

    def __init__(self, connection: Connection) -> None:
        """Start."""
        self.connection = connection
        self.turns = threading.Semaphore(0)
        self.wrong: list[str] = []
        self.stopping = False
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        text = "y" * 3000
        while not self.stopping:
            try:
                result = self.connection.execute("echo x; cat", LIMIT, input=text)
                if result.stdout != f"x\n{text}":
                    self.wrong.append(repr(result))
            except BaseException as error:
                self.wrong.append(repr(error))
            self.turns.release()


def main(options: dict[str, Any], stride: int, threads: int) -> None:
    """Interrupt one command after the other, each at another place."""
    connection = Connection(**options)
    neighbours = [Neighbour(connection) for _ in range(threads)]
    number, hits = 1, 0
    while True:
        injector = Injector(number)
        try:
            is_out = injector.run(lambda: connection.execute("echo a", LIMIT))
            outcome = "" if is_out else "no interrupt"
        except BaseException as error:
            outcome = repr(error)
        if not injector.where:
            break
        hits += 1
        if outcome:
            print(f"place {number}, {injector.where}: {outcome}")
        for neighbour in neighbours:
            while neighbour.turns.acquire(blocking=False):
                pass
            if not neighbour.turns.acquire(timeout=2 * LIMIT / 1000):
                print(f"place {number}, {injector.where}: another thread is stuck")
            if neighbour.wrong:
                print(f"place {number}, {injector.where}: {neighbour.wrong.pop()}")
        try:
            after = connection.execute("echo b", LIMIT).stdout
        except Exception as error:
            after = repr(error)
        if after != "b\n":
            print(f"place {number}, {injector.where}: afterwards {after}")
        number += stride
    for neighbour in neighbours:
        neighbour.stopping = True
        neighbour.thread.join()
    connection.close()
    print(f"hits {hits}")


if __name__ == "__main__":
    faulthandler.dump_traceback_later(280, exit=True)
    main(json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
