"""Threads and the interpreter's end: none begins in its last moment."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import pytest

from hussh._runtime import thread_start

TOP = Path(__file__).resolve().parents[2]


def test_the_exit_waits_for_threads_that_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that is being started has begun when the exit goes on; then none is started."""
    monkeypatch.setattr(thread_start, "_is_exiting", False)
    order: list[str] = []
    in_start, go_on = threading.Event(), threading.Event()

    class Slow(threading.Thread):
        def start(self) -> None:
            in_start.set()
            go_on.wait()
            super().start()
            order.append("begun")

    def nap(_: float) -> None:
        go_on.set()

    monkeypatch.setattr(thread_start, "sleep", nap)
    monkeypatch.setattr(thread_start, "LAST_MOMENT", 20.0)
    slow = Slow(target=int)
    starter = threading.Thread(target=thread_start.start_thread, args=(slow,))
    starter.start()
    in_start.wait()
    thread_start._end_at_exit()
    order.append("exit")
    starter.join()
    slow.join()
    assert order == ["begun", "exit"]
    with pytest.raises(RuntimeError, match="while the interpreter ends"):
        thread_start.start_thread(threading.Thread(target=int))


def test_all_threads_begin_there() -> None:
    """No module but `thread_start` starts a `threading.Thread` itself."""
    starters = []
    for path in (TOP / "hussh").rglob("*.py"):
        tree = ast.parse(path.read_text())
        makes = any(isinstance(node, ast.Attribute) and node.attr == "Thread"
                    and isinstance(node.value, ast.Name) and node.value.id == "threading"
                    for node in ast.walk(tree))  # fmt: skip
        imports = "start_thread" in path.read_text()
        if makes and not imports:
            starters.append(path.name)
    assert starters == []
