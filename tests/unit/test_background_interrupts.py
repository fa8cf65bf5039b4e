"""A Ctrl-C at any place of `_runtime/background.py` costs one operation at most, and loses none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from hussh._protocol.core import Checkpoint, Op, RunBlocking, WaitFor
from hussh._runtime import background
from hussh._runtime.background import Background
from tests.timeouts.interrupted_everywhere import Injector

TOKEN = 7


def is_traced(code: CodeType) -> bool:
    """Tell whether code is the module's, and of nothing that it calls."""
    return code.co_filename == background.__file__


class CallAtOnce:
    """A worker's call that is made where it is started."""

    def __init__(self, make: Callable[[], Any], tell: Callable[[], object], **_: Any) -> None:
        self._make, self._tell = make, tell

    def start(self) -> None:
        """Make it."""
        self._tell()

    def get_outcome(self) -> Any:
        """Return its result."""
        return self._make()

    def abandon(self) -> None:
        """Nobody wants it."""


class Scene:
    """Operations that wait, call and check in, and what became of each."""

    def __init__(self) -> None:
        self.loop = Background(lambda: None)
        self.is_done = False
        self.ends: dict[int, str] = {}
        for number in range(3):
            self.loop.start(self._work(number))

    def _work(self, number: int) -> Op[None]:
        of: Any = SimpleNamespace(token=TOKEN)
        try:
            yield Checkpoint()
            answer = yield RunBlocking(lambda _: number + 100)
            assert answer == number + 100, "resumed with what it did not ask for"
            while not self.is_done:
                yield WaitFor(of)
            answer = yield RunBlocking(lambda _: number + 200)
            assert answer == number + 200
            self.ends[number] = "well"
        except KeyboardInterrupt:
            self.ends[number] = "interrupted"
            raise

    def run(self) -> None:
        """Let them work to their end."""
        self.loop.step()
        self.is_done = True
        self.loop.wake(TOKEN)
        self.loop.step()


def interrupted_runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Scene]]:
    """Run the scene once for each place; each time, go on after the interrupt as a driver does."""
    monkeypatch.setattr(background, "Call", CallAtOnce)
    number = 0
    while True:
        number += 1
        scene, injector = Scene(), Injector(number, is_traced)
        injector.run(scene.run)
        if not injector.where:
            return
        scene.is_done = True
        scene.loop.wake_all()
        scene.loop.step()
        yield injector.where, scene


def test_interrupt_anywhere(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Whatever step of the module an interrupt meets, the other operations come to their end."""
    seen = 0
    for where, scene in interrupted_runs(monkeypatch):
        seen += 1
        assert not scene.loop, f"{where}: something waits for ever"
        assert list(scene.ends.values()).count("well") >= 2, where
    assert seen > 50
    assert not caplog.records, "no operation was resumed with another one's answer"


def test_what_never_ran_is_undone() -> None:
    """An operation that ends before its first step leaves nothing open, however it is ended."""
    loop = Background(lambda: None)
    undone: list[str] = []

    def work() -> Op[None]:
        try:
            yield Checkpoint()
        finally:
            undone.append("by itself")

    loop.cancel(loop.start(work(), lambda: undone.append("cancelled")))
    assert undone == ["cancelled"]
    loop.start(work(), lambda: loop.start(work(), lambda: undone.append("the next")))
    loop.close()
    assert (undone, bool(loop)) == (["cancelled", "the next"], False)
    begun = loop.start(work(), lambda: undone.append("wrong"))
    loop._advance(begun)
    loop.cancel(begun)
    assert undone == ["cancelled", "the next", "by itself"]
