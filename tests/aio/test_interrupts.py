"""A signal handler that raises while the loop itself steps an operation: nothing gets lost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from types import FrameType
from typing import Any

import pytest

from hussh._runtime.asyncio_driver import AsyncioDriver
from tests.aio.conftest import Make
from tests.support.sshd import Sshd
from tests.timeouts.interrupted_everywhere import places

#: Whose steps may be interrupted while the loop makes a turn.
CODE = ("/hussh/_runtime/async_driver.py", "/hussh/_runtime/asyncio_driver.py",
        "/hussh/_runtime/driver.py", "/hussh/_runtime/lock.py",
        "/hussh/_native/link.py", "/hussh/_native/channel.py", "/hussh/_protocol/core.py",
        "/hussh/_protocol/execute.py", "/hussh/_protocol/channel.py")  # fmt: skip


class Alarm(Exception):
    """What the signal handlers of some applications raise."""


def _is_in_finalizer(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


class Interrupt:
    """Raises at the n-th place of a turn where a signal's handler could; `came`: it has."""

    def __init__(self, at: int, kind: type[BaseException]) -> None:
        self.at = at
        self.kind = kind
        self.came = False
        self._turn: FrameType | None = None

    def begun(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if self._turn is None and frame.f_code is AsyncioDriver._run_turn.__code__:
            self._turn = frame
        if self._turn is None or not frame.f_code.co_filename.endswith(CODE):
            return None
        if _is_in_finalizer(frame):
            return None  # what is raised there the interpreter reports, and nobody gets
        frame.f_trace_opcodes = True
        return self.step

    def step(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "return" and frame is self._turn:
            self._turn = None
        elif frame is self._turn and frame.f_lasti == min(places(frame.f_code)):
            pass  # before a turn begins it is lost as any callback of the loop's would be
        elif event == "opcode" and not self.came and frame.f_lasti in places(frame.f_code):
            self.at -= 1
            if not self.at:
                self.came = True
                raise self.kind
        return self.step


def outcome(
    loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any], interrupt: Interrupt
) -> list[Any]:
    """What the task ends with, and before it what has come out of the loop itself."""
    seen: list[Any] = []
    before = sys.gettrace()
    sys.settrace(interrupt.begun)
    try:
        for _ in range(3):
            try:
                loop.run_until_complete(asyncio.wait([task], timeout=20))
                break
            except interrupt.kind:
                seen.append(interrupt.kind)
    finally:
        sys.settrace(before)
    assert task.done(), "nobody wakes the task any more"
    error = task.exception()
    seen.append(task.result() if error is None else type(error))
    return seen


@pytest.mark.parametrize("kind", [KeyboardInterrupt, Alarm])
def test_interrupted_turns(kind: type[BaseException], target: Sshd, make: Make) -> None:
    """Wherever it comes, a command ends: with its result, or with the interrupt, which comes once.

    Where it interrupts the loop's own work it goes where exceptions of callbacks go.
    """
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    with contextlib.closing(loop):
        connection = make(target)
        loop.run_until_complete(connection.connect())
        at = 0
        came = True
        while came:
            at += 1
            interrupt = Interrupt(at, kind)
            task = loop.create_task(connection.execute("echo a"))
            seen = outcome(loop, task, interrupt)
            came = interrupt.came
            assert seen[:-1] in ([], [kind])
            assert seen[-1] is kind or seen[-1].stdout == "a\n"
        assert at > 20
        session: Any = connection._shared.session
        assert session.driver._waiters == {}
        loop.run_until_complete(connection.close())
        loop.run_until_complete(asyncio.sleep(0))
